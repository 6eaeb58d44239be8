"""What can be done with files, in several directories."""

import ctypes
import errno
import fcntl
import mmap
import os
import select
import struct
import tempfile

from registry import LIBC, probe, syscall

PLACES = {"root": "/", "tmp": "/tmp", "home": "/root", "shm": "/dev/shm"}
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
PUNCH_HOLE, KEEP_SIZE, COLLAPSE_RANGE, ZERO_RANGE = 2, 1, 8, 16
FS_IOC_GETFLAGS, FICLONE = 0x80086601, 0x40049409


def in_place(name):
    """Adds a probe for each place: the function gets a new directory in it."""

    def add(function):
        for place, path in PLACES.items():

            def there(path=path):
                with tempfile.TemporaryDirectory(dir=path) as directory:
                    return function(directory)

            probe(f"files.{name}.{place}")(there)
        return function

    return add


def file_in(directory, name="file", content=b"content"):
    path = os.path.join(directory, name)
    with open(path, "wb") as stream:
        stream.write(content)
    return path


@in_place("tmpfile")
def tmpfile(directory):
    descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR)
    os.write(descriptor, b"text")
    goal = os.path.join(directory, "linked")
    old = f"/proc/self/fd/{descriptor}".encode()
    syscall(265, -100, old, -100, goal.encode(), 0x400)  # linkat, AT_SYMLINK_FOLLOW
    os.close(descriptor)
    with open(goal, "rb") as stream:
        return stream.read() == b"text"


def xattr(name, value=b"value"):
    def of(directory):
        path = file_in(directory)
        os.setxattr(path, name, value)
        return os.getxattr(path, name) == value and name in os.listxattr(path)

    return of


# struct posix_acl_xattr_header and entries of include/uapi/linux/posix_acl_xattr.h: u::rw-,
# u:1000:r--, g::r--, m::r--, o::r--
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHi", *entry)
    for entry in ((1, 6, -1), (2, 4, 1000), (4, 4, -1), (16, 4, -1), (32, 4, -1))
)
in_place("xattr-user")(xattr("user.note"))
in_place("xattr-trusted")(xattr("trusted.note"))
in_place("xattr-security")(xattr("security.note"))
in_place("acl")(xattr("system.posix_acl_access", ACL))


def renaming(flags):
    def rename(directory):
        old, new = file_in(directory, "old"), file_in(directory, "new", b"other")
        if flags == RENAME_NOREPLACE:
            os.unlink(new)
        syscall(316, -100, old.encode(), -100, new.encode(), flags)

    return rename


in_place("rename-noreplace")(renaming(RENAME_NOREPLACE))
in_place("rename-exchange")(renaming(RENAME_EXCHANGE))
in_place("rename-whiteout")(renaming(RENAME_WHITEOUT))


def allocating(mode):
    def allocate(directory):
        with open(file_in(directory, content=bytes(65536)), "r+b") as stream:
            syscall(285, stream.fileno(), mode, 4096, 8192)

    return allocate


in_place("fallocate")(allocating(0))
in_place("fallocate-punch-hole")(allocating(PUNCH_HOLE | KEEP_SIZE))
in_place("fallocate-collapse-range")(allocating(COLLAPSE_RANGE))
in_place("fallocate-zero-range")(allocating(ZERO_RANGE))


@in_place("seek-hole")
def seek_hole(directory):
    with open(os.path.join(directory, "sparse"), "wb") as stream:
        stream.truncate(1 << 20)
        stream.seek((1 << 20) - 1)
        stream.write(b"x")
        stream.flush()
        return os.lseek(stream.fileno(), 0, os.SEEK_DATA) > 0


@in_place("copy-file-range")
def copy_file_range(directory):
    with open(file_in(directory), "rb") as old, open(os.path.join(directory, "b"), "wb") as new:
        return os.copy_file_range(old.fileno(), new.fileno(), 7) == 7


