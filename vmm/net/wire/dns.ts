/**
 * DNS messages (RFC 1035 section 4), as far as a resolver that knows addresses only has to.
 *
 * ```text
 * 0 identifier   2 flags   4 counts of questions, answers, authorities, additional records   12 ...
 * question: name, type, class        record: name, type, class, TTL, length, data
 * ```
 *
 * @module
 */
import { concatBytes } from "../../../base/bytes.ts";

const HEADER = 12;
/** RFC 1035 section 2.3.4. */
const MOST_LABEL = 63;
const MOST_NAME = 255;
/** Pointers that may be followed in one name: a name has at most so many labels. */
const MOST_POINTERS = 127;
/** Records that are looked at in an answer. */
const MOST_RECORDS = 256;

/** https://www.iana.org/assignments/dns-parameters: TYPE and CLASS. */
export const DnsType = { A: 1, CNAME: 5, AAAA: 28 } as const;
const CLASS_IN = 1;

/** RCODE. */
export const DnsCode = {
  NO_ERROR: 0,
  FORMAT_ERROR: 1,
  SERVER_FAILURE: 2,
  NAME_ERROR: 3,
  NOT_IMPLEMENTED: 4,
  REFUSED: 5,
} as const;

/** Bits of the second word (RFC 1035 section 4.1.1). */
const Flag = {
  RESPONSE: 0x8000,
  OPCODE: 0x7800,
  RECURSION_DESIRED: 0x100,
  AVAILABLE: 0x80,
} as const;

/** A question. */
export interface DnsQuestion {
  /** Chosen by who asks. */
  readonly id: number;
  /** Lower case, without the last dot; empty for the root. */
  readonly name: string;
  /** Type of the records that are asked for. */
  readonly type: number;
  /** Whether the question is one that can be passed on: a standard query in class IN. */
  readonly isStandard: boolean;
  /** The bytes of name, type and class, as they were asked. */
  readonly bytes: Uint8Array;
  /** Whether recursion is desired. */
  readonly recursion: boolean;
}

/** A record with an address. */
export interface DnsAddress {
  /** As a 32-bit number. */
  readonly address: number;
  /** Seconds for which it may be kept. */
  readonly ttl: number;
}

/** What an upstream resolver answered. */
export interface DnsAnswer {
  /** Of the question. */
  readonly id: number;
  /** RCODE. */
  readonly code: number;
  /** Whether it was cut off and is to be asked for by TCP. */
  readonly truncated: boolean;
  /** The name that was asked for, as in {@linkcode DnsQuestion}. */
  readonly name: string;
  /** The addresses of the name, by way of its aliases. */
  readonly addresses: readonly DnsAddress[];
}

/** A name in a message, and where it ends. */
interface Name {
  readonly name: string;
  readonly end: number;
}

/** Reads a name; undefined for one that is cut off, too long, or of other than printable ASCII. */
function readName(bytes: Uint8Array, start: number, pointers: boolean): Name | undefined {
  const labels: string[] = [];
  let length = 1;
  let end: number | undefined;
  let at = start;
  for (let jumps = 0;;) {
    const size = bytes[at];
    if (size === undefined) return undefined;
    if (size === 0) return { name: labels.join("."), end: end ?? at + 1 };
    if (size >= 0xc0) { // RFC 1035 section 4.1.4
      const low = bytes[at + 1];
      if (!pointers || low === undefined || ++jumps > MOST_POINTERS) return undefined;
      end ??= at + 2;
      at = (size & 0x3f) << 8 | low;
      continue;
    }
    if (size > MOST_LABEL || at + 1 + size > bytes.length) return undefined;
    length += size + 1;
    if (length > MOST_NAME) return undefined;
    let label = "";
    for (const byte of bytes.subarray(at + 1, at + 1 + size)) {
      if (byte <= 0x20 || byte >= 0x7f || byte === 0x2e) return undefined;
      label += String.fromCharCode(byte);
    }
    labels.push(label.toLowerCase());
    at += 1 + size;
  }
}

/**
 * Reads a question.
 *
 * @returns undefined for what deserves no answer: a response, or no message at all
 */
