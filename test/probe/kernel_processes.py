"""Processes: namespaces, filters, scheduling, tracing, keys, messages between them, terminals."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
import termios

from registry import LIBC, in_child, probe, syscall

NAMESPACES = {
    "mount": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000, "time": 0x00000080,
}  # fmt: skip


def unsharing(flag):
    return lambda: in_child(lambda: syscall(272, flag) == 0)


def unsharing_as_user(flag):
    def unshare():
        os.setgid(1000)
        os.setuid(1000)
        return syscall(272, flag | NAMESPACES["user"]) == 0

    return lambda: in_child(unshare)


for namespace_name, namespace in NAMESPACES.items():
    probe(f"namespaces.{namespace_name}")(unsharing(namespace))
    probe(f"namespaces.{namespace_name}-of-user")(unsharing_as_user(namespace))

# include/uapi/linux/prctl.h: number and arguments that change nothing or little
OPTIONS = {
    "dumpable": (3,), "keepcaps": (7,), "timing": (13,), "name": (16, bytes(16)), "seccomp": (21,),
    "capbset": (23, 0), "tsc": (25, ctypes.c_int()), "securebits": (27,), "timerslack": (30,),
    "mce-kill": (34,), "child-subreaper": (37, ctypes.c_int()), "no-new-privs": (39, 0, 0, 0, 0),
    "tid-address": (40, ctypes.c_long()), "thp-disable": (42, 0, 0, 0, 0),
    "cap-ambient": (47, 1, 0, 0, 0), "speculation": (52, 0, 0, 0, 0),
    "io-flusher": (58, 0, 0, 0, 0), "syscall-user-dispatch": (59, 0, 0, 0, 0),
    "core-scheduling": (62, 0, 0, 0, ctypes.c_ulong()), "mdwe": (66, 0, 0, 0, 0),
    "memory-merge": (68, 0, 0, 0, 0), "auxv": (0x41555856, bytes(512), 512, 0, 0),
    "mm-map-size": (35, 15, ctypes.c_uint(), 0, 0),
}  # fmt: skip


def controlling(arguments):
    def pointer(value):
        if isinstance(value, int):
            return ctypes.c_long(value)
        if isinstance(value, bytes):
            return ctypes.create_string_buffer(value)
        return ctypes.byref(value)

    return lambda: syscall(157, *map(pointer, arguments)) >= 0


for option_name, option in OPTIONS.items():
    probe(f"prctl.{option_name}")(controlling(option))


@probe("processes.seccomp")
def seccomp():
    actions = {
        "kill-process": 0x80000000, "kill-thread": 0, "trap": 0x30000, "errno": 0x50000,
        "notify": 0x7FC00000, "trace": 0x7FF00000, "log": 0x7FFC0000, "allow": 0x7FFF0000,
    }  # fmt: skip

    def known(action):
        try:
            return syscall(317, 2, 0, ctypes.byref(ctypes.c_uint(action))) == 0
        except OSError:
            return False

    return " ".join(name for name, action in actions.items() if known(action))


@probe("processes.seccomp-filter")
def seccomp_filter():
    def filtered():
        # struct sock_filter: load the number; getppid (110) gives EPERM; others are allowed
        program = ctypes.create_string_buffer(
            struct.pack("HBBI", 0x20, 0, 0, 0) + struct.pack("HBBI", 0x15, 0, 1, 110)
            + struct.pack("HBBI", 0x06, 0, 0, 0x50001) + struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
        )  # fmt: skip
        header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(program)))
        syscall(157, 38, 1, 0, 0, 0)
        syscall(317, 1, 0, header)
        try:
            syscall(110)
        except OSError as error:
            return error.errno == errno.EPERM

    return in_child(filtered)


@probe("processes.landlock")
def landlock():
    return syscall(444, 0, 0, 1)  # LANDLOCK_CREATE_RULESET_VERSION


@probe("processes.membarrier")
def membarrier():
    return hex(syscall(324, 0, 0))


@probe("processes.kcmp")
def kcmp():
    return syscall(312, os.getpid(), os.getpid(), 0, 0, 0)


@probe("processes.pidfd")
def pidfd():
    descriptor = os.pidfd_open(os.getpid())
    copy = syscall(438, descriptor, 1, 0)
    signal.pidfd_send_signal(descriptor, 0)
    os.close(copy)
    os.close(descriptor)


@probe("processes.keys")
def keys():
    return syscall(250, 0, -3, 1) > 0  # KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING


@probe("processes.add-key")
def add_key():
    return syscall(248, b"user", b"probe", b"value", 5, -2) > 0


@probe("processes.trace")
def trace():
    def traced():
        child = os.fork()
        if child == 0:
            LIBC.ptrace(0, 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        os.waitpid(child, 0)
        buffer = ctypes.create_string_buffer(88)
        # PTRACE_GET_SYSCALL_INFO, PTRACE_GETEVENTMSG would do as well
        result = syscall(101, 0x420E, child, 88, buffer)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return result > 0

    return in_child(traced)


@probe("processes.perf")
def perf():
    # struct perf_event_attr: software, 128 bytes, task clock
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 128, 1) + bytes(112))
    os.close(syscall(298, attributes, 0, -1, -1, 0))


@probe("processes.bpf")
def bpf():
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1) + bytes(112))
    os.close(syscall(321, 0, attributes, 128))


@probe("processes.schedulers")
def schedulers():
    def chosen():
        found = []
        for name in ("SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE", "SCHED_FIFO", "SCHED_RR"):
            policy = getattr(os, name)
            try:
                os.sched_setscheduler(0, policy, os.sched_param(policy in (1, 2)))
                found.append(name)
            except OSError:
                pass
        return " ".join(found)

    return in_child(chosen)


@probe("processes.priority")
def priority():
    def nicer():
        os.nice(5)
        syscall(251, 1, 0, 3 << 13)
        return f"{os.getpriority(os.PRIO_PROCESS, 0)} {syscall(252, 1, 0) >> 13}"

    return in_child(nicer)


@probe("processes.usage")
def usage():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_maxrss > 0 and used.ru_minflt > 0


@probe("processes.clocks")
def clocks():
    import time

    found = [number for number in range(12) if clock_works(time, number)]
    return " ".join(map(str, found))


def clock_works(time, number):
    try:
        return time.clock_gettime(number) > 0
    except OSError:
        return False


@probe("processes.resolution")
def resolution():
    import time

    return f"{time.clock_getres(time.CLOCK_MONOTONIC):.9f} {os.sysconf('SC_CLK_TCK')}"


@probe("processes.accounting-netlink")
def accounting():
    with open("/proc/self/stat") as stream:
        return len(stream.read().rsplit(")", 1)[1].split())


@probe("processes.binfmt-misc")
def binfmt_misc():
    def mounted():
        syscall(272, NAMESPACES["mount"])
        if LIBC.mount(b"none", b"/", None, 0x44000, None) != 0:  # MS_REC | MS_PRIVATE
            raise OSError(ctypes.get_errno(), "")
        if LIBC.mount(b"b", b"/proc/sys/fs/binfmt_misc", b"binfmt_misc", 0, None) != 0:
            raise OSError(ctypes.get_errno(), "")
        return "register" in os.listdir("/proc/sys/fs/binfmt_misc")

    return in_child(mounted)


def mountable(kind):
    def mount():
        syscall(272, NAMESPACES["mount"])
        LIBC.mount(b"none", b"/", None, 0x44000, None)
        if LIBC.mount(b"none", b"/mnt", kind.encode(), 0, None) != 0:
            raise OSError(ctypes.get_errno(), "")

    return lambda: in_child(mount)


for kind in "tmpfs proc sysfs devpts devtmpfs mqueue cgroup2 ramfs hugetlbfs debugfs".split():
    probe(f"mounts.new-{kind}")(mountable(kind))


@probe("messages.system-v")
def system_v():
    def made():
        shared = LIBC.shmget(0, 4096, 0o1600)
        semaphore = LIBC.semget(0, 1, 0o1600)
        queue = LIBC.msgget(0, 0o1600)
        removed = [LIBC.shmctl(shared, 0, None), LIBC.semctl(semaphore, 0, 0)]
        removed.append(LIBC.msgctl(queue, 0, None))
        return removed == [0, 0, 0]

    return in_child(made)


@probe("messages.posix-queue")
def posix_queue():
    name = b"/cloudlet-probe"
    queue = LIBC.mq_open(name, os.O_RDWR | os.O_CREAT, 0o600, None)
    if queue < 0:
        raise OSError(ctypes.get_errno(), "")
    try:
        if LIBC.mq_send(queue, b"text", 4, 3) != 0:
            raise OSError(ctypes.get_errno(), "")
        buffer = ctypes.create_string_buffer(8192)
        size = LIBC.mq_receive(queue, buffer, 8192, None)
        shown = "/dev/mqueue shows it"
        if not os.path.exists("/dev/mqueue/cloudlet-probe"):
            shown = "/dev/mqueue does not show it"
        return f"{buffer.raw[:size].decode()} {shown}"
    finally:
        LIBC.mq_close(queue)
        LIBC.mq_unlink(name)


@probe("messages.posix-semaphore")
def posix_semaphore():
    import multiprocessing

    with multiprocessing.Semaphore(1):
        return True


@probe("terminals.pair")
def pair():
    master, slave = os.openpty()
    name = os.ttyname(slave)
    fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8))
    os.close(master)
    os.close(slave)
    return name.startswith("/dev/pts/")


@probe("terminals.push-input")
def push_input():
    def push():
        os.setsid()
        _, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        fcntl.ioctl(slave, termios.TIOCSTI, b"x")

    return in_child(push)
