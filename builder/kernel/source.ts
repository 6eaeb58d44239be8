/**
 * Names of the kernels that need no path.
 *
 * @module
 */

/** Kernels that have a name: Debian's own, and the one that is compiled here. */
export const KERNEL_SOURCES = ["debian", "built"] as const;
/** One of {@linkcode KERNEL_SOURCES}. */
export type KernelSource = (typeof KERNEL_SOURCES)[number];

/** Whether `kernel` is a name, not the path of a file. */
export function isKernelSource(kernel: string): kernel is KernelSource {
  return (KERNEL_SOURCES as readonly string[]).includes(kernel);
}
