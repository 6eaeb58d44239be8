/**
 * Reading many contents of a {@linkcode Tree} in a row.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import type { Content } from "./tree.ts";

/** Reads contents one after the other; keeps the last files open, since most are slices of a few. */
export class ContentReader implements Disposable {
  readonly #open = new Map<string, { file: Deno.FsFile; position: number }>();

  /**
   * Fills `into` from `content`, from `done` bytes after its start on.
   *
   * @param goal whose content it is, for messages
   * @throws {CloudletError} `host` when the host's file is gone or shorter than it was
   */
  read(
    content: Content,
    done: number,
    into: Uint8Array,
    goal: string,
  ): void {
    if (content.kind === "bytes") {
      into.set(content.bytes.subarray(done, done + into.length));
      return;
    }
    const source = this.#get(content.path, goal);
    const position = content.offset + done;
    if (source.position !== position) source.file.seekSync(position, Deno.SeekMode.Start);
    for (let got = 0; got < into.length;) {
      const count = source.file.readSync(into.subarray(got));
      if (count === null) {
        const end = content.offset + content.size;
        throw unreadable(goal, `${content.path} ended before byte ${end}`);
      }
      got += count;
    }
    source.position = position + into.length;
  }

  #get(path: string, goal: string): { file: Deno.FsFile; position: number } {
    let source = this.#open.get(path);
    if (source === undefined) {
      const oldest = this.#open.size >= 32 ? this.#open.keys().next().value : undefined;
      if (oldest !== undefined) {
        this.#open.get(oldest)!.file.close();
        this.#open.delete(oldest);
      }
      try {
        source = { file: Deno.openSync(path), position: 0 };
      } catch (cause) {
        throw unreadable(goal, messageOf(cause), cause);
      }
    }
    this.#open.delete(path); // to the end: the order is that of use
    this.#open.set(path, source);
    return source;
  }

  /** Closes the files. */
  [Symbol.dispose](): void {
    for (const { file } of this.#open.values()) file.close();
    this.#open.clear();
  }
}

function unreadable(goal: string, why: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot read the content of ${goal}: ${why}`, {
    code: "host",
    remedy: "something changed the cache while it was in use; build again",
    cause,
  });
}
