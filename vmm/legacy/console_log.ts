/**
 * What the kernel said on the serial console last: how it ended, and why.
 *
 * The text is the guest's, so it explains an end that KVM reported; it never is the evidence for one.
 *
 * @module
 */

const KEEP = 64 * 1024; // characters

/** PRINTK_TIME's stamp, if it is there. */
const STAMP = String.raw`(?:^|\n)(?:\[ *\d+\.\d+\] )?`;
const PANIC = new RegExp(`${STAMP}Kernel panic - not syncing: ([^\\r\\n]*)`);
/** A kernel that knows no way to power off halts; newer ones say why. */
const DOWN = new RegExp(
  `${STAMP}reboot: (Power down|System halted|Power off not available: System halted instead)`,
);
const OOM = new RegExp(`${STAMP}(Out of memory[^\\r\\n]*)`, "g");

/** The end of the log. */
export class ConsoleLog {
  #text = "";
  readonly #decoder = new TextDecoder();

  /** Adds output; only the last 64 KiB are kept. */
  append(chunk: Uint8Array): void {
    const text = this.#text + this.#decoder.decode(chunk, { stream: true });
    this.#text = text.length > KEEP ? text.slice(-KEEP) : text;
  }

  /** What is kept. */
  get text(): string {
    return this.#text;
  }

  /** The reason of a kernel panic. */
  get panic(): string | undefined {
    return PANIC.exec(this.#text)?.[1];
  }

  /** Whether the kernel said that it has switched the machine off. */
  get down(): boolean {
    return DOWN.test(this.#text);
  }

  /** What the out-of-memory killer said. */
  get outOfMemory(): string[] {
    return Array.from(this.#text.matchAll(OOM), (match) => match[1]!);
  }
}
