/**
 * The instructions that a software-only KVM does not emulate, done here instead: one table entry
 * each. What is not in the table stops the VM.
 *
 * @module
 */
import { BP_VECTOR, GP_VECTOR, NM_VECTOR, UD_VECTOR } from "../../ffi/uapi/kvm_x86.ts";
import type { Instruction } from "./decode.ts";
import {
  areaSize,
  BadXsaveHeader,
  pieces,
  restoredState,
  savedStateVector,
  type XsaveComponent,
  XSTATE_BV,
} from "./xsave.ts";

/** The processor as an instruction sees it. */
export interface Machine {
  /** RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15: by their number in ModRM and REX. */
  readonly registers: bigint[];
  /** The next instruction's address; an exception may have it changed. */
  rip: bigint;
  /** Flags. */
  rflags: bigint;
  /** Control registers and extended control register 0. */
  readonly cr0: bigint;
  readonly cr4: bigint;
  readonly xcr0: bigint;
  /** Bases that the segment prefixes add, and that RDFSBASE and the like move. */
  fsBase: bigint;
  gsBase: bigint;
  /** Layout of the XSAVE area. */
  readonly xsaveComponents: readonly XsaveComponent[];
  /** Reads memory at a linear address; throws PageFault. */
  read(linear: bigint, length: number): Uint8Array<ArrayBuffer>;
  /** Checks that all ranges can be written, then writes them; throws PageFault before writing. */
  write(pieces: readonly { readonly linear: bigint; readonly bytes: Uint8Array }[]): void;
  /**
   * Replaces 16 bytes at a linear address, which is a multiple of 16, if they are what is expected, at
   * once for all processors; throws PageFault when they cannot be written, whatever they are.
   *
   * @returns what was there
   */
  compareExchange(linear: bigint, expected: bigint, next: bigint): bigint;
  /** Extended state. */
  getXsave(): Uint8Array<ArrayBuffer>;
  setXsave(state: Uint8Array<ArrayBuffer>): void;
}

/** The instruction ends with an exception. */
export class Exception extends Error {
  override readonly name = "Exception";
  /** Vector. */
  readonly vector: number;
  /** Error code, for vectors that have one. */
  readonly errorCode: number | undefined;

  /**
   * @param vector which exception
   * @param errorCode for vectors that have one
   */
  constructor(vector: number, errorCode?: number) {
    super(`exception ${vector}`);
    this.vector = vector;
    this.errorCode = errorCode;
  }
}

/** A table entry. */
export interface Assist {
  /** Mnemonic. */
  readonly name: string;
  /** Opcode map. */
  readonly map: "" | "0f";
  /** Opcode. */
  readonly opcode: number;
  /** Required F2 or F3 prefix; 0 for none. */
  readonly repeat?: 0 | 0xf2 | 0xf3;
  /** Required ModRM.reg (an opcode extension). */
  readonly extension?: number;
  /** Required ModRM byte. */
  readonly modrm?: number;
  /** Whether the operand must be memory or a register. */
  readonly operand?: "memory" | "register";
  /** Does it; `machine.rip` is already behind the instruction. */
  execute(machine: Machine, instruction: Instruction): void;
}

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RBX = 3;
const MASK64 = (1n << 64n) - 1n;
const MASK32 = (1n << 32n) - 1n;
const CF = 1n << 0n;
const PF = 1n << 2n;
const AF = 1n << 4n;
const ZF = 1n << 6n;
const SF = 1n << 7n;
const OF = 1n << 11n;
const AC = 1n << 18n;
const CR0_TS = 1n << 3n;
const CR4_FSGSBASE = 1n << 16n;
const CR4_OSXSAVE = 1n << 18n;
const XSAVE_ALIGNMENT = 64n;

