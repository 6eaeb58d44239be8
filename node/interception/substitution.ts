/**
 * Putting values in the place of placeholders, and back.
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";

/** Bytes to look for, and what takes their place. */
export type Replacement = readonly [find: Uint8Array, put: Uint8Array];

const utf8 = new TextEncoder();

/** A replacement of texts. */
export function replacement(find: string, put: string): Replacement {
  return [utf8.encode(find), utf8.encode(put)];
}

function indexOf(bytes: Uint8Array, find: Uint8Array, from: number): number {
  const last = bytes.length - find.length;
  for (let at = bytes.indexOf(find[0]!, from); at >= 0 && at <= last;) {
    let i = 1;
    while (i < find.length && bytes[at + i] === find[i]) i++;
    if (i === find.length) return at;
    at = bytes.indexOf(find[0]!, at + 1);
  }
  return -1;
}

/** Replaces in a stream, whose pieces may cut what is looked for. */
export class Replacer {
  readonly #replacements: readonly Replacement[];
  /** Bytes that may be the beginning of something: less than the longest that is looked for. */
  #rest: Uint8Array = new Uint8Array(0);

  /** @param replacements none of which is empty; the first one that begins counts */
  constructor(replacements: readonly Replacement[]) {
    this.#replacements = replacements;
  }

  /** Takes a piece; returns what is certain. */
  push(piece: Uint8Array): Uint8Array {
    return this.#replace(concatBytes([this.#rest, piece]), true);
  }

  /** What is left at the end. */
  end(): Uint8Array {
    return this.#replace(this.#rest, false);
  }

  #replace(bytes: Uint8Array, more: boolean): Uint8Array {
    const parts: Uint8Array[] = [];
    let from = 0;
    for (;;) {
      let [at, found] = [-1, undefined as Replacement | undefined];
      for (const candidate of this.#replacements) {
        const place = indexOf(bytes, candidate[0], from);
        if (place >= 0 && (at < 0 || place < at)) [at, found] = [place, candidate];
      }
      if (found === undefined) break;
      parts.push(bytes.subarray(from, at), found[1]);
      from = at + found[0].length;
    }
    const end = more ? this.#begun(bytes, from) : bytes.length;
    parts.push(bytes.subarray(from, end));
    this.#rest = bytes.slice(end);
    return concatBytes(parts);
  }

  /** Where something begins that the next piece may finish; a stream's last words wait for nothing else. */
  #begun(bytes: Uint8Array, from: number): number {
    const longest = Math.max(0, ...this.#replacements.map(([find]) => find.length - 1));
    for (let at = Math.max(from, bytes.length - longest); at < bytes.length; at++) {
      const tail = bytes.subarray(at);
      const begins = ([find]: Replacement) =>
        tail.length < find.length && tail.every((byte, i) => byte === find[i]);
      if (this.#replacements.some(begins)) return at;
    }
    return bytes.length;
  }
}

/** The same of something whole. */
export function replaced(bytes: Uint8Array, replacements: readonly Replacement[]): Uint8Array {
  const replacer = new Replacer(replacements);
  return concatBytes([replacer.push(bytes), replacer.end()]);
}
