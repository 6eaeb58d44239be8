/**
 * errno values of Linux x86-64 (include/uapi/asm-generic/errno*.h) and the error thrown for them.
 *
 * @module
 */

const NAMES =
  "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP"
    .split(" ");

const LATER: Readonly<Record<number, string>> = {
  61: "ENODATA",
  71: "EPROTO",
  75: "EOVERFLOW",
  88: "ENOTSOCK",
  90: "EMSGSIZE",
  92: "ENOPROTOOPT",
  95: "EOPNOTSUPP",
  97: "EAFNOSUPPORT",
  98: "EADDRINUSE",
  99: "EADDRNOTAVAIL",
  101: "ENETUNREACH",
  103: "ECONNABORTED",
  104: "ECONNRESET",
  105: "ENOBUFS",
  106: "EISCONN",
  107: "ENOTCONN",
  110: "ETIMEDOUT",
  111: "ECONNREFUSED",
  113: "EHOSTUNREACH",
  114: "EALREADY",
  115: "EINPROGRESS",
  125: "ECANCELED",
};

/** Interrupted system call. */
export const EINTR = 4;
/** Input/output error. */
export const EIO = 5;
/** Not a file descriptor, or closed. */
export const EBADF = 9;
/** No such device or address; of lseek(2): no data behind the offset. */
export const ENXIO = 6;
/** Try again. */
export const EAGAIN = 11;
/** Network is unreachable. */
export const ENETUNREACH = 101;
/** Connection refused. */
export const ECONNREFUSED = 111;
/** Operation now in progress. */
export const EINPROGRESS = 115;

/** The name of an errno value, such as `ENOENT` for 2. */
export function errnoName(errno: number): string {
  return NAMES[errno - 1] ?? LATER[errno] ?? `errno ${errno}`;
}

/** A system call that failed. */
export class SyscallError extends Error {
  override readonly name = "SyscallError";
  /** The system call or ioctl, such as `KVM_CREATE_VM`. */
  readonly op: string;
  /** The number. */
  readonly errno: number;
  /** The name, such as `EINVAL`. */
  readonly code: string;

  /**
   * @param op the system call or ioctl
   * @param errno what it left in errno
   */
  constructor(op: string, errno: number) {
    const code = errnoName(errno);
    super(`${op} failed: ${code}`);
    this.op = op;
    this.errno = errno;
    this.code = code;
  }
}
