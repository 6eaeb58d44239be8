/**
 * The C library's calls that the agent needs and Deno does not have.
 *
 * Deno.Command forks the whole of Deno before it executes anything, copying its page tables; in a
 * microVM whose kernel is emulated that takes longer than all the rest. posix_spawn(3) shares the
 * memory until the program is loaded. It also lets wait4(2) tell what the program used.
 *
 * x86-64 and aarch64 Linux with glibc 2.29 or later.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";

const SYMBOLS = {
  // int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *,
  //                 const posix_spawnattr_t *, char *const argv[], char *const envp[]);
  posix_spawn: {
    parameters: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  posix_spawn_file_actions_init: { parameters: ["buffer"], result: "i32" },
  posix_spawn_file_actions_destroy: { parameters: ["buffer"], result: "i32" },
  posix_spawn_file_actions_adddup2: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  // (actions, int fd, const char *path, int oflag, mode_t mode)
  posix_spawn_file_actions_addopen: {
    parameters: ["buffer", "i32", "buffer", "i32", "u32"],
    result: "i32",
  },
  posix_spawn_file_actions_addchdir_np: { parameters: ["buffer", "buffer"], result: "i32" },
  posix_spawnattr_init: { parameters: ["buffer"], result: "i32" },
  posix_spawnattr_setflags: { parameters: ["buffer", "i16"], result: "i32" },
  posix_spawnattr_setsigdefault: { parameters: ["buffer", "buffer"], result: "i32" },
  posix_spawnattr_setsigmask: { parameters: ["buffer", "buffer"], result: "i32" },
  // O_CREAT is not used, so there is no third argument.
  open: { parameters: ["buffer", "i32"], result: "i32" },
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  // fcntl(2), prctl(2), ioctl(2) and syscall(2) are variadic: the arguments that are used here go
  // in registers all the same.
  fcntl: { parameters: ["i32", "i32", "i64"], result: "i32" },
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  syscall: { parameters: ["i64", "i64", "i64"], result: "i64" },
  syscall3: { name: "syscall", parameters: ["i64", "i64", "i64", "i64"], result: "i64" },
  syscall_buffer: { name: "syscall", parameters: ["i64", "i64", "buffer"], result: "i64" },
  process_madvise: {
    name: "syscall",
    parameters: ["i64", "i64", "buffer", "u64", "i64", "u64"],
    result: "i64",
  },
  llistxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
  // (source, target, file system, flags, data)
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
  access: { parameters: ["buffer", "i32"], result: "i32" },
  fchown: { parameters: ["i32", "u32", "u32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32", nonblocking: true },
  kill: { parameters: ["i32", "i32"], result: "i32" },
  wait4: { parameters: ["i32", "buffer", "i32", "buffer"], result: "i32" },
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  getrusage: { parameters: ["i32", "buffer"], result: "i32" },
  adjtimex: { parameters: ["buffer"], result: "i32" },
  clock_settime: { parameters: ["i32", "buffer"], result: "i32" },
  sethostname: { parameters: ["buffer", "usize"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
  strerror: { parameters: ["i32"], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

let loaded: Libc | undefined;

/** The C library, loaded when first asked for. */
export function libc(): Libc {
  loaded ??= Deno.dlopen("libc.so.6", SYMBOLS).symbols;
  return loaded;
}

/** errno of the last synchronous call. */
export function errno(): number {
  const location = libc().__errno_location();
  // SAFETY: __errno_location(3) returns a valid pointer to this thread's int.
  return new Deno.UnsafePointerView(location!).getInt32();
}

/** What an error number means, in words. */
export function errorText(code: number): string {
  const text = libc().strerror(code);
  // SAFETY: strerror(3) returns a valid NUL-terminated string.
  return text === null ? `error ${code}` : new Deno.UnsafePointerView(text).getCString();
}

/**
 * The result of a call that gives -1 on failure.
 *
 * @param what what was attempted, after "Cannot"
 */
export function checked(result: number, what: string): number {
  if (result !== -1) return result;
  const code = errno();
  throw new CloudletError(`Cannot ${what}: ${errorText(code)}`, { code: "guest" });
}

/** A zeroed buffer that does not move: V8 keeps it outside its heap. */
export function memory(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(size));
}

const utf8 = new TextEncoder();

/** A C string. Its memory does not move: V8 keeps buffers of their own outside its heap. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  const bytes = utf8.encode(text);
  const terminated = new Uint8Array(new ArrayBuffer(bytes.length + 1));
  terminated.set(bytes);
  return terminated;
}

/** `char *const[]` with the strings behind it in the same buffer, which must outlive its use. */
export function cStringArray(strings: readonly string[]): Uint8Array<ArrayBuffer> {
  const encoded = strings.map((string) => utf8.encode(string));
  const table = (strings.length + 1) * 8;
  const size = encoded.reduce((sum, bytes) => sum + bytes.length + 1, table);
  const buffer = new ArrayBuffer(size);
  const array = new Uint8Array(buffer);
  const pointers = new BigUint64Array(buffer, 0, strings.length + 1);
  // SAFETY: the pointer is only used as the number from which the table's entries are reckoned.
  const base = Deno.UnsafePointer.value(Deno.UnsafePointer.of(array));
  let offset = table;
  for (const [index, bytes] of encoded.entries()) {
    array.set(bytes, offset);
    pointers[index] = base + BigInt(offset);
    offset += bytes.length + 1;
  }
  return array;
}

// include/uapi/asm-generic/fcntl.h and include/uapi/linux/eventfd.h; the same on both machines.
export const O_CLOEXEC = 0o2000000;
export const O_NONBLOCK = 0o4000;
export const EFD_CLOEXEC: number = O_CLOEXEC;
export const EFD_NONBLOCK: number = O_NONBLOCK;
export const F_SETFL = 4;
export const FIONREAD = 0x541bn; // include/uapi/asm-generic/ioctls.h

// include/uapi/asm-generic/poll.h
export const POLLIN = 0x01;
export const POLLOUT = 0x04;

// include/uapi/asm-generic/errno-base.h
export const ENOENT = 2;
export const EINTR = 4;
export const EAGAIN = 11;
export const EACCES = 13;
export const ENOTDIR = 20;

// include/uapi/linux/prctl.h
export const PR_SET_CHILD_SUBREAPER = 36;

// include/uapi/asm-generic/unistd.h and arch/x86/entry/syscalls/syscall_64.tbl
export const SYS_PIDFD_OPEN = 434;
export const SYS_CLOSE_RANGE = 436n;
export const SYS_PROCESS_MADVISE = 440;

export const SIGNAL_NUMBERS = { KILL: 9, TERM: 15, INT: 2 } as const;
