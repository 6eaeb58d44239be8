/**
 * Read-only images as memory, as the VMM sees them.
 *
 * @module
 */
import { OwnedFd } from "../../../ffi/fd.ts";
import { O_CLOEXEC, O_RDONLY } from "../../../ffi/uapi/mman.ts";
import { PMEM_ADDRESS } from "../../layout.ts";
import type { DeviceKind } from "../kind.ts";
import { PmemDevice, type PmemWindow } from "./device.ts";

/** The images, which the guest sees as /dev/pmem0 and so on. */
export type PmemConfig = readonly { readonly path: string }[];

/**
 * Alignment of start and length in bytes: Linux adds device memory by sections of 128 MiB and their
 * 2 MiB parts (include/linux/mmzone.h, SECTION_SIZE_BITS and SUBSECTION_SHIFT).
 */
const ALIGNMENT = { start: 128 << 20, length: 2 << 20 } as const;

/** See {@linkcode PmemDevice}. */
export const pmemKind: DeviceKind<PmemConfig, PmemWindow> = {
  name: "pmem",
  plan(images, memory) {
    let address = PMEM_ADDRESS;
    return images.map(({ path }) => {
      using file = OwnedFd.open(path, O_RDONLY | O_CLOEXEC);
      const { size } = Deno.statSync(path);
      const slot = memory.addReadOnlyFile(address, file.fd, size, ALIGNMENT.length);
      address += Math.ceil(slot.size / ALIGNMENT.start) * ALIGNMENT.start;
      return { start: slot.start, size: slot.size };
    });
  },
  make: (host, window) => new PmemDevice(host, window),
};
