/**
 * How the main thread steers a vCPU thread that is deep in KVM_RUN: a few shared words, and a kick.
 *
 * @module
 */
import { futexWait, futexWake } from "../../ffi/futex.ts";
import { check, libc } from "../../ffi/libc.ts";
import { kvm_run } from "../../ffi/uapi/kvm.ts";

/** Milliseconds of a clock that is the same in all threads (`performance.now()` is not). */
export function hostMillis(): number {
  return millisOf(readClock());
}

/** The clock as a struct timespec, in the buffer that all calls share. */
function readClock(): BigInt64Array {
  check("clock_gettime", libc().clock_gettime(CLOCK_MONOTONIC, timespecBytes));
  return timespec;
}

function millisOf([seconds, nanoseconds]: BigInt64Array): number {
  return Number(seconds) * 1e3 + Number(nanoseconds) / 1e6;
}

/** time.h */
export const CLOCK_MONOTONIC = 1;
const timespec = new BigInt64Array(2);
const timespecBytes = new Uint8Array(timespec.buffer);

const enum Word {
  Command,
  State,
  Tid,
  IoExits,
  MmioExits,
  Assists,
  Kicks,
  /** A struct timespec, at a multiple of 8 bytes: see {@linkcode VcpuControl.enteredAt}. */
  EnteredAt = 8,
  End = EnteredAt + 4,
}

/** Where words are that the instructions of run_call.ts use, in bytes; below 128. */
export const WORDS = {
  command: Word.Command * 4,
  state: Word.State * 4,
  tid: Word.Tid * 4,
  enteredAt: Word.EnteredAt * 4,
} as const;

/** What the thread shall do. */
export const Command = { Pause: 0, Run: 1, Stop: 2 } as const;
/** A value of {@linkcode Command}. */
export type Command = (typeof Command)[keyof typeof Command];

/** What the thread does. */
export const State = { Starting: 0, Paused: 1, Running: 2, Ended: 3 } as const;
/** A value of {@linkcode State}. */
export type State = (typeof State)[keyof typeof State];

/** How often a vCPU left the kernel, by reason. */
export interface ExitCounts {
  /** Port I/O. */
  readonly io: number;
  /** Memory-mapped I/O. */
  readonly mmio: number;
  /** Instructions done by the VMM. */
  readonly assists: number;
  /** Kicks. */
  readonly kicks: number;
}

/**
 * `immediate_exit` of kvm_run: KVM_RUN returns EINTR at once while it is set.
 *
 * Both changes are exchanges, since x86 lets a plain store wait in its processor while later loads
 * go on:
 *
 * - The main thread raises it, then loads the thread's id to send a signal. With a plain store the id
 *   could be loaded (0: in no call) before the byte is visible, while the vCPU's thread stores its id
 *   and loads the byte (0): no signal, no exit, and the pause waits for ever.
 * - The vCPU's thread clears it, then loads the command. With a plain store the command could be
 *   loaded (Run), then the main thread stores Pause and raises the byte, and only then the 0 arrives
 *   and takes the kick away.
 */
export class ImmediateExit {
  readonly #byte: Uint8Array;

  /**
   * @param buffer with kvm_run in it, as every thread of the process sees it
   * @param offset of the byte
   */
  constructor(buffer: ArrayBufferLike, offset: number = kvm_run.offsets.immediate_exit) {
    this.#byte = new Uint8Array(buffer, offset, 1);
  }

  /** Main thread: the next KVM_RUN returns at once. A load that follows is done afterwards. */
  raise(): void {
    Atomics.exchange(this.#byte, 0, 1);
  }

  /** vCPU thread: KVM_RUN enters the guest again. A load that follows is done afterwards. */
  clear(): void {
    Atomics.exchange(this.#byte, 0, 0);
  }
}

/** The shared words, from either side. */
export class VcpuControl {
  /** What is shared. */
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #entered: BigInt64Array<SharedArrayBuffer>;
  #address: Deno.PointerObject | undefined;

  /** @param shared of another thread's control; a new one when left out */
  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(Word.End * 4)) {
    this.shared = shared;
    this.#words = new Int32Array(shared);
    this.#entered = new BigInt64Array(shared, Word.EnteredAt * 4, 2);
  }

  /** Where the words are, in this process; the first is the command. They must be kept meanwhile. */
  get address(): Deno.PointerObject {
    // SAFETY: of what this object keeps; callers use it only while they keep this object.
    return this.#address ??= Deno.UnsafePointer.of(this.#words)!;
  }

  /** What the thread shall do. */
  get command(): Command {
    return Atomics.load(this.#words, Word.Command) as Command;
  }

  /** Main thread: gives a command. Stop is final. */
  set command(command: Command) {
    if (this.command === Command.Stop) return;
    Atomics.store(this.#words, Word.Command, command);
    futexWake(this.address);
  }

  /** vCPU thread: sleeps until the command may be another one. */
  waitForOtherCommand(than: Command): void {
    futexWait(this.address, than);
  }

  /** What the thread does. */
  get state(): State {
    return Atomics.load(this.#words, Word.State) as State;
  }

  /** vCPU thread: tells what it does. */
  set state(state: State) {
    Atomics.store(this.#words, Word.State, state);
    Atomics.notify(this.#words, Word.State);
  }

  /** Main thread: settles when the thread is in one of the states. */
  async reached(...states: readonly State[]): Promise<State> {
    for (;;) {
      const state = this.state;
      if (states.includes(state)) return state;
      const wait = Atomics.waitAsync(this.#words, Word.State, state);
      if (wait.async) await wait.value;
    }
  }

  /** Thread id for signals; 0 before the thread has started. */
  get tid(): number {
    return Atomics.load(this.#words, Word.Tid);
  }

  /** vCPU thread: tells its id. */
  set tid(tid: number) {
    Atomics.store(this.#words, Word.Tid, tid);
  }

  /** When the vCPU first went into the guest, on the clock of {@linkcode hostMillis}; 0 before. */
  get enteredAt(): number {
    // The kernel writes one after the other.
    return this.#entered.includes(0n) ? 0 : millisOf(this.#entered);
  }

  /** vCPU thread: is about to go into the guest. */
  noteEntry(): void {
    if (this.#entered[0] === 0n) this.#entered.set(readClock());
  }

  /** Counts an exit; only the vCPU thread writes, so no atomic operation is needed. */
  countIo(): void {
    this.#words[Word.IoExits]!++;
  }

  /** Counts an exit. */
  countMmio(): void {
    this.#words[Word.MmioExits]!++;
  }

  /** Counts an instruction. */
  countAssist(): void {
    this.#words[Word.Assists]!++;
  }

  /** Counts a kick. */
  countKick(): void {
    this.#words[Word.Kicks]!++;
  }

  /** How often the vCPU left the kernel. */
  get counts(): ExitCounts {
    return {
      io: this.#words[Word.IoExits]!,
      mmio: this.#words[Word.MmioExits]!,
      assists: this.#words[Word.Assists]!,
      kicks: this.#words[Word.Kicks]!,
    };
  }
}
