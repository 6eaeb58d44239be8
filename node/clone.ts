/**
 * A clone: a VM with everything of a snapshot in its place. It is paused until it is resumed, so that
 * all that takes time is done beforehand.
 *
 * @module
 */
import { join } from "node:path";
import { agentBehind, type AgentClient, connectAgent, KEEP_ALIVE } from "../agent/client/client.ts";
import type { Progress } from "../base/progress.ts";
import type { Snapshot } from "../vmm/snapshot/snapshot.ts";
import { Vm } from "../vmm/vm.ts";
import { newIdentity } from "./clone_identity.ts";
import { GuestNetwork } from "./guest_network.ts";
import { type Hardware, vmConfig } from "./hardware.ts";
import { untilReady } from "./readiness.ts";
import { makeScratch } from "./scratch.ts";

/** How long a restored machine may take to answer. */
const RESTORE_TIMEOUT = 60_000;

/** See the module. */
export class Clone implements AsyncDisposable {
  readonly #resources: AsyncDisposableStack;
  /** Path of its vsock socket. */
  readonly #socket: string;

  private constructor(
    /** The paused VM. */
    readonly vm: Vm,
    socket: string,
    /** What it comes from. */
    readonly snapshot: Snapshot,
    /** By how many nanoseconds its wall clock has to be put forward, at whatever time it is resumed. */
    readonly clockStep: bigint,
    /** Its network: none, until it is given one. */
    readonly network: GuestNetwork,
    resources: AsyncDisposableStack,
  ) {
    this.#socket = socket;
    this.#resources = resources;
  }

  /** Resolves when the VM has ended. */
  get ended(): Promise<unknown> {
    return this.vm.outcome;
  }

  /**
   * Makes one.
   *
   * @param snapshot of such hardware; the clone's from now on, also when this fails
   * @param progress hears what the devices remark
   */
  static async make(snapshot: Snapshot, hardware: Hardware, progress: Progress): Promise<Clone> {
    await using stack = new AsyncDisposableStack();
    stack.use(snapshot);
    const socket = join(stack.use(makeScratch()).path, "vsock");
    const network = stack.use(new GuestNetwork(socket));
    const config = vmConfig(hardware, socket, progress, (event) => network.heard(event));
    const vm = stack.use(await Vm.shell(config));
    const clockStep = snapshot.restore(vm);
    return new Clone(vm, socket, snapshot, clockStep, network, stack.move());
  }

  /**
   * Lets the guest go on, gives it its identity and the time, and waits until it has them.
   *
   * @param id names the machine; "" keeps the name that is in the snapshot
   * @param clockStepNs by how many nanoseconds its clock is put forward
   */
  async resume(id: string, clockStepNs: bigint, signal: AbortSignal): Promise<AgentClient> {
    this.vm.resume();
    const agent = connectAgent(agentBehind(this.#socket));
    // What the machine is for follows at once.
    const resumed = agent.resume({ ...newIdentity(id), clockStepNs }, { ...KEEP_ALIVE, signal });
    await untilReady(this.vm, resumed.then(() => {}), signal, RESTORE_TIMEOUT);
    return agent;
  }

  /** Ends the VM and closes the snapshot. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
