"""Devices, /proc, /sys, and what is mounted where."""

import os
import signal

from registry import in_child, probe

DEVICES = """
    console fd full fuse hugepages kmsg loop-control mqueue net/tun null ptmx pts random rtc0 shm
    stderr stdin stdout tty urandom vsock zero userfaultfd hwrng
"""
for device_name in DEVICES.split():
    probe(f"devices.{device_name}")(lambda name=device_name: os.path.exists(f"/dev/{name}"))

ENTRIES = """
    buddyinfo cgroups cmdline config.gz consoles cpuinfo crypto devices diskstats filesystems
    interrupts iomem ioports kallsyms kcore keys key-users kmsg kpagecount kpageflags latency_stats
    loadavg locks meminfo misc modules mounts mtrr net pagetypeinfo partitions pressure schedstat
    self slabinfo softirqs stat swaps sys sysrq-trigger sysvipc thread-self timer_list tty uptime
    version vmallocinfo vmstat zoneinfo fs driver bus irq acpi dynamic_debug execdomains fb dma
"""
for entry_name in ENTRIES.split():
    probe(f"proc.{entry_name}")(lambda name=entry_name: os.path.exists(f"/proc/{name}"))


@probe("proc.of-process")
def proc_of_process():
    return " ".join(sorted(os.listdir("/proc/self")))


@probe("proc.of-thread")
def proc_of_thread():
    return " ".join(sorted(os.listdir(f"/proc/self/task/{os.getpid()}")))


@probe("proc.namespaces")
def namespaces():
    return " ".join(sorted(os.listdir("/proc/self/ns")))


@probe("proc.fields-of-network")
def network():
    return " ".join(sorted(os.listdir("/proc/self/net")))


@probe("proc.io")
def io():
    with open("/proc/self/io") as stream:
        return " ".join(line.split(":")[0] for line in stream)


@probe("proc.children")
def children():
    def parent():
        child = os.fork()
        if child == 0:
            while True:
                signal.pause()
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as stream:
                return stream.read().split() == [str(child)]
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)

    return in_child(parent)


@probe("proc.fields-of-meminfo")
def meminfo():
    with open("/proc/meminfo") as stream:
        return " ".join(line.split(":")[0] for line in stream)


@probe("proc.fields-of-status")
def status():
    with open("/proc/self/status") as stream:
        return " ".join(line.split(":")[0] for line in stream)


@probe("proc.fields-of-cgroup")
def cgroup():
    with open("/proc/self/cgroup") as stream:
        return " ".join(line.split(":")[0] for line in stream)


@probe("mounts.kinds")
def mounts():
    wanted = "/ /dev /dev/mqueue /dev/pts /dev/shm /proc /sys /sys/fs/cgroup /tmp".split()
    with open("/proc/self/mounts") as stream:
        kinds = {line.split()[1]: line.split()[2] for line in stream}
    return " ".join(f"{path}={kinds.get(path, '-')}" for path in wanted)


@probe("mounts.file-systems")
def file_systems():
    with open("/proc/filesystems") as stream:
        return " ".join(sorted(line.split()[-1] for line in stream))


@probe("sysfs.top")
def sysfs():
    return " ".join(sorted(os.listdir("/sys")))
