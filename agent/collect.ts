/**
 * Has V8 collect the buffers of what passes through the agent while there are few: by itself it does
 * so when there are 64 MB of them, all of which the kernel had to find memory for first.
 *
 * @module
 */

const EVERY = 2 * 1024 * 1024; // bytes

/** There with V8's `--expose-gc`. */
const { gc } = globalThis as { gc?: (options: { type: "minor" }) => void };

let passed = 0;

/** To be told how many bytes have passed. */
export function passing(bytes: number): void {
  passed += bytes;
  if (passed < EVERY) return;
  passed = 0;
  gc?.({ type: "minor" });
}

/**
 * Has V8 go round the memory of its young objects once, as an interpreter that waits does
 * (warm_start.ts): what is there and free in a snapshot, no clone has to ask the kernel for.
 */
export function goRound(): void {
  for (let i = 0; i < 512; i++) new Array(1024).fill(i); // 4 MiB
  gc?.({ type: "minor" });
}
