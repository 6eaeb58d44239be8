/**
 * A child process in a session of its own: read and fed without a thread for each pipe, and reaped
 * with what it used.
 *
 * Everything is pulled: {@linkcode Child.next} waits in one poll(2) for whatever comes first, so a
 * reader that is slow makes the program wait, not the memory grow.
 *
 * @module
 */
import {
  checked,
  cString,
  EAGAIN,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EINTR,
  errno,
  F_SETFL,
  FIONREAD,
  libc,
  memory,
  O_CLOEXEC,
  O_NONBLOCK,
  POLLIN,
  POLLOUT,
  SIGNAL_NUMBERS,
  SYS_PIDFD_OPEN,
} from "./libc.ts";
import { sessionWaits } from "./input_demand.ts";
import { prefaultCode } from "./prefault.ts";
import { countTransferred } from "./scavenge.ts";
import { spawn, type SpawnOptions } from "./spawn.ts";

/** Processor time and memory of a child and of the children that it waited for. */
export interface ChildUsage {
  /** Microseconds in user mode. */
  readonly userMicros: number;
  /** Microseconds in the kernel. */
  readonly systemMicros: number;
  /**
   * Largest resident set of one of the processes, in bytes; never below that of the agent, with
   * which the child shared its memory until the program was loaded (getrusage(2): `ru_maxrss`
   * outlives execve).
   */
  readonly peakBytes: number;
}

/** How a child ended. */
export interface ChildStatus {
  /** Exit code, or 128 plus the signal. */
  readonly exitCode: number;
  /** The signal that ended it, or 0. */
  readonly signal: number;
  /** What it used. */
  readonly usage: ChildUsage;
}

/** What {@linkcode Child.next} saw. */
export type ChildEvent =
  | { readonly kind: "stdout" | "stderr"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "exited" } // once; the child is a zombie until it is reaped
  | { readonly kind: "ended" } // it has exited and all output was read
  | { readonly kind: "timeout" };

const PIPE_CAPACITY = 65536; // pipe(7): the default
/** What programs write at once when they have much to say: the buffer of stdio, or a page. */
const BULK = 4096;
/** How long more is waited for behind such a piece, in milliseconds. */
const GATHERING = 5;
const SIZEOF_POLLFD = 8;
const SIZEOF_RUSAGE = 144;

/** One buffer for all: what is read is copied out in its true size, which is small most times. */
let readBuffer: Uint8Array<ArrayBuffer> | undefined;

/** How many bytes are in a pipe; undefined when the kernel does not say. */
function bytesIn(fd: number): number | undefined {
  const count = new Int32Array(1);
  return libc().ioctl(fd, FIONREAD, new Uint8Array(count.buffer)) === 0 ? count[0] : undefined;
}

interface PendingInput {
  bytes: Uint8Array<ArrayBuffer>;
  accepted: number;
  resolve(accepted: number): void;
}

/** A running program; see the module. */
export class Child implements Disposable {
  /** Process id, and id of its session and process group. */
  readonly pid: number;
  #pidfd: number;
  #stdin: number;
  #stdout: number;
  #stderr: number;
  #wake = -1;
  readonly #seen: ChildEvent[] = [];
  #exited = false;
  #status: ChildStatus | undefined;
  readonly #inputs: PendingInput[] = [];
  #endInput = false;
  /** Bytes that were to be written to standard input, and that were. */
  #queued = 0;
  #written = 0;
  /** How many of them are not counted as read; undefined when none is counted. */
  #uncounted: number | undefined;
  /** A reading end of standard input, by which one that was closed still tells what is in it. */
  #rest = -1;
  #gather = false;

