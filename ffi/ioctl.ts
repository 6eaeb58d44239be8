/**
 * ioctl request numbers (include/uapi/asm-generic/ioctl.h), each carrying its name for error
 * messages and its struct type, so that a wrong struct does not type-check.
 *
 * @module
 */
import type { CType } from "./struct.ts";

const _IOC_NRSHIFT = 0;
const _IOC_TYPESHIFT = 8;
const _IOC_SIZESHIFT = 16;
const _IOC_DIRSHIFT = 30;
const _IOC_NONE = 0;
const _IOC_WRITE = 1;
const _IOC_READ = 2;

/** An ioctl request whose argument is a `T`, or a plain number when `T` is `void`. */
export interface Ioctl<T> {
  /** The kernel's name, such as `KVM_SET_REGS`. */
  readonly name: string;
  /** The request number, unsigned 32 bits. */
  readonly request: number;
  /** Type of what the argument points to; undefined for a plain number. */
  readonly type: CType<T> | undefined;
}

function encode<T>(
  direction: number,
  name: string,
  type: number,
  nr: number,
  argument: CType<T> | undefined,
): Ioctl<T> {
  const request = (direction << _IOC_DIRSHIFT) | ((argument?.size ?? 0) << _IOC_SIZESHIFT) |
    (type << _IOC_TYPESHIFT) | (nr << _IOC_NRSHIFT);
  return { name, request: request >>> 0, type: argument };
}

/** `_IO`: the argument, if any, is a plain number. */
export function _IO(name: string, type: number, nr: number): Ioctl<void> {
  return encode<void>(_IOC_NONE, name, type, nr, undefined);
}

/** `_IOR`: the kernel writes the struct. */
export function _IOR<T>(name: string, type: number, nr: number, argument: CType<T>): Ioctl<T> {
  return encode(_IOC_READ, name, type, nr, argument);
}

/** `_IOW`: the kernel reads the struct. */
export function _IOW<T>(name: string, type: number, nr: number, argument: CType<T>): Ioctl<T> {
  return encode(_IOC_WRITE, name, type, nr, argument);
}

/** `_IOWR`: the kernel reads and writes the struct. */
export function _IOWR<T>(name: string, type: number, nr: number, argument: CType<T>): Ioctl<T> {
  return encode(_IOC_READ | _IOC_WRITE, name, type, nr, argument);
}