export function parseQuestion(bytes: Uint8Array): DnsQuestion | undefined {
  if (bytes.length < HEADER) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const flags = view.getUint16(2);
  if ((flags & Flag.RESPONSE) !== 0 || view.getUint16(4) !== 1) return undefined;
  const name = readName(bytes, HEADER, false);
  if (name === undefined || name.end + 4 > bytes.length) return undefined;
  return {
    id: view.getUint16(0),
    name: name.name,
    type: view.getUint16(name.end),
    isStandard: (flags & Flag.OPCODE) === 0 && view.getUint16(name.end + 2) === CLASS_IN,
    bytes: bytes.slice(HEADER, name.end + 4),
    recursion: (flags & Flag.RECURSION_DESIRED) !== 0,
  };
}

/** The bytes of an answer to a question. */
export function emitAnswer(
  question: DnsQuestion,
  code: number,
  addresses: readonly DnsAddress[] = [],
): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER);
  const view = new DataView(header.buffer);
  view.setUint16(0, question.id);
  const desired = question.recursion ? Flag.RECURSION_DESIRED : 0;
  view.setUint16(2, Flag.RESPONSE | Flag.AVAILABLE | desired | code);
  view.setUint16(4, 1);
  view.setUint16(6, addresses.length);
  return concatBytes([header, question.bytes, ...addresses.map(emitAddress)]);
}

function emitAddress({ address, ttl }: DnsAddress): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0xc000 | HEADER); // the name in the question
  view.setUint16(2, DnsType.A);
  view.setUint16(4, CLASS_IN);
  view.setUint32(6, ttl);
  view.setUint16(10, 4);
  view.setUint32(12, address);
  return bytes;
}

/** The bytes of a question for the addresses of a name; the name is one that was read. */
export function emitQuestion(id: number, name: string): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER);
  const view = new DataView(header.buffer);
  view.setUint16(0, id);
  view.setUint16(2, Flag.RECURSION_DESIRED);
  view.setUint16(4, 1);
  const labels = name === "" ? [] : name.split(".");
  const encoder = new TextEncoder();
  const parts = labels.map((label) => {
    const text = encoder.encode(label);
    return concatBytes([[text.length], text]);
  });
  return concatBytes([header, ...parts, [0, 0, DnsType.A, 0, CLASS_IN]]);
}

/**
 * Reads what an upstream resolver answered to a question for addresses.
 *
 * @returns undefined for what is no answer, or not to one question
 */
export function parseAnswer(bytes: Uint8Array): DnsAnswer | undefined {
  if (bytes.length < HEADER) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const flags = view.getUint16(2);
  if ((flags & Flag.RESPONSE) === 0 || view.getUint16(4) !== 1) return undefined;
  const question = readName(bytes, HEADER, false);
  if (question === undefined || question.end + 4 > bytes.length) return undefined;
  const answer = {
    id: view.getUint16(0),
    code: flags & 15,
    truncated: (flags & 0x200) !== 0,
    name: question.name,
  };
  // Only records of the name that was asked for, and of what it is an alias of, are its addresses:
  // RFC 1034 section 3.6.2.
  const names = new Set([question.name]);
  const addresses: DnsAddress[] = [];
  let at = question.end + 4;
  for (let n = Math.min(view.getUint16(6), MOST_RECORDS); n > 0; n--) {
    const owner = readName(bytes, at, true);
    if (owner === undefined || owner.end + 10 > bytes.length) break;
    const [type, kind] = [view.getUint16(owner.end), view.getUint16(owner.end + 2)];
    const data = owner.end + 10;
    const size = view.getUint16(owner.end + 8);
    if (data + size > bytes.length) break;
    at = data + size;
    if (kind !== CLASS_IN || !names.has(owner.name)) continue;
    if (type === DnsType.A && size === 4) {
      addresses.push({ address: view.getUint32(data), ttl: view.getUint32(owner.end + 4) });
    }
    const alias = type === DnsType.CNAME ? readName(bytes, data, true) : undefined;
    if (alias !== undefined) names.add(alias.name);
  }
  return { ...answer, addresses };
}