  private constructor(pid: number, stdin: number, stdout: number, stderr: number) {
    this.pid = pid;
    this.#stdin = stdin;
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.#pidfd = -1;
    try {
      const c = libc();
      this.#pidfd = checked(
        Number(c.syscall(BigInt(SYS_PIDFD_OPEN), BigInt(pid), 0n)),
        "watch a child process",
      );
      if (stdin !== -1) {
        checked(c.fcntl(stdin, F_SETFL, BigInt(O_NONBLOCK)), "prepare the standard input");
        this.#wake = checked(c.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "make an eventfd");
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Starts a program.
   *
   * @throws {CloudletError} `invalid-input` when it cannot be executed
   */
  static spawn(options: SpawnOptions): Child {
    const { pid, stdin, stdout, stderr } = spawn(options);
    return new Child(pid, stdin, stdout, stderr);
  }

  /** Has the code of the program mapped before it runs there. */
  prefaultCode(): void {
    prefaultCode(this.pid, this.#pidfd);
  }

  /** Whether all output was read: no process has the pipes open for writing any more. */
  get outputEnded(): boolean {
    return this.#stdout === -1 && this.#stderr === -1;
  }

  /** Whether the program has ended. */
  get exited(): boolean {
    return this.#exited;
  }

  /** Whether the program can still be given input. */
  get takesInput(): boolean {
    return this.#stdin !== -1 && !this.#endInput;
  }

  /** Has the input counted that is written from now on. */
  countInput(): void {
    if (this.#stdin !== -1) this.#uncounted = this.#queued;
  }

  /** How many bytes of its input the program has read; undefined when that is not known. */
  get inputRead(): number | undefined {
    const fd = this.#stdin === -1 ? this.#rest : this.#stdin;
    const unread = fd === -1 ? undefined : bytesIn(fd);
    if (unread === undefined || this.#uncounted === undefined) return undefined;
    return Math.max(0, this.#written - unread - this.#uncounted);
  }

  /**
   * Whether something sleeps until it is given input, of which there is none.
   *
   * @param all whether to look at all threads in any case, which takes long
   */
  wantsInput(all: boolean): boolean {
    if (this.#stdin === -1 || this.#inputs.length > 0 || bytesIn(this.#stdin) !== 0) return false;
    return sessionWaits(this.pid, Deno.readLinkSync(`/proc/self/fd/${this.#stdin}`), all);
  }

  /**
   * Waits for output or for the end of the program.
   *
   * @param timeout milliseconds; for ever when undefined
   */
  async next(timeout?: number): Promise<ChildEvent> {
    const c = libc();
    const fds = new ArrayBuffer(5 * SIZEOF_POLLFD);
    const view = new DataView(fds);
    const bytes = new Uint8Array(fds);
    // struct pollfd { int fd; short events; short revents; }; an fd of -1 is passed over.
    const watch = (index: number, fd: number, events: number): void => {
      view.setInt32(index * SIZEOF_POLLFD, fd, true);
      view.setInt16(index * SIZEOF_POLLFD + 4, events, true);
      view.setInt16(index * SIZEOF_POLLFD + 6, 0, true);
    };
    const happened = (index: number) => view.getInt16(index * SIZEOF_POLLFD + 6, true) !== 0;
    for (;;) {
      const seen = this.#seen.shift();
      if (seen !== undefined) return seen;
      if (this.outputEnded && this.#exited) return { kind: "ended" };
      // A piece costs the same whatever its size, which is 20 ms where kernels are emulated. So a
      // program that writes in bulk gets the time to fill its pipe; one that does so by itself, or
      // writes a line now and then, is not waited for.
      if (this.#gather) await new Promise((resolve) => setTimeout(resolve, GATHERING));
      this.#gather = false;
      this.#feed();
      watch(0, this.#stdout, POLLIN);
      watch(1, this.#stderr, POLLIN);
      watch(2, this.#exited ? -1 : this.#pidfd, POLLIN);
      watch(3, this.#wake, POLLIN);
      watch(4, this.#inputs.length === 0 ? -1 : this.#stdin, POLLOUT);
      const ready = await c.poll(bytes, 5n, timeout ?? -1); // -1 is EINTR: look again
      if (ready === 0) return { kind: "timeout" };
      if (happened(3)) c.read(this.#wake, memory(8), 8n);
      if (happened(0)) this.#stdout = this.#take("stdout", this.#stdout);
      if (happened(1)) this.#stderr = this.#take("stderr", this.#stderr);
      if (happened(2)) { // after the output: what a program wrote before it ended comes first
        this.#exited = true;
        this.#seen.push({ kind: "exited" });
      }
    }
  }

  /** Takes what is in a pipe, up to 64 KiB; gives the pipe, or -1 when it has ended. */
  #take(kind: "stdout" | "stderr", fd: number): number {
    const c = libc();
    readBuffer ??= memory(PIPE_CAPACITY);
    const length = Number(c.read(fd, readBuffer, BigInt(PIPE_CAPACITY)));
    if (length > 0) {
      countTransferred(length);
      this.#gather ||= length >= BULK && length < PIPE_CAPACITY / 2;
      this.#seen.push({ kind, bytes: readBuffer.slice(0, length) });
      return fd;
    }
    c.close(fd);
    return -1;
  }

  /**
   * Gives the program input, after the earlier one. The child takes it while
   * {@linkcode Child.next} is waited for.
   *
   * @returns how many bytes were taken; fewer when the program closed its standard input or ended
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
    if (!this.takesInput || bytes.length === 0) return Promise.resolve(0);
    this.#queued += bytes.length;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#inputs.push({ bytes, accepted: 0, resolve });
    if (this.#inputs.length > 1) return promise; // the earlier ones are being waited for
    this.#feed();
    if (this.#inputs.length > 0) this.#notify();
    return promise;
  }

  /** The program sees the end of its input after what was written. */
  closeInput(): void {
    this.#endInput = true;
    if (this.#inputs.length === 0) this.#closeStdin();
  }

  /** Wakes a {@linkcode Child.next} under way, so that it looks at what changed. */
  #notify(): void {
    const one = memory(8);
    one[0] = 1;
    libc().write(this.#wake, one, 8n);
  }

  /** Writes pending input until the pipe is full. */
  #feed(): void {
    const c = libc();
    for (let input = this.#inputs[0]; input !== undefined; input = this.#inputs[0]) {
      const rest = input.bytes.subarray(input.accepted);
      const length = Number(c.write(this.#stdin, rest, BigInt(rest.length)));
      if (length === -1) {
        const code = errno();
        if (code === EAGAIN) return;
        if (code === EINTR) continue;
        this.#closeStdin(); // EPIPE: there is no reader
        return;
      }
      this.#written += length;
      input.accepted += length;
      if (input.accepted < input.bytes.length) continue;
      this.#inputs.shift();
      input.resolve(input.accepted);
    }
    if (this.#endInput) this.#closeStdin();
  }

  #closeStdin(): void {
    if (this.#stdin !== -1) {
      if (this.#uncounted !== undefined) {
        const link = cString(`/proc/self/fd/${this.#stdin}`); // another end of the same pipe
        this.#rest = libc().open(link, O_NONBLOCK | O_CLOEXEC);
      }
      libc().close(this.#stdin);
    }
    this.#stdin = -1;
    for (const input of this.#inputs.splice(0)) input.resolve(input.accepted);
  }

  /** Sends a signal to every process of the group; does nothing when it is gone. */
  kill(signal: number): void {
    // The leader is not reaped before #status is set, so the number cannot be another group's.
    if (this.#status === undefined) libc().kill(-this.pid, signal);
  }

  /** Ends whatever is left of the group, and takes the exit status of the child. */
  reap(): ChildStatus {
    if (this.#status !== undefined) return this.#status;
    this.kill(SIGNAL_NUMBERS.KILL);
    const status = new Int32Array(new ArrayBuffer(4));
    const usage = memory(SIZEOF_RUSAGE);
    // Blocks for no longer than the kernel needs to end the process, which has had SIGKILL.
    checked(
      libc().wait4(this.pid, new Uint8Array(status.buffer), 0, usage),
      "take the status of a child process",
    );
    this.#exited = true;
    const signal = status[0]! & 0x7f; // wait(2): WTERMSIG
    const numbers = new DataView(usage.buffer);
    const at = (offset: number) => Number(numbers.getBigInt64(offset, true));
    this.#status = {
      exitCode: signal === 0 ? (status[0]! >> 8) & 0xff : 128 + signal,
      signal,
      // struct rusage { struct timeval ru_utime, ru_stime; long ru_maxrss (KiB); ... }
      usage: {
        userMicros: at(0) * 1_000_000 + at(8),
        systemMicros: at(16) * 1_000_000 + at(24),
        peakBytes: at(32) * 1024,
      },
    };
    return this.#status;
  }

  /** Kills what runs, reaps the child and closes the pipes. */
  [Symbol.dispose](): void {
    const c = libc();
    this.reap();
    this.#closeStdin();
    for (const fd of [this.#stdout, this.#stderr, this.#pidfd, this.#wake, this.#rest]) {
      if (fd !== -1) c.close(fd);
    }
    this.#stdout =
      this.#stderr =
      this.#pidfd =
      this.#wake =
      this.#rest =
        -1;
  }
}
