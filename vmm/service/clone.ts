/**
 * A machine from a snapshot that waits, paused, to be let loose: everything that costs time is done.
 *
 * @module
 */
import { join } from "node:path";
import type { Progress } from "../../base/progress.ts";
import type { DevicesConfig } from "../devices/registry.ts";
import { MIB } from "../layout.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import { Vm } from "../vm.ts";
import type { ShellConfig } from "../vm_config.ts";
import { makeScratch } from "./scratch.ts";

/** The hardware of a machine. */
export interface Hardware {
  /** Path of the root image. */
  readonly image: string;
  /** MiB. */
  readonly memory: number;
  /** Number of virtual CPUs. */
  readonly vcpus: number;
}

const FIRST_CID = 3; // the first that is no one else's (vsock(7)); every VM has a socket of its own

/** The devices of such a machine. */
export function machineOf(
  hardware: Hardware,
  socket: string,
  progress: Progress,
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
    },
    warning: (message) => progress.info(message),
  };
}

/** See the module. */
export class Clone implements AsyncDisposable {
  readonly #resources: AsyncDisposableStack;

  private constructor(
    /** The paused VM. */
    readonly vm: Vm,
    /** Path of its vsock socket. */
    readonly socket: string,
    /** What it comes from. */
    readonly snapshot: Snapshot,
    /** By how many nanoseconds its wall clock has to be put forward, whenever it is told. */
    readonly clockStep: bigint,
    resources: AsyncDisposableStack,
  ) {
    this.#resources = resources;
  }

  /**
   * Puts one together.
   *
   * @param snapshot of such hardware; the clone's from now on, also when this fails
   * @param progress hears what the devices remark
   */
  static async make(snapshot: Snapshot, hardware: Hardware, progress: Progress): Promise<Clone> {
    await using stack = new AsyncDisposableStack();
    stack.use(snapshot);
    const socket = join(stack.use(makeScratch()).path, "vsock");
    const vm = stack.use(await Vm.shell(machineOf(hardware, socket, progress)));
    const clockStep = snapshot.restore(vm);
    return new Clone(vm, socket, snapshot, clockStep, stack.move());
  }

  /** Ends the VM and closes the snapshot. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
