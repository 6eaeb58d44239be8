/**
 * Constants and structs of socket(7), ip(7), tcp(7) and tun.c's user side for Linux x86-64, under the
 * kernel's names.
 *
 * @module
 */
import { i32, type Struct, struct, u16, u32, u64 } from "../struct.ts";

/** socket: IPv4. */
export const AF_INET = 2;
/** socket: datagrams. */
export const SOCK_DGRAM = 2;
/** socket options of the socket itself. */
export const SOL_SOCKET = 1;
/** getsockopt: takes the pending error. */
export const SO_ERROR = 4;
/** setsockopt: what close(2) does with what was not sent. */
export const SO_LINGER = 13;
/** setsockopt: where MSG_PEEK begins. */
export const SO_PEEK_OFF = 42;
/** socket options of TCP. */
export const IPPROTO_TCP = 6;
/** setsockopt: send small segments at once. */
export const TCP_NODELAY = 1;
/** recv: leave the bytes in the queue. */
export const MSG_PEEK = 2;
/** recv: of TCP, forget the bytes without copying them (tcp(7)). */
export const MSG_TRUNC = 0x20;
/** recv: never block. */
export const MSG_DONTWAIT = 0x40;
/** ioctl: how many bytes can be read. */
export const FIONREAD = 0x541b;

/** struct linger. */
export const linger = struct("linger", { l_onoff: i32, l_linger: i32 });

/** struct msghdr. */
export const msghdr = struct("msghdr", {
  msg_name: u64,
  msg_namelen: u32,
  msg_iov: u64,
  msg_iovlen: u64,
  msg_control: u64,
  msg_controllen: u64,
  msg_flags: i32,
});

/** struct sockaddr_in; port and address are big-endian. */
export const sockaddr_in = struct("sockaddr_in", {
  sin_family: u16,
  sin_port: u16,
  sin_addr: u32,
  sin_zero: u64,
});

/** Every struct of these headers, for the layout test. */
export const structs: readonly Struct<never>[] = [
  linger,
  msghdr,
  sockaddr_in,
] as unknown as readonly Struct<never>[];
