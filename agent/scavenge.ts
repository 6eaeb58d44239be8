/**
 * When V8 scavenges the agent's young generation: the minor collections that free short-lived
 * objects and their buffers.
 *
 * @module
 */

/** V8 itself does it at 64 MB of buffers, all of which the kernel had to find memory for first. */
const EVERY = 2 * 1024 * 1024; // bytes

/** There with V8's `--expose-gc`. */
const { gc } = globalThis as { gc?: (options: { type: "minor" }) => void };

let transferred = 0;

/** Counts bytes that pass through the agent, and scavenges when there were enough of them. */
export function countTransferred(bytes: number): void {
  transferred += bytes;
  if (transferred < EVERY) return;
  transferred = 0;
  gc?.({ type: "minor" });
}

/**
 * Has V8 touch all memory of its young generation once, as the hooks of idle interpreters do
 * (hooks/node.cjs): what is mapped and free in a snapshot, no clone has to ask the kernel for.
 */
export function prefaultYoungGeneration(): void {
  for (let i = 0; i < 512; i++) new Array(1024).fill(i); // 4 MiB
  gc?.({ type: "minor" });
}
