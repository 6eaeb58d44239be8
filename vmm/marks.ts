/**
 * Lines in a console's output that tell how far the guest is: `NONCE:init`, `NONCE:begin` and
 * `NONCE:exit:CODE`, as builder/initramfs/init.sh writes them. The nonce is random, so nothing else
 * in the output looks like one.
 *
 * @module
 */
import { concatBytes } from "../base/bytes.ts";

/** A line that was found, or output before, between and behind such lines. */
export type MarkEvent =
  | { readonly kind: "output"; readonly bytes: Uint8Array }
  | { readonly kind: "init" }
  | { readonly kind: "begin" }
  | { readonly kind: "exit"; readonly code: number };

const LINE = /^(init|begin|exit:(\d{1,3}))\r?$/;
const NEWLINE = 0x0a;
/** Bytes of the longest line behind the nonce, with its end. */
const LONGEST = ":exit:255\r\n".length;

/** Takes a stream apart. */
export class MarkScanner {
  readonly #nonce: Uint8Array;
  #held: Uint8Array = new Uint8Array(0);

  /** @param nonce ASCII, in no other output */
  constructor(nonce: string) {
    this.#nonce = new TextEncoder().encode(nonce);
  }

  /** What the next bytes of the stream bring; what may be the start of a mark is held back. */
  *push(chunk: Uint8Array): Generator<MarkEvent> {
    let bytes = concatBytes([this.#held, chunk]);
    this.#held = new Uint8Array(0);
    while (bytes.length > 0) {
      const start = this.#find(bytes);
      if (start > 0) yield { kind: "output", bytes: bytes.subarray(0, start) };
      bytes = bytes.subarray(start);
      if (bytes.length === 0) return;
      const end = bytes.indexOf(NEWLINE);
      const length = this.#nonce.length;
      if (bytes.length < length || (end < 0 && bytes.length < length + LONGEST)) {
        this.#held = bytes.slice();
        return;
      }
      const mark = end < 0 ? undefined : parse(bytes.subarray(length, end));
      if (mark === undefined) { // somebody has learnt the nonce and plays with it
        yield { kind: "output", bytes: bytes.subarray(0, length) };
        bytes = bytes.subarray(length);
      } else {
        yield mark;
        bytes = bytes.subarray(end + 1);
      }
    }
  }

  /** The stream has ended: what was held back is output. */
  *end(): Generator<MarkEvent> {
    if (this.#held.length > 0) yield { kind: "output", bytes: this.#held };
    this.#held = new Uint8Array(0);
  }

  /** Where the nonce, or a part of it at the end, begins; the length when nowhere. */
  #find(bytes: Uint8Array): number {
    const nonce = this.#nonce;
    for (let at = bytes.indexOf(nonce[0]!); at >= 0; at = bytes.indexOf(nonce[0]!, at + 1)) {
      let same = 1;
      while (same < nonce.length && at + same < bytes.length && bytes[at + same] === nonce[same]) {
        same++;
      }
      if (same === nonce.length || at + same === bytes.length) return at;
    }
    return bytes.length;
  }
}

function parse(line: Uint8Array): MarkEvent | undefined {
  const match = line[0] === 0x3a ? LINE.exec(new TextDecoder().decode(line.subarray(1))) : null;
  if (match === null) return undefined;
  if (match[2] !== undefined) {
    const code = Number(match[2]);
    return code <= 255 ? { kind: "exit", code } : undefined;
  }
  return { kind: match[1] as "init" | "begin" };
}
