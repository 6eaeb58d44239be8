/**
 * Makes an ELF executable fit for 2 MiB page mappings (see erofs/layout.ts): without a byte of its
 * code or data changed or moved in memory, the parts of the file are moved so that large read-only
 * segments have equal offsets and addresses modulo 2 MiB.
 *
 * Linux maps 2 MiB at once only where the whole of it belongs to one segment. So a large segment is
 * also widened to multiples of 2 MiB where its neighbours leave the addresses free; the added bytes
 * are zeros. Under DAX this makes some 50 page faults of the 20,000 that touching all of a 95 MB
 * executable would take.
 *
 * Source: System V ABI, chapters 4 and 5 ("p_vaddr ≡ p_offset modulo p_align"); Linux
 * fs/binfmt_elf.c, maximum_alignment(): a position-independent executable is loaded at a multiple of
 * its largest p_align.
 *
 * @module
 */
import {
  EI_CLASS,
  EI_DATA,
  Elf64_Ehdr,
  Elf64_Phdr,
  Elf64_Shdr,
  ELFCLASS64,
  ELFDATA2LSB,
  ELFMAG,
  EM_X86_64,
  PF_W,
  PT_LOAD,
} from "../ffi/uapi/elf.ts";

const HUGE_SIZE = 2 * 1024 * 1024;
const MIN_SEGMENT = 2 * HUGE_SIZE; // bytes; smaller ones hardly hold a whole 2 MiB
const PAGE_SIZE = 4096;

const EHDR_SIZE = Elf64_Ehdr.size;
const PHDR_SIZE = Elf64_Phdr.size;
const SHDR_SIZE = Elf64_Shdr.size;
const EHDR = Elf64_Ehdr.offsets;
const PHDR = Elf64_Phdr.offsets;
const SHDR = Elf64_Shdr.offsets;

/** A program header's place in the file and the fields that are needed here. */
interface Segment {
  readonly header: number;
  readonly load: boolean;
  readonly writable: boolean;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
  readonly memorySize: number;
  readonly alignment: number;
}

/** Zeros to be put in front of what is at `offset`. */
interface Insertion {
  readonly offset: number;
  readonly count: number;
}

/** What becomes of a large segment; bytes added before and behind it. */
interface Widening {
  readonly before: number;
  readonly behind: number;
}

