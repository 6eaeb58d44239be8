/**
 * C structs, declared once: sizes, offsets, reading and writing are derived.
 *
 * Layout follows the System V x86-64 psABI section 3.1.2: a member is aligned to its type's
 * alignment, a struct to its strictest member, unless it is declared packed.
 *
 * @module
 */

const LE = true;

/** A C type: how large it is and how its value moves between memory and JavaScript. */
export interface CType<T> {
  /** `sizeof`, in bytes. */
  readonly size: number;
  /** `_Alignof`, in bytes. */
  readonly align: number;
  /** Reads a value at `offset`. */
  get(view: DataView, offset: number): T;
  /** Writes a value at `offset`. */
  set(view: DataView, offset: number, value: T): void;
}

/** The JavaScript value of a C type. */
export type ValueOf<C> = C extends CType<infer T> ? T : never;

/** Unsigned 8-bit integer. */
export const u8: CType<number> = {
  size: 1,
  align: 1,
  get: (view, offset) => view.getUint8(offset),
  set: (view, offset, value) => view.setUint8(offset, value),
};

/** Unsigned 16-bit integer. */
export const u16: CType<number> = {
  size: 2,
  align: 2,
  get: (view, offset) => view.getUint16(offset, LE),
  set: (view, offset, value) => view.setUint16(offset, value, LE),
};

/** Unsigned 32-bit integer. */
export const u32: CType<number> = {
  size: 4,
  align: 4,
  get: (view, offset) => view.getUint32(offset, LE),
  set: (view, offset, value) => view.setUint32(offset, value, LE),
};

/** Signed 32-bit integer. */
export const i32: CType<number> = {
  size: 4,
  align: 4,
  get: (view, offset) => view.getInt32(offset, LE),
  set: (view, offset, value) => view.setInt32(offset, value, LE),
};

/** Unsigned 64-bit integer; always a bigint. */
export const u64: CType<bigint> = {
  size: 8,
  align: 8,
  get: (view, offset) => view.getBigUint64(offset, LE),
  set: (view, offset, value) => view.setBigUint64(offset, value, LE),
};

/** Signed 64-bit integer; always a bigint. */
export const i64: CType<bigint> = {
  size: 8,
  align: 8,
  get: (view, offset) => view.getBigInt64(offset, LE),
  set: (view, offset, value) => view.setBigInt64(offset, value, LE),
};

/** An array of bytes; reads are copies, writes may be shorter than the array. */
export function bytes(length: number): CType<Uint8Array> {
  return {
    size: length,
    align: 1,
    get: (view, offset) =>
      new Uint8Array(view.buffer, view.byteOffset + offset, length).slice() as Uint8Array,
    set(view, offset, value) {
      if (value.length > length) {
        throw new RangeError(`Cannot write ${value.length} bytes: the array has ${length}`);
      }
      new Uint8Array(view.buffer, view.byteOffset + offset, length).set(value);
    },
  };
}

/** A fixed-length array; writes may be shorter than the array. */
export function array<T>(element: CType<T>, length: number): CType<T[]> {
  return {
    size: element.size * length,
    align: element.align,
    get: (view, offset) =>
      Array.from({ length }, (_, i) => element.get(view, offset + i * element.size)),
    set(view, offset, value) {
      if (value.length > length) {
        throw new RangeError(`Cannot write ${value.length} elements: the array has ${length}`);
      }
      value.forEach((item, i) => element.set(view, offset + i * element.size, item));
    },
  };
}

/** Members of a struct or union, in declaration order. */
export type Members = { readonly [name: string]: CType<unknown> };

/** The JavaScript object of a struct. */
export type StructValue<M extends Members> = { -readonly [K in keyof M]: ValueOf<M[K]> };

