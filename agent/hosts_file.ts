/**
 * `/etc/hosts`: the guest's own name resolves, as container runtimes and Debian's installer see to.
 *
 * Each clone has another name, so this happens in every run. The file stays open, and the line has one
 * length for all names: a call that finds the file as it left it makes three system calls.
 *
 * @module
 */

const MAX_SIZE = 1024 * 1024; // bytes; what is longer is left alone
const NAME_WIDTH = 64; // bytes: __NEW_UTS_LEN of include/uapi/linux/utsname.h
/** hosts(5); Debian reference 5.1.1: "127.0.1.1" for a host without a permanent address. */
const ADDRESS = "127.0.1.1";
/** What the images of Debian packages have for a guest without a name. */
const BEFORE = `${ADDRESS}\tcloudlet\n`;
const LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/** The file as this left it. */
interface Written {
  readonly file: Deno.FsFile;
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
   */
  name(hostname: string): void {
    try {
      this.#name(`${ADDRESS}\t${hostname.padEnd(NAME_WIDTH)}\n`);
    } catch {
      this[Symbol.dispose](); // read-only, a directory, a link that leads nowhere
    }
  }

  #name(line: string): void {
    const written = this.#current() ?? this.#open();
    if (written === undefined) return;
    const { file, start } = written;
    file.seekSync(start, Deno.SeekMode.Start);
    for (let rest = utf8.encode(line); rest.length > 0;) rest = rest.subarray(file.writeSync(rest));
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
    const file = Deno.openSync(this.#path, { read: true, write: true });
    const { ino } = file.statSync();
    const start = bytes.length - line.length;
    return this.#written = { file, inode: ino, size: bytes.length, start, line };
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#written?.file.close();
    this.#written = undefined;
  }
}
