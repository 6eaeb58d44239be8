"""Limits of processes and of the system: resource limits and sysctl(8) values."""

import os
import resource

from registry import probe


def limiting(number):
    def limit():
        words = ["unlimited" if n == resource.RLIM_INFINITY else str(n) for n in pair(number)]
        return " ".join(words)

    return limit


def pair(number):
    return resource.getrlimit(number)


for limit_name in sorted(name for name in dir(resource) if name.startswith("RLIMIT_")):
    probe(f"limits.{limit_name[7:].lower()}")(limiting(getattr(resource, limit_name)))

VALUES = """
    fs.file-max fs.nr_open fs.pipe-max-size fs.aio-max-nr fs.inotify.max_user_instances
    fs.inotify.max_user_watches fs.inotify.max_queued_events fs.mqueue.msg_max
    fs.mqueue.msgsize_max fs.mqueue.queues_max fs.epoll.max_user_watches fs.protected_hardlinks
    fs.protected_symlinks fs.protected_fifos fs.protected_regular fs.suid_dumpable
    fs.lease-break-time fs.mount-max kernel.pid_max kernel.threads-max kernel.shmmax
    kernel.shmall kernel.shmmni kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem
    kernel.core_pattern kernel.core_uses_pid kernel.dmesg_restrict kernel.kptr_restrict
    kernel.perf_event_paranoid kernel.unprivileged_bpf_disabled kernel.unprivileged_userns_clone
    kernel.yama.ptrace_scope kernel.randomize_va_space kernel.ngroups_max kernel.cap_last_cap
    kernel.ostype kernel.hostname kernel.domainname kernel.osrelease kernel.printk kernel.sysrq
    kernel.panic kernel.panic_on_oops kernel.seccomp.actions_avail kernel.sched_rt_runtime_us
    kernel.io_uring_disabled kernel.modules_disabled kernel.overflowuid kernel.random.poolsize
    kernel.keys.maxkeys kernel.pty.max
    user.max_user_namespaces user.max_inotify_watches user.max_pid_namespaces
    vm.max_map_count vm.overcommit_memory vm.overcommit_ratio vm.swappiness vm.mmap_min_addr
    vm.mmap_rnd_bits vm.nr_hugepages vm.unprivileged_userfaultfd vm.dirty_ratio
    vm.vfs_cache_pressure vm.legacy_va_layout
    net.core.somaxconn net.core.rmem_max net.core.wmem_max net.core.rmem_default
    net.core.wmem_default net.core.optmem_max net.core.netdev_max_backlog
    net.core.default_qdisc net.core.bpf_jit_enable
    net.ipv4.ip_local_port_range net.ipv4.ip_unprivileged_port_start net.ipv4.ping_group_range
    net.ipv4.ip_forward net.ipv4.tcp_congestion_control net.ipv4.tcp_fastopen
    net.ipv4.tcp_syncookies net.ipv4.tcp_timestamps net.ipv4.tcp_tw_reuse
    net.ipv4.tcp_keepalive_time net.ipv4.tcp_max_syn_backlog net.ipv4.tcp_fin_timeout
    net.ipv4.tcp_rmem net.ipv4.tcp_wmem net.ipv4.icmp_echo_ignore_broadcasts
    net.ipv6.bindv6only net.ipv6.conf.lo.disable_ipv6 net.ipv6.conf.all.disable_ipv6
    net.unix.max_dgram_qlen
"""


def value(name):
    def read():
        with open(f"/proc/sys/{name.replace('.', '/')}") as stream:
            return stream.read().strip()

    return read


for value_name in VALUES.split():
    probe(f"sysctl.{value_name}")(value(value_name))


@probe("limits.processors")
def processors():
    return f"{os.cpu_count()} {len(os.sched_getaffinity(0))}"


@probe("limits.user")
def user():
    return f"{os.getresuid()} {os.getresgid()} {os.getgroups()}"


@probe("limits.umask")
def umask():
    mask = os.umask(0)
    os.umask(mask)
    return oct(mask)


@probe("limits.capabilities")
def capabilities():
    with open("/proc/self/status") as stream:
        return " ".join(line for line in stream if line.startswith("Cap"))


@probe("limits.signals")
def signals():
    with open("/proc/self/status") as stream:
        return " ".join(line for line in stream if line.startswith(("SigIgn", "SigBlk")))
