/**
 * A kernel image on the host's disk, read in pieces, and the plan of how it goes into guest memory.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";

/** Somewhere to read a kernel from. */
export interface KernelFile {
  /** For messages. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Reads exactly `length` bytes.
   *
   * @throws {CloudletError} `invalid-input` when the file ends before
   */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
  /** As {@linkcode read}, into memory that the caller has; false when the file ends before. */
  readInto(offset: number, target: Uint8Array): boolean;
}

/** A piece of the file and where it goes; `memorySize - fileSize` bytes of zeros follow. */
export interface LoadSegment {
  /** Guest-physical address. */
  readonly address: number;
  /** Offset in the file. */
  readonly offset: number;
  /** Bytes in the file. */
  readonly fileSize: number;
  /** Bytes in memory. */
  readonly memorySize: number;
}

/** How to load a kernel. */
export interface LoadPlan {
  /** What kind of file it is. */
  readonly format: "elf" | "bzImage";
  /** What goes where. */
  readonly segments: readonly LoadSegment[];
  /** Guest-physical address of the 64-bit entry point. */
  readonly entry: number;
  /** The setup header of a bzImage, for boot_params. */
  readonly setupHeader?: Uint8Array<ArrayBuffer>;
  /** First address behind what the kernel needs before it reads the memory map. */
  readonly end?: number;
}

/** The error for a file that is no usable kernel. */
export function invalidKernel(file: Pick<KernelFile, "path">, why: string): CloudletError {
  return new CloudletError(`Cannot load the kernel ${file.path}: ${why}`, {
    code: "invalid-input",
    remedy: "give an x86-64 Linux kernel: an uncompressed vmlinux (ELF) or a bzImage",
  });
}

/** A kernel file that is open. */
export class OpenKernelFile implements KernelFile, Disposable {
  readonly path: string;
  readonly size: number;
  readonly #file: Deno.FsFile;

  private constructor(path: string, file: Deno.FsFile, size: number) {
    this.path = path;
    this.#file = file;
    this.size = size;
  }

  /**
   * Opens a kernel.
   *
   * @throws {CloudletError} `not-found` or `invalid-input` with the reason
   */
  static open(path: string): OpenKernelFile {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(path);
    } catch (cause) {
      if (!(cause instanceof Error)) throw cause;
      const missing = cause instanceof Deno.errors.NotFound;
      throw new CloudletError(
        `Cannot load the kernel ${path}: ${missing ? "there is no such file" : cause.message}`,
        {
          code: missing ? "not-found" : "invalid-input",
          remedy: "give the path of a vmlinux or bzImage that you can read",
          cause,
        },
      );
    }
    try {
      const { isFile, size } = file.statSync();
      if (!isFile) throw invalidKernel({ path }, "it is not a regular file");
      if (size === 0) throw invalidKernel({ path }, "it is empty");
      return new OpenKernelFile(path, file, size);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    if (!(offset >= 0) || !(length >= 0) || !(offset + length <= this.size)) {
      throw invalidKernel(this, "it is truncated");
    }
    const bytes = new Uint8Array(length);
    if (!this.readInto(offset, bytes)) throw invalidKernel(this, "it is truncated");
    return bytes;
  }

  readInto(offset: number, target: Uint8Array): boolean {
    this.#file.seekSync(offset, Deno.SeekMode.Start);
    let done = 0;
    while (done < target.length) {
      const count = this.#file.readSync(target.subarray(done));
      if (count === null) return false;
      done += count;
    }
    return true;
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
