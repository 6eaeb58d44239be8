/**
 * `lock cmpxchg16b` on a guest's memory, by this processor's own instruction: `Atomics` ends at eight
 * bytes, and other vCPUs use the same memory natively at the same time.
 *
 * @module
 */
import { mapInstructions } from "../machine_code.ts";

/**
 * `void exchange(void *place, uint64_t words[4])`: words are what is expected and what comes in its
 * place, low half first; afterwards the first two are what was there.
 *
 * System V x86-64 psABI, 3.2.1: rbx belongs to the caller; arguments are in rdi and rsi.
 */
const EXCHANGE = Uint8Array.of(
  0x53, // push rbx
  ...[0x48, 0x8b, 0x06], // mov rax, [rsi]
  ...[0x48, 0x8b, 0x56, 0x08], // mov rdx, [rsi + 8]
  ...[0x48, 0x8b, 0x5e, 0x10], // mov rbx, [rsi + 16]
  ...[0x48, 0x8b, 0x4e, 0x18], // mov rcx, [rsi + 24]
  ...[0xf0, 0x48, 0x0f, 0xc7, 0x0f], // lock cmpxchg16b [rdi]
  ...[0x48, 0x89, 0x06], // mov [rsi], rax
  ...[0x48, 0x89, 0x56, 0x08], // mov [rsi + 8], rdx
  0x5b, // pop rbx
  0xc3, // ret
);

const SIGNATURE = {
  parameters: ["usize", "buffer"],
  result: "void",
} as const satisfies Deno.ForeignFunction;

let code: bigint | undefined;

/** Where the instructions are, for {@linkcode compareExchange} in any thread of this process. */
export function compareExchangeCode(): bigint {
  return code ??= mapInstructions(EXCHANGE);
}

/**
 * Replaces 16 bytes if they are what is expected.
 *
 * @param place address in this process, a multiple of 16, mapped and writable
 * @param expected low half at bit 0
 * @param next takes its place
 * @returns what was there
 */
export type CompareExchange = (place: bigint, expected: bigint, next: bigint) => bigint;

const HALF = 64n;

/**
 * The call.
 *
 * @param code from {@linkcode compareExchangeCode}
 */
export function compareExchange(code: bigint): CompareExchange {
  // SAFETY: EXCHANGE is there and has this signature; callers name 16 bytes that are mapped.
  const pointer = Deno.UnsafePointer.create(code) as Deno.PointerObject<typeof SIGNATURE>;
  const call = new Deno.UnsafeFnPointer(pointer, SIGNATURE);
  const words = new BigUint64Array(4);
  const bytes = new Uint8Array(words.buffer);
  return (place, expected, next) => {
    words[0] = expected; // each takes its low 64 bits
    words[1] = expected >> HALF;
    words[2] = next;
    words[3] = next >> HALF;
    call.call(place, bytes);
    return words[1] << HALF | words[0];
  };
}
