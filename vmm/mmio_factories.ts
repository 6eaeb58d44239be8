/**
 * The front halves that a vCPU thread can make, by {@linkcode MmioRegion.kind}.
 *
 * @module
 */
import type { MmioFactory } from "./bus.ts";
import { VIRTIO_MMIO_KIND, virtioMmio } from "./virtio/front.ts";

/** One line for each kind of device. */
export const MMIO_FACTORIES: Readonly<Record<string, MmioFactory>> = {
  [VIRTIO_MMIO_KIND]: virtioMmio,
};
