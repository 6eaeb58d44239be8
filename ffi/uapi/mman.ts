/**
 * Constants of mmap(2), madvise(2), open(2), eventfd(2), epoll(7) and socket(7) for Linux x86-64,
 * under the kernel's names.
 *
 * @module
 */
import { type Struct, struct, u32, u64 } from "../struct.ts";

/** mmap: pages may be read. */
export const PROT_READ = 1;
/** mmap: pages may be written. */
export const PROT_WRITE = 2;
/** mmap: pages may be executed. */
export const PROT_EXEC = 4;
/** mmap: writes go to the file. */
export const MAP_SHARED = 1;
/** mmap: writes stay in the process. */
export const MAP_PRIVATE = 2;
/** mmap: exactly at the address, over what is there. */
export const MAP_FIXED = 0x10;
/** mmap: no file. */
export const MAP_ANONYMOUS = 0x20;
/** mmap: no swap is reserved. */
export const MAP_NORESERVE = 0x4000;
/** madvise: the pages' content is not needed. */
export const MADV_DONTNEED = 4;
/** madvise: equal pages may be merged. */
export const MADV_MERGEABLE = 12;
/** madvise: huge pages are welcome. */
export const MADV_HUGEPAGE = 14;
/** madvise: leave the pages out of a core dump. */
export const MADV_DONTDUMP = 16;
/** Not to be backed by huge pages. */
export const MADV_NOHUGEPAGE = 15;

/** open: read only. */
export const O_RDONLY = 0;
/** open: read and write. */
export const O_RDWR = 2;
/** open: never block. */
export const O_NONBLOCK = 0o4000;
/** open: closed by execve. */
export const O_CLOEXEC = 0o2000000;
/** memfd_create: closed by execve. */
export const MFD_CLOEXEC = 1;

/** eventfd: never block. */
export const EFD_NONBLOCK: number = O_NONBLOCK;
/** eventfd: closed by execve. */
export const EFD_CLOEXEC: number = O_CLOEXEC;

/** epoll: closed by execve. */
export const EPOLL_CLOEXEC: number = O_CLOEXEC;
/** epoll_ctl: add a descriptor. */
export const EPOLL_CTL_ADD = 1;
/** epoll_ctl: remove a descriptor. */
export const EPOLL_CTL_DEL = 2;
/** epoll_ctl: change what is waited for. */
export const EPOLL_CTL_MOD = 3;
/** epoll: readable. */
export const EPOLLIN = 0x1;
/** epoll: writable. */
export const EPOLLOUT = 0x4;
/** epoll: error. */
export const EPOLLERR = 0x8;
/** epoll: hung up. */
export const EPOLLHUP = 0x10;
/** epoll: the peer will not write any more. */
export const EPOLLRDHUP = 0x2000;
/** epoll: edge-triggered. */
export const EPOLLET = 0x8000_0000;

/** struct epoll_event, packed on x86-64. */
export const epoll_event = struct("epoll_event", { events: u32, data: u64 }, { packed: true });

/** struct iovec. */
export const iovec = struct("iovec", { iov_base: u64, iov_len: u64 });

/** socket: local sockets. */
export const AF_UNIX = 1;
/** socket: a byte stream. */
export const SOCK_STREAM = 1;
/** socket: never block. */
export const SOCK_NONBLOCK: number = O_NONBLOCK;
/** socket: closed by execve. */
export const SOCK_CLOEXEC: number = O_CLOEXEC;
/** shutdown: no more reading. */
export const SHUT_RD = 0;
/** shutdown: no more writing. */
export const SHUT_WR = 1;
/** shutdown: neither. */
export const SHUT_RDWR = 2;

/** Every struct of these headers, for the layout test. */
export const structs: readonly Struct<never>[] = [epoll_event, iovec] as unknown as readonly Struct<
  never
>[];
