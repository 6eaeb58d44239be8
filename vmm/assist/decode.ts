/**
 * Splits x86-64 machine code into the parts of an instruction: Intel SDM volume 2, chapter 2.
 * 64-bit mode only, and only as much as the assists need: legacy prefixes, REX, the one-byte and
 * 0F opcode maps, ModRM, SIB, displacement.
 *
 * @module
 */

/** Where a memory operand is. */
export interface MemoryOperand {
  /** Register number of the base, if any. */
  readonly base?: number;
  /** Register number of the index, if any. */
  readonly index?: number;
  /** Factor of the index: 1, 2, 4 or 8. */
  readonly scale: number;
  /** Displacement, signed. */
  readonly displacement: bigint;
  /** Whether the displacement counts from the next instruction. */
  readonly ripRelative: boolean;
}

/** An instruction in parts. */
export interface Instruction {
  /** Bytes of the whole instruction. */
  readonly length: number;
  /** Opcode map: "" for one byte, "0f" for two. */
  readonly map: "" | "0f";
  /** The opcode byte in its map. */
  readonly opcode: number;
  /** The last of the prefixes F2 and F3, or 0. */
  readonly repeat: 0 | 0xf2 | 0xf3;
  /** Prefix 66. */
  readonly operandSize16: boolean;
  /** Prefix 67. */
  readonly addressSize32: boolean;
  /** Segment whose base counts. */
  readonly segment: "none" | "fs" | "gs";
  /** REX.W. */
  readonly wide: boolean;
  /** The ModRM byte, when the opcode has one. */
  readonly modrm?: number;
  /** ModRM.reg with REX.R. */
  readonly reg: number;
  /** ModRM.rm with REX.B, when it is a register. */
  readonly rm?: number;
  /** The memory operand, when there is one. */
  readonly memory?: MemoryOperand;
}

const MAX_LENGTH = 15;

/** Opcodes without a ModRM byte, of those that the assists know. */
const NO_MODRM: ReadonlySet<string> = new Set(["cc", "9b"]);

/**
 * Decodes the instruction at the start of `bytes`.
 *
 * @returns undefined when the bytes end before the instruction does
 */
export function decode(bytes: Uint8Array): Instruction | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, MAX_LENGTH));
  let at = 0;
  const next = () => (at < view.byteLength ? view.getUint8(at++) : undefined);

  let repeat: 0 | 0xf2 | 0xf3 = 0;
  let operandSize16 = false;
  let addressSize32 = false;
  let segment: Instruction["segment"] = "none";
  let rex = 0;
  let byte = next();
  prefixes: for (; byte !== undefined; byte = next()) {
    switch (byte) {
      case 0xf2:
      case 0xf3:
        repeat = byte;
        break;
      case 0x66:
        operandSize16 = true;
        break;
      case 0x67:
        addressSize32 = true;
        break;
      case 0x64:
        segment = "fs";
        break;
      case 0x65:
        segment = "gs";
        break;
      case 0x2e: // CS, DS, ES, SS: no effect in 64-bit mode
      case 0x3e:
      case 0x26:
      case 0x36:
      case 0xf0: // LOCK
        break;
      default:
        break prefixes;
    }
  }
  if (byte !== undefined && (byte & 0xf0) === 0x40) {
    rex = byte;
    byte = next();
  }
  let map: Instruction["map"] = "";
  if (byte === 0x0f) {
    map = "0f";
    byte = next();
  }
  if (byte === undefined) return undefined;
  const parts = {
    map,
    opcode: byte,
    repeat,
    operandSize16,
    addressSize32,
    segment,
    wide: (rex & 8) !== 0,
  };
  if (NO_MODRM.has(map + byte.toString(16))) return { ...parts, reg: 0, length: at };

  const modrm = next();
  if (modrm === undefined) return undefined;
  const mod = modrm >> 6;
  const reg = ((modrm >> 3) & 7) | ((rex & 4) << 1);
  const low = modrm & 7;
  if (mod === 3) return { ...parts, modrm, reg, rm: low | ((rex & 1) << 3), length: at };

  let base: number | undefined = low | ((rex & 1) << 3);
  let index: number | undefined;
  let scale = 1;
  let displacementSize = mod === 1 ? 1 : mod === 2 ? 4 : 0;
  let ripRelative = false;
  if (low === 4) {
    const sib = next();
    if (sib === undefined) return undefined;
    scale = 1 << (sib >> 6);
    index = ((sib >> 3) & 7) | ((rex & 2) << 2);
    if (index === 4) index = undefined; // "none"
    base = (sib & 7) | ((rex & 1) << 3);
    if ((sib & 7) === 5 && mod === 0) {
      base = undefined;
      displacementSize = 4;
    }
  } else if (low === 5 && mod === 0) {
    base = undefined;
    ripRelative = true;
    displacementSize = 4;
  }
  if (at + displacementSize > view.byteLength) return undefined;
  const displacement = displacementSize === 1
    ? BigInt(view.getInt8(at))
    : displacementSize === 4
    ? BigInt(view.getInt32(at, true))
    : 0n;
  at += displacementSize;
  const memory: MemoryOperand = {
    ...(base === undefined ? {} : { base }),
    ...(index === undefined ? {} : { index }),
    scale,
    displacement,
    ripRelative,
  };
  return { ...parts, modrm, reg, memory, length: at };
}
