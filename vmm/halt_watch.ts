/**
 * When to look whether a VM has halted for good without a word: first after a second, then ever later.
 * A look stops the guest for a moment, which a hundred idle ones would notice.
 *
 * @module
 */
const FIRST_MS = 1000;
const LAST_MS = 32_000;

/** Calls `look` from time to time. */
export class HaltWatch implements Disposable {
  readonly #look: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param look whether the VM has halted */
  constructor(look: () => void) {
    this.#look = look;
  }

  /** Begins anew: the guest runs. */
  start(): void {
    this.#after(FIRST_MS);
  }

  #after(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#after(Math.min(2 * milliseconds, LAST_MS));
      this.#look();
    }, milliseconds);
  }

  /** Looks no more. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
