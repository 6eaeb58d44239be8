/**
 * The hardware of the machines that run workloads.
 *
 * @module
 */
import type { Progress } from "../base/progress.ts";
import type { DevicesConfig } from "../vmm/devices/registry.ts";
import { MIB } from "../vmm/layout.ts";
import type { ShellConfig } from "../vmm/vm_config.ts";
import { GATEWAY_ADDRESS, GUEST_ADDRESS } from "../workload/guest_addresses.ts";
import type { NetworkEvent } from "./network.ts";

/** What differs between machines. */
export interface Hardware {
  /** Path of the root image. */
  readonly image: string;
  /** MiB. */
  readonly memory: number;
  /** Number of virtual CPUs. */
  readonly vcpus: number;
}

const FIRST_CID = 3; // the first that is no one else's (vsock(7)); every VM has a socket of its own

/** The hardware that a request asks for. */
export function hardwareOf(
  { image }: Pick<Hardware, "image">,
  { memory, vcpus }: Omit<Hardware, "image">,
): Hardware {
  return { image, memory, vcpus };
}

/**
 * A VM with such hardware.
 *
 * @param socket path of the Unix socket of its vsock device
 * @param progress hears what the devices remark
 * @param onNetwork hears what a person may want to know of the guest's network
 */
export function vmConfig(
  hardware: Hardware,
  socket: string,
  progress: Progress,
  onNetwork?: (event: NetworkEvent) => void,
): ShellConfig & { readonly devices: DevicesConfig } {
  const [random] = crypto.getRandomValues(new Uint32Array(1));
  return {
    memory: hardware.memory * MIB,
    vcpus: hardware.vcpus,
    devices: {
      pmem: [{ path: hardware.image }],
      vsock: { cid: FIRST_CID + random! % 0x7fff_0000, path: socket },
      rng: true,
      balloon: true, // for what the guest reports as free
      net: { guest: GUEST_ADDRESS, gateway: GATEWAY_ADDRESS, onEvent: onNetwork }, // cable pulled
    },
    warning: (message) => progress.info(message),
  };
}
