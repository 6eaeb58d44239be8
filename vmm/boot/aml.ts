/**
 * ACPI Machine Language, as far as a description of fixed devices needs it: ACPI 6.4 chapter 20,
 * resource descriptors of chapter 6.4. Every function returns the encoding of one term.
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";

/** An encoded term. */
export type Aml = Uint8Array<ArrayBuffer>;

// 20.3, table 20.1
const ZERO_OP = 0x00;
const ONE_OP = 0x01;
const NAME_OP = 0x08;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;
const EXT_PREFIX = 0x5b;
const DEVICE_OP = 0x82; // after EXT_PREFIX

const MAX_LENGTH = (1 << 20) - 1; // enough for any table, with three bytes

function join(...parts: readonly (Uint8Array | readonly number[])[]): Aml {
  return concatBytes(parts);
}

function littleEndian(value: number, size: 2 | 4): number[] {
  return Array.from({ length: size }, (_, i) => (value >>> (8 * i)) & 0xff);
}

/** 20.2.4: the length of what follows, its own bytes included. */
function packageLength(content: number): number[] {
  if (content + 1 < 1 << 6) return [content + 1];
  const total = content + (content + 2 < 1 << 12 ? 2 : 3);
  if (total > MAX_LENGTH) throw new RangeError(`${content} bytes do not fit into an AML package`);
  // Bits 7 and 6 of the lead byte count the bytes behind it, bits 3 to 0 are the lowest of the length.
  return total < 1 << 12
    ? [1 << 6 | total & 0xf, total >>> 4]
    : [2 << 6 | total & 0xf, total >>> 4 & 0xff, total >>> 12];
}

/** 20.2.2: a name segment of up to four characters, in the scope that it is in. */
function nameSegment(name: string): Aml {
  if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(name)) throw new RangeError(`${name} is no AML name`);
  return new TextEncoder().encode(name.padEnd(4, "_"));
}

/** 20.2.3: an unsigned integer of up to 32 bits. */
export function integer(value: number): Aml {
  if (value === 0) return join([ZERO_OP]);
  if (value === 1) return join([ONE_OP]);
  if (value <= 0xff) return join([BYTE_PREFIX, value]);
  if (value <= 0xffff) return join([WORD_PREFIX], littleEndian(value, 2));
  return join([DWORD_PREFIX], littleEndian(value, 4));
}

/** 20.2.3: an ASCII string. */
export function string(text: string): Aml {
  return join([STRING_PREFIX], new TextEncoder().encode(text), [0]);
}

/** 20.2.5.1: DefName. */
export function name(path: string, value: Aml): Aml {
  return join([NAME_OP], nameSegment(path), value);
}

/** 20.2.5.1: DefScope. */
export function scope(path: string, ...terms: readonly Aml[]): Aml {
  const content = join(nameSegment(path), ...terms);
  return join([SCOPE_OP], packageLength(content.length), content);
}

/** 20.2.5.2: DefDevice. */
export function device(path: string, ...terms: readonly Aml[]): Aml {
  const content = join(nameSegment(path), ...terms);
  return join([EXT_PREFIX, DEVICE_OP], packageLength(content.length), content);
}

/** 20.2.5.4: DefPackage. */
export function packageOf(...elements: readonly Aml[]): Aml {
  const content = join([elements.length], ...elements);
  return join([PACKAGE_OP], packageLength(content.length), content);
}

/** 20.2.5.4: DefBuffer holding resource descriptors and the end tag (6.4.2.9). */
export function resources(...descriptors: readonly Aml[]): Aml {
  const list = join(...descriptors, [0x79, 0]); // a checksum of 0 counts as right
  const content = join(integer(list.length), list);
  return join([BUFFER_OP], packageLength(content.length), content);
}

/** 6.4.2.5: I/O ports, all 16 address lines decoded. */
export function ports(base: number, count: number): Aml {
  return join([0x47, 1], littleEndian(base, 2), littleEndian(base, 2), [1, count]);
}

/** 6.4.3.4: a 32-bit fixed memory range that can be written. */
export function memory32Fixed(base: number, size: number): Aml {
  return join([0x86, 9, 0, 1], littleEndian(base, 4), littleEndian(size, 4));
}

/** 6.4.3.6: one interrupt, edge-triggered, active high, not shared. */
export function edgeInterrupt(line: number): Aml {
  const CONSUMER = 1 << 0;
  const EDGE = 1 << 1;
  return join([0x89, 6, 0, CONSUMER | EDGE, 1], littleEndian(line, 4));
}
