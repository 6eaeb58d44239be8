/**
 * `/etc/hosts`: the guest's own name resolves, as container runtimes and Debian's installer see to.
 *
 * Each clone has another name, so this happens in every run, and a system call on a file takes ten
 * milliseconds where kernels are emulated. The file stays open, and the line has one length for all
 * names: a clone in which nothing has run yet makes one call.
 *
 * @module
 */

import { checked, cString, libc, O_CLOEXEC } from "./libc.ts";

const MAX_SIZE = 1024 * 1024; // bytes; what is longer is left alone
const O_RDWR = 2;
const NAME_WIDTH = 64; // bytes: __NEW_UTS_LEN of include/uapi/linux/utsname.h
/** hosts(5); Debian reference 5.1.1: "127.0.1.1" for a host without a permanent address. */
const ADDRESS = "127.0.1.1";
/** What the images of Debian packages have for a guest without a name. */
const BEFORE = `${ADDRESS}\tcloudlet\n`;
const LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/** The file as this left it. */
interface Written {
  /** Descriptor. */
  readonly file: number;
  readonly inode: number | null;
  /** In bytes, the line included. */
  readonly size: number;
  /** Where the line begins. */
  readonly start: number;
  readonly line: string;
}

const utf8 = new TextEncoder();

/** See the module. */
export class HostsFile implements Disposable {
  readonly #path: string;
  #written: Written | undefined;

  /** @param path other than `/etc/hosts`, for tests */
  constructor(path = "/etc/hosts") {
    this.#path = path;
  }

  /**
   * Makes `hostname` resolve, in place of the name before. Nothing happens in an image in which that
   * cannot be: its programs run all the same.
   *
   * @param untouched whether no program has run since the last call, which could have changed the file
   */
  name(hostname: string, untouched = false): void {
    try {
      this.#name(`${ADDRESS}\t${hostname.padEnd(NAME_WIDTH)}\n`, untouched);
    } catch {
      this[Symbol.dispose](); // read-only, a directory, a link that leads nowhere
    }
  }

  #name(line: string, untouched: boolean): void {
    const written = (untouched ? this.#written : this.#current()) ?? this.#open();
    if (written === undefined) return;
    const { file, start } = written;
    const bytes = utf8.encode(line);
    for (let done = 0; done < bytes.length;) {
      const size = BigInt(bytes.length - done);
      const count = libc().pwrite(file, bytes.subarray(done), size, BigInt(start + done));
      done += Number(checked(Number(count), "write the hosts file"));
    }
    this.#written = { ...written, line };
  }

  /** What was written last, if nothing else changed the file since. */
  #current(): Written | undefined {
    if (this.#written === undefined) return undefined;
    const { ino, size } = Deno.statSync(this.#path);
    return ino === this.#written.inode && size === this.#written.size ? this.#written : undefined;
  }

  #open(): Written | undefined {
    const own = this.#written?.line;
    this[Symbol.dispose]();
    let text = "";
    try {
      const { isFile, size } = Deno.statSync(this.#path);
      if (!isFile || size > MAX_SIZE) return undefined;
      text = Deno.readTextFileSync(this.#path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    text = text.replace(own ?? BEFORE, "");
    if (text.trim() === "") text = LOCALHOST;
    if (!text.endsWith("\n")) text += "\n";
    const line = `${ADDRESS}\t${"localhost".padEnd(NAME_WIDTH)}\n`; // until the name is there
    const bytes = utf8.encode(text + line);
    Deno.writeFileSync(this.#path, bytes); // in an overlay, this copies the file up
    const { ino } = Deno.statSync(this.#path);
    const file = checked(
      libc().open(cString(this.#path), O_RDWR | O_CLOEXEC),
      "open the hosts file",
    );
    const start = bytes.length - line.length;
    return this.#written = { file, inode: ino, size: bytes.length, start, line };
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    if (this.#written !== undefined) libc().close(this.#written.file);
    this.#written = undefined;
  }
}
