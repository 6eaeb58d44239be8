"""Sockets: families, protocols, options, and what the loopback device can do."""

import os
import socket
import struct

from registry import probe

FAMILIES = {
    "unix": (1, 1, 0), "unix-packet": (1, 5, 0), "inet-tcp": (2, 1, 6), "inet-udp": (2, 2, 17),
    "inet-udplite": (2, 2, 136), "inet-raw": (2, 3, 1), "inet-ping": (2, 2, 1),
    "inet-sctp": (2, 1, 132), "inet-mptcp": (2, 1, 262), "inet6-tcp": (10, 1, 6),
    "inet6-udp": (10, 2, 17), "inet6-raw": (10, 3, 58), "key": (15, 3, 2),
    "netlink-route": (16, 3, 0), "netlink-diag": (16, 3, 4), "netlink-netfilter": (16, 3, 12),
    "netlink-audit": (16, 3, 9), "netlink-uevent": (16, 3, 15), "netlink-generic": (16, 3, 16),
    "netlink-xfrm": (16, 3, 6), "netlink-connector": (16, 3, 11), "packet": (17, 3, 0x300),
    "rds": (21, 5, 0), "can": (29, 3, 1), "tipc": (30, 5, 0), "bluetooth": (31, 3, 1),
    "alg": (38, 5, 0), "vsock": (40, 1, 0), "kcm": (41, 2, 0), "qrtr": (42, 2, 0),
    "smc": (43, 1, 0), "xdp": (44, 3, 0),
}  # fmt: skip


def opening(arguments):
    return lambda: socket.socket(*arguments).close()


for family_name, family in FAMILIES.items():
    probe(f"sockets.{family_name}")(opening(family))


def talking(family, address):
    def talk():
        with socket.socket(family) as server:
            server.bind((address, 0))
            server.listen()
            with socket.create_connection(server.getsockname()[:2], timeout=5) as client:
                other, _ = server.accept()
                with other:
                    client.sendall(b"text")
                    return other.recv(4) == b"text"

    return talk


probe("loopback.ipv4")(talking(socket.AF_INET, "127.0.0.1"))
probe("loopback.ipv6")(talking(socket.AF_INET6, "::1"))


@probe("loopback.dual-stack")
def dual_stack():
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True


@probe("loopback.addresses6")
def addresses6():
    with open("/proc/net/if_inet6") as stream:
        lines = [line.split() for line in stream]
    return " ".join(sorted(f"{line[0]}/{line[2]}" for line in lines if line[5] == "lo"))


@probe("loopback.multicast")
def multicast():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("", 0))
        group = socket.inet_aton("239.1.2.3") + socket.inet_aton("127.0.0.1")
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, group[4:])
        receiver.settimeout(5)
        receiver.sendto(b"text", ("239.1.2.3", receiver.getsockname()[1]))
        return receiver.recv(4) == b"text"


@probe("loopback.broadcast")
def broadcast():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.bind(("", 0))
        sender.settimeout(5)
        sender.sendto(b"text", ("127.255.255.255", sender.getsockname()[1]))
        return sender.recv(4) == b"text"


@probe("loopback.device")
def loopback_device():
    return " ".join(name for _, name in socket.if_nameindex() if name == "lo")


# include/uapi/asm-generic/socket.h, linux/in.h, linux/tcp.h: level, number, value
OPTIONS = {
    "reuseport": (1, 15, 1), "busy-poll": (1, 46, 0), "bindtodevice": (1, 25, b"lo\0"),
    "mark": (1, 36, 1), "timestamping": (1, 37, 1), "incoming-cpu": (1, 49, 0),
    "max-pacing-rate": (1, 47, 1 << 20), "zerocopy": (1, 60, 1), "prefer-busy-poll": (1, 69, 0),
    "freebind": (0, 15, 1), "transparent": (0, 19, 1), "recverr": (0, 11, 1),
    "tcp-fastopen": (6, 23, 5), "tcp-user-timeout": (6, 18, 1000), "tcp-md5": (6, 14, bytes(216)),
    "tcp-defer-accept": (6, 9, 1), "tcp-ulp-tls": (6, 31, b"tls"), "tcp-notsent": (6, 25, 4096),
}  # fmt: skip


def setting(level, number, value):
    def set_it():
        with socket.socket() as stream:
            if isinstance(value, int) and number == 47:
                stream.setsockopt(level, number, struct.pack("I", value))
            else:
                stream.setsockopt(level, number, value)

    return set_it


for option_name, option in OPTIONS.items():
    probe(f"sockets.option-{option_name}")(setting(*option))


@probe("sockets.congestion-controls")
def congestion_controls():
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control") as stream:
        return " ".join(sorted(stream.read().split()))


@probe("sockets.congestion-control")
def congestion_control():
    with socket.socket() as stream:
        return stream.getsockopt(6, 13, 16).rstrip(b"\0").decode()


@probe("sockets.credentials")
def credentials():
    left, right = socket.socketpair()
    with left, right:
        pid, _, _ = struct.unpack("3i", left.getsockopt(1, 17, 12))
        return pid == os.getpid()


@probe("sockets.peer-pidfd")
def peer_pidfd():
    left, right = socket.socketpair()
    with left, right:
        os.close(left.getsockopt(1, 77))


@probe("sockets.pass-files")
def pass_files():
    left, right = socket.socketpair()
    with left, right:
        socket.send_fds(left, [b"x"], [0])
        _, files, _, _ = socket.recv_fds(right, 1, 1)
        os.close(files[0])


@probe("sockets.abstract-name")
def abstract_name():
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind("\0cloudlet-probe")


@probe("sockets.filter")
def socket_filter():
    import ctypes

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0xFFFF))
        stream.setsockopt(1, 26, struct.pack("HxxxxxxQ", 1, ctypes.addressof(program)))
