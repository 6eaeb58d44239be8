/**
 * Files that come back from a run, checked: the guest that sends them is not trusted.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { checkPath, LIMITS } from "../../workload/request.ts";
import type { File } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { pathInWorkload } from "./workload_paths.ts";

/** A piece of a file that came back. */
export interface OutputPiece {
  /** What was asked for, as it was written; and below a directory, the names that lead to the file. */
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  /** Bytes of the file before this piece; each file begins with one at 0. */
  readonly offset: number;
  /** The bytes. */
  readonly data: Uint8Array;
}

/** How much may come back from one run. */
export interface OutputLimits {
  readonly files: number;
  /** Of all files together. */
  readonly bytes: number;
  /** Of all files together; an agent's have 256 KiB, but for the last one of a file. */
  readonly pieces: number;
}

const DEFAULT_LIMITS: OutputLimits = { files: LIMITS.files, bytes: 1 << 30, pieces: 1 << 15 };

/** What is asked for, and what came of it. */
export class OutputFiles {
  /** Paths from the workload's top, for the agent. */
  readonly paths: readonly string[];
  readonly #asked: readonly (readonly [inGuest: string, written: string])[];
  readonly #limits: OutputLimits;
  readonly #lengths = new Map<string, number>();
  #bytes = 0;
  #pieces = 0;

  /**
   * @param written files and directories, relative to where the program runs
   * @param base where it runs, relative to the workload's top
   * @throws {CloudletError} `invalid-input` for a path that is not below the top, or in another one
   */
  constructor(written: readonly string[], base: string, limits: OutputLimits = DEFAULT_LIMITS) {
    this.#asked = written.map((path) =>
      [pathInWorkload(path, base, "Cannot take a file out"), path] as const
    );
    this.paths = this.#asked.map(([path]) => path);
    this.#limits = limits;
    for (const [i, [path, inner]] of this.#asked.entries()) {
      const outer = this.#asked.find(([other], j) => i !== j && `${path}/`.startsWith(`${other}/`));
      if (outer === undefined) continue;
      throw new CloudletError(
        `Cannot take files out: ${JSON.stringify(inner)} is in ${JSON.stringify(outer[1])}`,
        { code: "invalid-input", remedy: "name each file once" },
      );
    }
  }

  /**
   * Checks a piece.
   *
   * @throws {CloudletError} `guest` for what was not asked for, or is more than may come back
   */
  take({ path, mode, offset, content }: File): OutputPiece {
    const { files, bytes, pieces } = this.#limits;
    const found = this.#asked.find(([asked]) => path === asked || path.startsWith(`${asked}/`));
    if (found === undefined) throw refuse("it sends files that were not asked for");
    try {
      checkPath(path, "a file");
    } catch {
      throw refuse("it sends a file with a path that leads elsewhere");
    }
    const length = this.#lengths.get(path);
    if (offset !== BigInt(length ?? 0)) throw refuse("the pieces of a file are out of order");
    if (length === undefined && this.#lengths.size === files) {
      throw refuse(`they are more than ${files}`);
    }
    if (this.#bytes + content.length > bytes) throw refuse(`they are more than ${bytes} bytes`);
    if (this.#pieces === pieces) throw refuse(`they come in more than ${pieces} pieces`);
    this.#pieces++;
    this.#bytes += content.length;
    this.#lengths.set(path, (length ?? 0) + content.length);
    const [inGuest, written] = found;
    return {
      path: path === inGuest
        ? written
        : `${written.replace(/\/+$/, "")}${path.slice(inGuest.length)}`,
      mode: mode & 0o777,
      offset: Number(offset),
      data: content,
    };
  }
}

function refuse(why: string): CloudletError {
  return new CloudletError(`Cannot take the program's files: ${why}`, {
    code: "guest",
    remedy: "ask for fewer files, or pack them into one",
  });
}