/** A C struct or union. */
export interface Struct<M extends Members> extends CType<StructValue<M>> {
  /** The C name, such as `kvm_regs`. */
  readonly name: string;
  /** The members' types. */
  readonly members: M;
  /** `offsetof` of each member. */
  readonly offsets: { readonly [K in keyof M]: number };
  /** Writes the members that are given and leaves the others as they are. */
  update(view: DataView, offset: number, value: Partial<StructValue<M>>): void;
  /** A zeroed struct with the members that are given, as bytes. */
  encode(value: Partial<StructValue<M>>): Uint8Array<ArrayBuffer>;
  /** Reads the struct at the start of `bytes`. */
  decode(bytes: Uint8Array): StructValue<M>;
  /** Offset of a nested member, such as `offsetOf("exit.io.port")`. */
  offsetOf(path: string): number;
}

/** Options of {@linkcode struct}. */
export interface StructOptions {
  /** `__attribute__((packed))`: no padding, alignment 1. */
  readonly packed?: boolean;
}

function make<M extends Members>(
  name: string,
  members: M,
  offsets: Record<string, number>,
  size: number,
  align: number,
): Struct<M> {
  const entries = Object.entries(members);
  const type: Struct<M> = {
    name,
    members,
    offsets: offsets as Struct<M>["offsets"],
    size,
    align,
    get(view, offset) {
      const value: Record<string, unknown> = {};
      for (const [key, member] of entries) value[key] = member.get(view, offset + offsets[key]!);
      return value as StructValue<M>;
    },
    set: (view, offset, value) => type.update(view, offset, value),
    update(view, offset, value) {
      for (const [key, item] of Object.entries(value)) {
        const member = members[key];
        if (member === undefined) {
          throw new TypeError(`Cannot write ${name}.${key}: no such member`);
        }
        member.set(view, offset + offsets[key]!, item);
      }
    },
    encode(value) {
      const result = new Uint8Array(size);
      type.update(new DataView(result.buffer), 0, value);
      return result;
    },
    decode(source) {
      if (source.length < size) {
        throw new RangeError(`Cannot read ${name}: ${source.length} bytes, not ${size}`);
      }
      return type.get(new DataView(source.buffer, source.byteOffset, size), 0);
    },
    offsetOf(path) {
      const [first = "", ...rest] = path.split(".");
      const member = members[first];
      if (member === undefined) throw new TypeError(`Cannot find ${name}.${path}`);
      if (rest.length === 0) return offsets[first]!;
      if (!("offsetOf" in member)) throw new TypeError(`Cannot find ${name}.${path}`);
      return offsets[first]! + (member as Struct<Members>).offsetOf(rest.join("."));
    },
  };
  return type;
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** Declares a struct with natural alignment, or packed. */
export function struct<M extends Members>(
  name: string,
  members: M,
  options: StructOptions = {},
): Struct<M> {
  const offsets: Record<string, number> = {};
  let end = 0;
  let align = 1;
  for (const [key, member] of Object.entries(members)) {
    const alignment = options.packed ? 1 : member.align;
    end = alignUp(end, alignment);
    offsets[key] = end;
    end += member.size;
    align = Math.max(align, alignment);
  }
  return make(name, members, offsets, alignUp(end, align), align);
}

/** Declares a union: every member at offset 0. */
export function union<M extends Members>(name: string, members: M): Struct<M> {
  const types = Object.values(members);
  const align = Math.max(1, ...types.map((member) => member.align));
  const size = alignUp(Math.max(0, ...types.map((member) => member.size)), align);
  const offsets = Object.fromEntries(Object.keys(members).map((key) => [key, 0]));
  return make(name, members, offsets, size, align);
}

/**
 * Declares a struct of known size by the offsets of the members that matter, as for the setup
 * header of the boot protocol. Members may overlap.
 */
export function layout<M extends Members>(
  name: string,
  size: number,
  placed: { readonly [K in keyof M]: readonly [offset: number, type: M[K]] },
): Struct<M> {
  const members: Record<string, CType<unknown>> = {};
  const offsets: Record<string, number> = {};
  for (const [key, [offset, type]] of Object.entries(placed)) {
    if (offset + type.size > size) throw new RangeError(`${name}.${key} is outside the struct`);
    members[key] = type;
    offsets[key] = offset;
  }
  return make(name, members as M, offsets, size, 1);
}
