/**
 * XSAVE, XSAVEOPT and XRSTOR in the standard format: Intel SDM volume 1, 13.4 to 13.9.
 *
 * @module
 */

/** Where a component lies in the standard format: CPUID leaf 0xd, subleaf = component. */
export interface XsaveComponent {
  /** Bit in XCR0, from 2 on; 0 and 1 are in the legacy region. */
  readonly bit: number;
  /** Offset in the area. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/** A part of the area that an instruction reads or writes. */
export interface Piece {
  /** Offset in the area. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

const X87 = 1n;
const SSE = 2n;
const AVX = 4n;
/** Offset of the XSAVE header. */
export const HEADER = 512;
/** Offset of XSTATE_BV in the header. */
export const XSTATE_BV: number = HEADER;
const XCOMP_BV = HEADER + 8;
const HEADER_SIZE = 64;
const MXCSR = 24;

/** Pieces of the legacy region: 13.4.1 and table 13-1. */
const X87_PIECES: readonly Piece[] = [{ offset: 0, size: 24 }, { offset: 32, size: 128 }];
const MXCSR_PIECE: Piece = { offset: MXCSR, size: 8 };
const XMM_PIECE: Piece = { offset: 160, size: 256 };

/** What is in the area for the components `mask`. */
export function pieces(mask: bigint, components: readonly XsaveComponent[]): Piece[] {
  return [
    ...(mask & X87 ? X87_PIECES : []),
    ...(mask & (SSE | AVX) ? [MXCSR_PIECE] : []), // 13.7: MXCSR goes with SSE or AVX
    ...(mask & SSE ? [XMM_PIECE] : []),
    ...components.filter(({ bit }) => mask & (1n << BigInt(bit))),
  ];
}

/** The smallest area that holds the header and the components `mask`. */
export function areaSize(mask: bigint, components: readonly XsaveComponent[]): number {
  return pieces(mask, components).reduce(
    (size, piece) => Math.max(size, piece.offset + piece.size),
    HEADER + HEADER_SIZE,
  );
}

function getU64(bytes: Uint8Array, offset: number): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(offset, true);
}

/**
 * The new XSTATE_BV of an XSAVE or XSAVEOPT.
 *
 * @param old XSTATE_BV in memory
 * @param state the processor's area from KVM
 * @param mask requested components
 */
export function savedStateVector(old: bigint, state: Uint8Array, mask: bigint): bigint {
  return (old & ~mask) | (getU64(state, XSTATE_BV) & mask);
}

/** XRSTOR's checks of the header fail: the processor would raise #GP. */
export class BadXsaveHeader extends Error {
  override readonly name = "BadXsaveHeader";
}

/**
 * What an XRSTOR makes of the processor's state.
 *
 * @param state the processor's area from KVM; not changed
 * @param area the area in memory, of at least {@linkcode areaSize} bytes
 * @param mask requested components
 * @param xcr0 enabled components
 * @returns the area for KVM
 * @throws {BadXsaveHeader} for a header that the instruction refuses
 */
export function restoredState(
  state: Uint8Array<ArrayBuffer>,
  area: Uint8Array,
  mask: bigint,
  xcr0: bigint,
  components: readonly XsaveComponent[],
): Uint8Array<ArrayBuffer> {
  const vector = getU64(area, XSTATE_BV);
  if (
    (vector & ~xcr0) !== 0n || getU64(area, XCOMP_BV) !== 0n || getU64(area, XCOMP_BV + 8) !== 0n
  ) {
    throw new BadXsaveHeader("the XSAVE header has reserved bits set, or the compacted format");
  }
  const result = state.slice();
  const view = new DataView(result.buffer);
  for (const piece of pieces(mask & vector, components)) {
    result.set(area.subarray(piece.offset, piece.offset + piece.size), piece.offset);
  }
  // 13.8.1: MXCSR is loaded with SSE or AVX, whether XSTATE_BV says that they are there or not.
  if (mask & (SSE | AVX)) {
    result.set(area.subarray(MXCSR, MXCSR + 4), MXCSR);
  }
  const present = (getU64(state, XSTATE_BV) & ~mask) | (vector & mask);
  view.setBigUint64(XSTATE_BV, present, true);
  for (const piece of pieces(mask & ~vector, components)) {
    if (piece.offset === MXCSR) continue;
    result.fill(0, piece.offset, piece.offset + piece.size);
  }
  if (mask & ~vector & X87) view.setUint16(0, 0x37f, true); // FCW after initialisation
  return result;
}