@in_place("clone")
def clone(directory):
    with open(file_in(directory), "rb") as old, open(os.path.join(directory, "b"), "wb") as new:
        fcntl.ioctl(new, FICLONE, old.fileno())


@in_place("attributes")
def attributes(directory):
    with open(file_in(directory), "rb") as stream:
        fcntl.ioctl(stream, FS_IOC_GETFLAGS, bytes(8))


@in_place("direct")
def direct(directory):
    os.close(os.open(file_in(directory), os.O_RDONLY | os.O_DIRECT))


@in_place("handle")
def handle(directory):
    # struct file_handle of include/linux/fs.h: handle_bytes, handle_type, then the handle
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    syscall(303, -100, file_in(directory).encode(), buffer, ctypes.byref(mount), 0)


@in_place("lease")
def lease(directory):
    with open(file_in(directory), "rb") as stream:
        fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_RDLCK)


@in_place("lock-ofd")
def lock_ofd(directory):
    with open(file_in(directory), "r+b") as stream:
        request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(stream, 37, request)  # F_OFD_SETLK


@in_place("flock")
def flock(directory):
    with open(file_in(directory), "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


@in_place("inotify")
def inotify(directory):
    watcher = LIBC.inotify_init()
    LIBC.inotify_add_watch(watcher, directory.encode(), 0x100)  # IN_CREATE
    file_in(directory)
    ready, _, _ = select.select([watcher], [], [], 5)
    os.close(watcher)
    return ready != []


@in_place("fanotify")
def fanotify(directory):
    watcher = syscall(300, 0, os.O_RDONLY)
    try:
        # FAN_MARK_ADD; FAN_OPEN | FAN_EVENT_ON_CHILD
        syscall(301, watcher, 1, 0x08000020, -100, directory.encode())
        file_in(directory)
        return select.select([watcher], [], [], 5)[0] != []
    finally:
        os.close(watcher)


@in_place("dnotify")
def dnotify(directory):
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_NOTIFY, fcntl.DN_CREATE)
    finally:
        os.close(descriptor)


@in_place("mmap-shared")
def mmap_shared(directory):
    path = file_in(directory, content=bytes(4096))
    with open(path, "r+b") as stream, mmap.mmap(stream.fileno(), 4096) as view:
        view[0:4] = b"text"
        view.flush()
    with open(path, "rb") as stream:
        return stream.read(4) == b"text"


@in_place("mmap-sync")
def mmap_sync(directory):
    with open(file_in(directory, content=bytes(4096)), "r+b") as stream:
        LIBC.mmap.restype = ctypes.c_long
        # MAP_SHARED_VALIDATE | MAP_SYNC
        if LIBC.mmap(None, 4096, 3, 0x80003, stream.fileno(), 0) == -1:
            raise OSError(ctypes.get_errno(), "")


@in_place("links")
def links(directory):
    path = file_in(directory)
    os.link(path, path + "2")
    os.symlink(path, path + "3")
    os.mkfifo(path + "4")
    return os.stat(path).st_nlink


@in_place("device")
def device(directory):
    path = os.path.join(directory, "null")
    os.mknod(path, 0o20666, os.makedev(1, 3))
    os.close(os.open(path, os.O_WRONLY))


@in_place("long-name")
def long_name(directory):
    file_in(directory, "x" * 255)
    try:
        file_in(directory, "x" * 256)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG


@in_place("times")
def times(directory):
    path = file_in(directory)
    os.utime(path, ns=(1_000_000_001, -1_000_000_001))
    return f"{os.stat(path).st_atime_ns} {os.stat(path).st_mtime_ns}"


@in_place("birth-time")
def birth_time(directory):
    buffer = ctypes.create_string_buffer(256)
    syscall(332, -100, file_in(directory).encode(), 0, 0xFFF, buffer)
    return struct.unpack_from("I", buffer)[0] & 0x800 != 0  # STATX_BTIME
