"""Memory: mappings, advice, memory files, what other processes may read of it."""

import ctypes
import mmap
import os
import select

from registry import LIBC, in_child, probe, syscall

PAGE = mmap.PAGESIZE
ADVICE = {
    "NORMAL": 0, "RANDOM": 1, "SEQUENTIAL": 2, "WILLNEED": 3, "DONTNEED": 4, "FREE": 8,
    "DONTFORK": 10, "DOFORK": 11, "MERGEABLE": 12, "HUGEPAGE": 14, "NOHUGEPAGE": 15,
    "DONTDUMP": 16, "DODUMP": 17, "WIPEONFORK": 18, "COLD": 20, "PAGEOUT": 21,
    "POPULATE_READ": 22, "POPULATE_WRITE": 23, "DONTNEED_LOCKED": 24, "COLLAPSE": 25,
}  # fmt: skip


def advising(value):
    def advise():
        with mmap.mmap(-1, 4 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as view:
            view[2 << 20] = 1  # in the part that is aligned to a huge page
            view.madvise(value)

    return advise


for advice_name, advice in ADVICE.items():
    probe(f"memory.advice-{advice_name.lower()}")(advising(advice))


def copying(number, writes):
    def copy_across():
        source = ctypes.create_string_buffer(b"text")
        copy = ctypes.create_string_buffer(5)
        pair = ctypes.c_ulong * 2
        from_, to = pair(ctypes.addressof(source), 5), pair(ctypes.addressof(copy), 5)
        local, remote = (from_, to) if writes else (to, from_)
        syscall(number, os.getpid(), local, 1, remote, 1, 0)
        return copy.value == b"text"

    return copy_across


probe("memory.process-vm-readv")(copying(310, False))
probe("memory.process-vm-writev")(copying(311, True))


def memory_file(flags):
    def make():
        descriptor = syscall(319, b"probe", flags)
        os.ftruncate(descriptor, 1 << 21)
        os.close(descriptor)

    return make


probe("memory.file")(memory_file(1))
probe("memory.file-sealing")(memory_file(2))
probe("memory.file-huge")(memory_file(4))
probe("memory.file-noexec-seal")(memory_file(8))


@probe("memory.secret-file")
def secret_file():
    descriptor = syscall(447, 0)
    os.ftruncate(descriptor, PAGE)
    with mmap.mmap(descriptor, PAGE) as view:
        view[0:4] = b"text"
        result = view[0:4] == b"text"
    os.close(descriptor)
    return result


@probe("memory.userfaultfd")
def userfaultfd():
    os.close(syscall(323, os.O_CLOEXEC | 1))


def mapping(flags):
    def map_it():
        LIBC.mmap.restype = ctypes.c_long
        LIBC.mmap.argtypes = None
        size = 1 << 21
        found = LIBC.mmap(None, ctypes.c_size_t(size), 3, 0x22 | flags, -1, ctypes.c_long(0))
        if found == -1:
            raise OSError(ctypes.get_errno(), "")
        LIBC.munmap(ctypes.c_void_p(found), ctypes.c_size_t(size))

    return map_it


probe("memory.map-huge")(mapping(0x40000))
probe("memory.map-locked")(mapping(0x2000))
probe("memory.map-populate")(mapping(0x8000))
probe("memory.map-growsdown")(mapping(0x0100))
probe("memory.map-32bit")(mapping(0x40))


@probe("memory.map-lowest")
def map_lowest():
    def lowest():
        os.setuid(1000)
        with open("/proc/sys/vm/mmap_min_addr") as stream:
            return int(stream.read())

    return in_child(lowest)


@probe("memory.protection-keys")
def protection_keys():
    syscall(331, syscall(330, 0, 0))


@probe("memory.huge-pages")
def huge_pages():
    root = "/sys/kernel/mm/transparent_hugepage"
    sizes = sorted(name for name in os.listdir(root) if name.startswith("hugepages-"))
    with open(f"{root}/enabled") as stream:
        return f"{stream.read().strip()} {' '.join(sizes)}"


@probe("memory.locked")
def locked():
    def lock():
        for flags in (1, 2, 4 | 1):
            syscall(151, flags)

    return in_child(lock)


@probe("memory.page-map")
def page_map():
    with open("/proc/self/pagemap", "rb") as stream:
        return len(stream.read(8)) == 8


@probe("memory.soft-dirty")
def soft_dirty():
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("4")


@probe("memory.smaps")
def smaps():
    names = set()
    with open("/proc/self/smaps") as stream:
        for line in stream:
            word = line.split()[0]
            if word.endswith(":") and word[0].isupper():
                names.add(word)
    return " ".join(sorted(names))


@probe("memory.random-addresses")
def random_addresses():
    with open("/proc/sys/kernel/randomize_va_space") as stream:
        return stream.read()


@probe("memory.dump")
def core_dump():
    import resource
    import signal
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        child = os.fork()
        if child == 0:
            os.chdir(directory)
            resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
            os.kill(os.getpid(), signal.SIGABRT)
            os._exit(0)
        _, result = os.waitpid(child, 0)
        return os.WCOREDUMP(result)


@probe("memory.io-uring")
def io_uring():
    parameters = ctypes.create_string_buffer(120)
    os.close(syscall(425, 4, parameters))


@probe("memory.aio")
def aio():
    context = ctypes.c_ulong()
    syscall(206, 4, ctypes.byref(context))
    syscall(207, context.value)


@probe("memory.event-files")
def event_files():
    made = [os.eventfd(0), LIBC.timerfd_create(1, 0), LIBC.epoll_create1(0), LIBC.inotify_init()]
    mask = ctypes.create_string_buffer(8)
    made.append(syscall(289, -1, mask, 8, 0))
    result = all(descriptor >= 0 for descriptor in made)
    select.epoll().close()
    for descriptor in made:
        os.close(descriptor)
    return result
