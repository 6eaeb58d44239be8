/**
 * What building made of a workload, as it comes out of a guest.
 *
 * @module
 */
import { create } from "@bufbuild/protobuf";
import { LIMITS } from "../workload/request.ts";
import { CloudletError } from "../base/errors.ts";
import { type File, FileSchema } from "../proto/gen/cloudlet/agent/agent_pb.ts";

/** How much building may make of a workload. */
export interface BuiltLimits {
  readonly files: number;
  /** Of all files together. */
  readonly bytes: number;
  /** Of all files together; the agent's are of 256 KiB, but for the last of a file. */
  readonly pieces: number;
}

/** What is kept of a workload. */
export const BUILT_LIMITS: BuiltLimits = { files: 1000, bytes: 128 << 20, pieces: 4096 };

/** A file that grows. */
interface Growing {
  readonly mode: number;
  readonly pieces: Uint8Array[];
  length: number;
}

/** Puts together the pieces of what building made; the guest that sends them is not trusted. */
export class BuiltFiles {
  readonly #limits: BuiltLimits;
  readonly #files = new Map<string, Growing>();
  #bytes = 0;
  #pieces = 0;

  /** @param limits how much is taken */
  constructor(limits: BuiltLimits = BUILT_LIMITS) {
    this.#limits = limits;
  }

  /** Bytes so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Adds a piece. Each costs the same, however many there are.
   *
   * @throws {CloudletError} `guest` for what no agent sends, or for more than is kept
   */
  add({ path, mode, offset, content }: File): void {
    const { files, bytes, pieces } = this.#limits;
    const file = this.#files.get(path);
    if (path.length > LIMITS.path) throw refuse("the path of a file is too long");
    if (offset !== BigInt(file?.length ?? 0)) throw refuse("the pieces of a file are out of order");
    if (this.#bytes + content.length > bytes) throw refuse(`they are more than ${bytes} bytes`);
    if (this.#pieces === pieces) throw refuse(`they come in more than ${pieces} pieces`);
    if (file === undefined && this.#files.size === files) {
      throw refuse(`they are more than ${files}`);
    }
    this.#pieces++;
    this.#bytes += content.length;
    if (file === undefined) {
      this.#files.set(path, { mode, pieces: [content], length: content.length });
      return;
    }
    file.pieces.push(content);
    file.length += content.length;
  }

  /** The files. */
  get files(): readonly File[] {
    return [...this.#files].map(([path, { mode, pieces, length }]) => {
      const content = new Uint8Array(length);
      let at = 0;
      for (const piece of pieces) {
        content.set(piece, at);
        at += piece.length;
      }
      return create(FileSchema, { path, mode, content });
    });
  }
}

function refuse(why: string): CloudletError {
  return new CloudletError(`Cannot keep the files that building made: ${why}`, {
    code: "guest",
    remedy: "prepare and run the workload in one go",
  });
}