/** The linear address of the memory operand. */
export function effectiveAddress(machine: Machine, instruction: Instruction): bigint {
  const operand = instruction.memory!;
  let address = operand.displacement;
  if (operand.base !== undefined) address += machine.registers[operand.base]!;
  if (operand.index !== undefined) {
    address += machine.registers[operand.index]! * BigInt(operand.scale);
  }
  if (operand.ripRelative) address += machine.rip;
  if (instruction.addressSize32) address = BigInt.asUintN(32, address);
  if (instruction.segment === "fs") address += machine.fsBase;
  if (instruction.segment === "gs") address += machine.gsBase;
  return address & MASK64;
}

function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}

function toBytes(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

function operandBytes(instruction: Instruction): 2 | 4 | 8 {
  return instruction.wide ? 8 : instruction.operandSize16 ? 2 : 4;
}

/** Writes a general register as a 16-, 32- or 64-bit operation does. */
function setRegister(machine: Machine, index: number, value: bigint, size: 2 | 4 | 8): void {
  const old = machine.registers[index]!;
  machine.registers[index] = size === 8 ? value & MASK64 : size === 4
    ? value & MASK32 // "32-bit results are zero-extended"
    : (old & ~0xffffn) | (value & 0xffffn);
}

function requestedMask(machine: Machine): bigint {
  if ((machine.cr4 & CR4_OSXSAVE) === 0n) throw new Exception(UD_VECTOR);
  if ((machine.cr0 & CR0_TS) !== 0n) throw new Exception(NM_VECTOR);
  const requested = ((machine.registers[RDX]! & MASK32) << 32n) |
    (machine.registers[RAX]! & MASK32);
  return requested & machine.xcr0;
}

function xsaveAddress(machine: Machine, instruction: Instruction): bigint {
  const address = effectiveAddress(machine, instruction);
  if (address % XSAVE_ALIGNMENT !== 0n) throw new Exception(GP_VECTOR, 0);
  return address;
}

function xsave(machine: Machine, instruction: Instruction, onlyInUse: boolean): void {
  const mask = requestedMask(machine);
  const address = xsaveAddress(machine, instruction);
  const state = machine.getXsave();
  const old = littleEndian(machine.read(address + BigInt(XSTATE_BV), 8));
  const vector = savedStateVector(old, state, mask);
  // XSAVEOPT leaves out what is in its initial state; MXCSR has no bit and is always written.
  const written = pieces(onlyInUse ? mask & vector : mask, machine.xsaveComponents);
  if (onlyInUse && (mask & 6n) !== 0n && !written.some((piece) => piece.offset === 24)) {
    written.push({ offset: 24, size: 8 });
  }
  machine.write([
    ...written.map((piece) => ({
      linear: address + BigInt(piece.offset),
      bytes: state.subarray(piece.offset, piece.offset + piece.size),
    })),
    { linear: address + BigInt(XSTATE_BV), bytes: toBytes(vector, 8) },
  ]);
}

function xrstor(machine: Machine, instruction: Instruction): void {
  const mask = requestedMask(machine);
  const address = xsaveAddress(machine, instruction);
  const components = machine.xsaveComponents;
  const area = machine.read(address, areaSize(mask, components));
  try {
    machine.setXsave(
      restoredState(machine.getXsave(), area, mask, machine.xcr0, components),
    );
  } catch (error) {
    if (error instanceof BadXsaveHeader) throw new Exception(GP_VECTOR, 0);
    throw error;
  }
}

function cmpxchg16b(machine: Machine, instruction: Instruction): void {
  const { registers } = machine;
  const address = effectiveAddress(machine, instruction);
  if (address % 16n !== 0n) throw new Exception(GP_VECTOR, 0);
  const expected = (registers[RDX]! << 64n) | registers[RAX]!;
  const next = (registers[RCX]! << 64n) | registers[RBX]!;
  const current = machine.compareExchange(address, expected, next);
  if (current === expected) {
    machine.rflags |= ZF;
  } else {
    machine.rflags &= ~ZF;
    registers[RAX] = current & MASK64;
    registers[RDX] = current >> 64n;
  }
}

function popcnt(machine: Machine, instruction: Instruction): void {
  const size = operandBytes(instruction);
  let source = instruction.rm === undefined
    ? littleEndian(machine.read(effectiveAddress(machine, instruction), size))
    : BigInt.asUintN(size * 8, machine.registers[instruction.rm]!);
  machine.rflags &= ~(CF | PF | AF | ZF | SF | OF);
  if (source === 0n) machine.rflags |= ZF;
  let count = 0n;
  for (; source !== 0n; source &= source - 1n) count++;
  setRegister(machine, instruction.reg, count, size);
}

function baseRegister(name: "fsBase" | "gsBase", write: boolean): Assist["execute"] {
  return (machine, instruction) => {
    if ((machine.cr4 & CR4_FSGSBASE) === 0n) throw new Exception(UD_VECTOR);
    const size = instruction.wide ? 8 : 4;
    const index = instruction.rm!;
    if (write) machine[name] = BigInt.asUintN(size * 8, machine.registers[index]!);
    else setRegister(machine, index, machine[name], size);
  };
}

/** Every instruction that is done here. */
export const ASSISTS: readonly Assist[] = [
  {
    name: "int3",
    map: "",
    opcode: 0xcc,
    execute() {
      throw new Exception(BP_VECTOR); // a trap: RIP stays behind the instruction
    },
  },
  { name: "fwait", map: "", opcode: 0x9b, execute() {} }, // no x87 error is ever pending here
  {
    name: "clac",
    map: "0f",
    opcode: 0x01,
    modrm: 0xca,
    execute(machine) {
      machine.rflags &= ~AC;
    },
  },
  {
    name: "stac",
    map: "0f",
    opcode: 0x01,
    modrm: 0xcb,
    execute(machine) {
      machine.rflags |= AC;
    },
  },
  {
    name: "xsave",
    map: "0f",
    opcode: 0xae,
    repeat: 0,
    extension: 4,
    operand: "memory",
    execute: (machine, instruction) => xsave(machine, instruction, false),
  },
  {
    name: "xrstor",
    map: "0f",
    opcode: 0xae,
    repeat: 0,
    extension: 5,
    operand: "memory",
    execute: xrstor,
  },
  {
    name: "xsaveopt",
    map: "0f",
    opcode: 0xae,
    repeat: 0,
    extension: 6,
    operand: "memory",
    execute: (machine, instruction) => xsave(machine, instruction, true),
  },
  {
    name: "cmpxchg16b",
    map: "0f",
    opcode: 0xc7,
    extension: 1,
    operand: "memory",
    execute: cmpxchg16b,
  },
  { name: "popcnt", map: "0f", opcode: 0xb8, repeat: 0xf3, execute: popcnt },
  ...([["rdfsbase", 0, "fsBase", false], ["rdgsbase", 1, "gsBase", false], [
    "wrfsbase",
    2,
    "fsBase",
    true,
  ], ["wrgsbase", 3, "gsBase", true]] as const).map(
    ([name, extension, base, write]): Assist => ({
      name,
      map: "0f",
      opcode: 0xae,
      repeat: 0xf3,
      extension,
      operand: "register",
      execute: baseRegister(base, write),
    }),
  ),
];

/** The table entry for an instruction, or undefined. */
export function findAssist(instruction: Instruction): Assist | undefined {
  return ASSISTS.find((assist) =>
    assist.map === instruction.map && assist.opcode === instruction.opcode &&
    (assist.repeat === undefined || assist.repeat === instruction.repeat) &&
    (assist.extension === undefined || assist.extension === (instruction.reg & 7)) &&
    (assist.modrm === undefined || assist.modrm === instruction.modrm) &&
    (assist.operand === undefined ||
      (assist.operand === "memory") === (instruction.memory !== undefined))
  );
}
