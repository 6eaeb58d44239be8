/**
 * The libc functions that cloudlet calls, opened on first use.
 *
 * All calls are synchronous: errno belongs to the calling thread and is read right afterwards.
 *
 * @module
 */
import { EINTR, SyscallError } from "./errno.ts";
import type { Ioctl } from "./ioctl.ts";

const SYMBOLS = {
  // int ioctl(int fd, unsigned long request, void *argp); the kernel takes 32 bits of request
  ioctl: { parameters: ["i32", "u32", "buffer"], result: "i32" },
  // int ioctl(int fd, unsigned long request, unsigned long arg)
  ioctl_number: { name: "ioctl", parameters: ["i32", "u32", "usize"], result: "i32" },
  // int open(const char *path, int flags, mode_t mode)
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  // int close(int fd)
  close: { parameters: ["i32"], result: "i32" },
  // ssize_t read(int fd, void *buf, size_t count)
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  // ssize_t write(int fd, const void *buf, size_t count)
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  // int munmap(void *addr, size_t length)
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  // int mprotect(void *addr, size_t length, int prot)
  mprotect: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  // int madvise(void *addr, size_t length, int advice)
  madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  // int memfd_create(const char *name, unsigned int flags)
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  // int ftruncate(int fd, off_t length)
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  // int eventfd(unsigned int initval, int flags)
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  // int epoll_create1(int flags)
  epoll_create1: { parameters: ["i32"], result: "i32" },
  // int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  // int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  // int socket(int domain, int type, int protocol)
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int socketpair(int domain, int type, int protocol, int sv[2])
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  // int bind(int fd, const struct sockaddr *addr, socklen_t addrlen)
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // int listen(int fd, int backlog)
  listen: { parameters: ["i32", "i32"], result: "i32" },
  // int accept4(int fd, struct sockaddr *addr, socklen_t *addrlen, int flags)
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  // int connect(int fd, const struct sockaddr *addr, socklen_t addrlen)
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // int shutdown(int fd, int how)
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  // int getsockopt(int fd, int level, int optname, void *optval, socklen_t *optlen)
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  // int setsockopt(int fd, int level, int optname, const void *optval, socklen_t optlen)
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  // ssize_t send(int fd, const void *buf, size_t len, int flags)
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  // ssize_t recv(int fd, void *buf, size_t len, int flags)
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  // ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  // ssize_t readv/writev(int fd, const struct iovec *iov, int iovcnt)
  readv: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  writev: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  // ssize_t preadv/pwritev(int fd, const struct iovec *iov, int iovcnt, off_t offset)
  preadv: { parameters: ["i32", "buffer", "i32", "i64"], result: "isize" },
  pwritev: { parameters: ["i32", "buffer", "i32", "i64"], result: "isize" },
  // off_t lseek(int fd, off_t offset, int whence)
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  // int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *buf)
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  // int clock_gettime(clockid_t clockid, struct timespec *tp)
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  // int fdatasync(int fd)
  fdatasync: { parameters: ["i32"], result: "i32" },
  // int fallocate(int fd, int mode, off_t offset, off_t len)
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  // ssize_t getrandom(void *buf, size_t buflen, unsigned int flags)
  getrandom: { parameters: ["buffer", "usize", "u32"], result: "isize" },
  // pid_t gettid(void)
  gettid: { parameters: [], result: "i32" },
  // long syscall(SYS_futex, uint32_t *uaddr, int op, uint32_t val, const struct timespec *timeout)
  futex: {
    name: "syscall",
    parameters: ["isize", "pointer", "i32", "u32", "pointer"],
    result: "isize",
  },
  // int tgkill(pid_t tgid, pid_t tid, int sig)
  tgkill: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int sigaction(int signum, const struct sigaction *act, struct sigaction *oldact)
  sigaction: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // void *dlsym(void *handle, const char *symbol)
  dlsym: { parameters: ["pointer", "buffer"], result: "pointer" },
  // void *memcpy(void *dest, const void *src, size_t n), to and from memory that has no ArrayBuffer
  memcpy_to: { name: "memcpy", parameters: ["usize", "buffer", "usize"], result: "void" },
  memcpy_from: { name: "memcpy", parameters: ["buffer", "usize", "usize"], result: "void" },
  // int *__errno_location(void)
  __errno_location: { parameters: [], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

let opened: Libc | undefined;
let errnoView: Deno.UnsafePointerView | undefined;

/** The table, each of whose functions is opened on first use and kept for the life of the thread. */
export function libc(): Libc {
  return opened ??= open();
}

/** To open a function takes Deno a third of a millisecond, and each thread needs a few of them. */
function open(): Libc {
  const table = {};
  for (const [name, definition] of Object.entries(SYMBOLS)) {
    Object.defineProperty(table, name, {
      configurable: true,
      get() {
        const value = Deno.dlopen("libc.so.6", { [name]: definition }).symbols[name];
        Object.defineProperty(table, name, { value });
        return value;
      },
    });
  }
  const functions = table as Libc;
  // Now: to open it after a failed call would change errno.
  // SAFETY: __errno_location() returns the address of an int that lives as long as the thread, and
  // an isolate stays on its thread.
  errnoView = new Deno.UnsafePointerView(functions.__errno_location()!);
  return functions;
}

/** errno of this thread; call it right after the failed call. */
export function errno(): number {
  if (errnoView === undefined) libc();
  return errnoView!.getInt32(0);
}

/** Throws a {@linkcode SyscallError} when `result` is negative; otherwise returns it. */
export function check(op: string, result: number | bigint): number {
  if (result < 0) throw new SyscallError(op, errno());
  return Number(result);
}

/** Repeats a call that a signal interrupted; throws for other failures. */
export function retry(op: string, call: () => number | bigint): number {
  for (;;) {
    const result = call();
    if (result >= 0) return Number(result);
    const error = errno();
    if (error !== EINTR) throw new SyscallError(op, error);
  }
}

/**
 * Runs an ioctl whose argument is a plain number.
 *
 * @returns what the ioctl returns, not negative
 * @throws {SyscallError} naming the ioctl
 */
export function ioctl(fd: number, request: Ioctl<void>, argument: number | bigint = 0): number {
  return check(request.name, libc().ioctl_number(fd, request.request, argument as bigint));
}

/**
 * Runs an ioctl whose argument points to a struct; the kernel may write into it.
 *
 * @param argument bytes of at least the struct's size; longer for structs with a flexible array
 * @returns what the ioctl returns, not negative
 * @throws {SyscallError} naming the ioctl
 */
export function ioctlBytes<T>(
  fd: number,
  request: Ioctl<T>,
  argument: Uint8Array<ArrayBuffer>,
): number {
  const size = request.type?.size ?? 0;
  if (argument.length < size) {
    throw new RangeError(`Cannot call ${request.name}: ${argument.length} bytes, not ${size}`);
  }
  return check(request.name, libc().ioctl(fd, request.request, argument));
}

/** Writes a struct with an ioctl; members that are not given are zero. */
export function ioctlSet<T>(fd: number, request: Ioctl<T>, value: NoInfer<Partial<T>>): number {
  const type = request.type!;
  const argument = new Uint8Array(type.size);
  type.set(new DataView(argument.buffer), 0, value as T);
  return ioctlBytes(fd, request, argument);
}

/** Reads a struct with an ioctl; `input` are the members that the kernel reads first. */
export function ioctlGet<T>(fd: number, request: Ioctl<T>, input?: NoInfer<Partial<T>>): T {
  const type = request.type!;
  const argument = new Uint8Array(type.size);
  const view = new DataView(argument.buffer);
  if (input !== undefined) type.set(view, 0, input as T);
  ioctlBytes(fd, request, argument);
  return type.get(view, 0);
}

/** A NUL-terminated UTF-8 string for the calls above. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError("Cannot pass a string with a NUL to C");
  return new TextEncoder().encode(`${text}\0`);
}