function modulo(value: number, unit: number): number {
  return ((value % unit) + unit) % unit;
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** Undefined for what is no well-formed ELF file of this machine. */
function readSegments(view: DataView): Segment[] | undefined {
  if (view.byteLength < EHDR_SIZE || view.getUint32(0) !== ELFMAG) return undefined;
  if (view.getUint8(EI_CLASS) !== ELFCLASS64 || view.getUint8(EI_DATA) !== ELFDATA2LSB) {
    return undefined;
  }
  if (view.getUint16(EHDR.e_machine, true) !== EM_X86_64) return undefined;
  const number = (at: number) => Number(view.getBigUint64(at, true));
  const table = number(EHDR.e_phoff);
  const count = view.getUint16(EHDR.e_phnum, true);
  if (view.getUint16(EHDR.e_phentsize, true) !== PHDR_SIZE) return undefined;
  if (table + count * PHDR_SIZE > view.byteLength) return undefined;
  const sections = number(EHDR.e_shoff);
  const sectionCount = view.getUint16(EHDR.e_shnum, true);
  if (sectionCount > 0 && view.getUint16(EHDR.e_shentsize, true) !== SHDR_SIZE) return undefined;
  if (sections + sectionCount * SHDR_SIZE > view.byteLength) return undefined;
  const segments: Segment[] = [];
  for (let header = table; header < table + count * PHDR_SIZE; header += PHDR_SIZE) {
    const segment = {
      header,
      load: view.getUint32(header + PHDR.p_type, true) === PT_LOAD,
      writable: (view.getUint32(header + PHDR.p_flags, true) & PF_W) !== 0,
      offset: number(header + PHDR.p_offset),
      address: number(header + PHDR.p_vaddr),
      size: number(header + PHDR.p_filesz),
      memorySize: number(header + PHDR.p_memsz),
      alignment: number(header + PHDR.p_align),
    };
    if (segment.offset + segment.size > view.byteLength) return undefined;
    if (!Number.isSafeInteger(segment.address + segment.memorySize)) return undefined;
    segments.push(segment);
  }
  return segments;
}

function isLarge(segment: Segment): boolean {
  return !segment.writable && segment.size >= MIN_SEGMENT && segment.size === segment.memorySize;
}

function plan(loads: readonly Segment[]): {
  insertions: Insertion[];
  widenings: Map<Segment, Widening>;
} {
  const insertions: Insertion[] = [];
  const widenings = new Map<Segment, Widening>();
  let shift = 0;
  let wantedBehind = 0; // zeros behind the segment before
  let end = 0; // first address behind the segment before, when widened
  loads.forEach((segment, index) => {
    const next = loads[index + 1];
    const large = isLarge(segment);
    let before = large ? modulo(segment.address, HUGE_SIZE) : 0;
    if (segment.address - before < roundUp(end, PAGE_SIZE)) before = 0;
    const unit = large ? HUGE_SIZE : Math.max(segment.alignment, PAGE_SIZE);
    let count = large ? modulo(segment.address - segment.offset - shift, HUGE_SIZE) : 0;
    if (index === 0 && count > 0) before = 0; // nothing may come before the ELF header
    while (count < wantedBehind + before) count += unit;
    if (count > 0) insertions.push({ offset: segment.offset, count });
    shift += count;
    end = segment.address + segment.memorySize;
    wantedBehind = 0;
    if (!large) return;
    const widened = roundUp(end, HUGE_SIZE);
    // The last segment has nothing behind it that would make room; the file just ends.
    if (next !== undefined && widened <= next.address - modulo(next.address, PAGE_SIZE)) {
      wantedBehind = widened - end;
      end = widened;
    }
    widenings.set(segment, { before, behind: wantedBehind });
  });
  return { insertions, widenings };
}

/**
 * The executable with its large read-only segments aligned to 2 MiB; `file` itself when there are
 * none, or when it is no ELF executable of x86-64 in the usual form.
 *
 * @param file a whole ELF file
 */
export function alignElf(file: Uint8Array): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const segments = readSegments(view);
  const loads = segments?.filter(({ load }) => load) ?? [];
  const ascending = loads.every((segment, i) => {
    const before = loads[i - 1];
    return before === undefined ||
      (segment.address >= before.address + before.memorySize &&
        segment.offset >= before.offset + before.size);
  });
  const first = loads[0];
  // The ELF header and the program headers lie in the first segment and must stay where they are.
  const usual = first !== undefined && first.offset === 0 &&
    loads.every(({ alignment }) => alignment <= HUGE_SIZE) && // the file grows by what it asks for
    modulo(first.address, HUGE_SIZE) === 0 &&
    Number(view.getBigUint64(EHDR.e_phoff, true)) === EHDR_SIZE;
  if (segments === undefined || !ascending || !usual || !loads.some(isLarge)) return file;

  const { insertions, widenings } = plan(loads);
  const grown = insertions.reduce((sum, { count }) => sum + count, 0);
  const moved = (offset: number) =>
    insertions.reduce((sum, { offset: at, count }) => at <= offset ? sum + count : sum, offset);
  const result = new Uint8Array(file.length + grown);
  const cuts = [0, ...insertions.map(({ offset }) => offset), file.length];
  for (let i = 0; i + 1 < cuts.length; i++) {
    result.set(file.subarray(cuts[i]!, cuts[i + 1]!), moved(cuts[i]!));
  }

  const out = new DataView(result.buffer);
  const put = (at: number, value: number) => out.setBigUint64(at, BigInt(value), true);
  for (const segment of segments) {
    const { header } = segment;
    const { before, behind } = widenings.get(segment) ?? { before: 0, behind: 0 };
    put(header + PHDR.p_offset, moved(segment.offset) - before);
    if (!widenings.has(segment)) continue;
    put(header + PHDR.p_vaddr, segment.address - before);
    put(header + PHDR.p_paddr, Number(view.getBigUint64(header + PHDR.p_paddr, true)) - before);
    put(header + PHDR.p_filesz, segment.size + before + behind);
    put(header + PHDR.p_memsz, segment.memorySize + before + behind);
    put(header + PHDR.p_align, HUGE_SIZE);
  }
  const sections = Number(view.getBigUint64(EHDR.e_shoff, true));
  if (sections > 0) {
    put(EHDR.e_shoff, moved(sections));
    for (let i = 0; i < view.getUint16(EHDR.e_shnum, true); i++) {
      const at = moved(sections) + i * SHDR_SIZE + SHDR.sh_offset;
      put(at, moved(Number(out.getBigUint64(at, true))));
    }
  }
  return result;
}
