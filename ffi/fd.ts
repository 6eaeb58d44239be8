/**
 * File descriptors with an owner.
 *
 * @module
 */
import { cString, libc, retry } from "./libc.ts";

/** A file descriptor that is closed when its owner is disposed. */
export class OwnedFd implements Disposable {
  #fd: number;

  /** @param fd an open descriptor, which this object closes from now on */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * Opens a path.
   *
   * @param path what to open
   * @param flags `O_*`
   * @throws {SyscallError} when the kernel refuses
   */
  static open(path: string, flags: number): OwnedFd {
    const name = cString(path);
    return new OwnedFd(retry(`open ${path}`, () => libc().open(name, flags, 0)));
  }

  /** The number. Throws when it is closed already, so that a reused number is never hit. */
  get fd(): number {
    if (this.#fd < 0) throw new TypeError("Cannot use a file descriptor: it is closed");
    return this.#fd;
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Closes it; does nothing the second time. */
  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    libc().close(fd); // close(2): "Retrying the close() after a failure return is the wrong thing"
  }
}
