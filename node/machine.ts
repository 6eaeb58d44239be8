/**
 * A microVM that runs workloads: its agent serves; it can be kept, copied and ended.
 *
 * @module
 */
import type { AgentClient } from "../agent/client/client.ts";
import { temporaryIn } from "../base/files.ts";
import type { ProgramConfig } from "../builder/oci/manifest.ts";
import { saveSnapshot, Snapshot } from "../vmm/snapshot/snapshot.ts";
import type { Vm } from "../vmm/vm.ts";
import { leaseParts, type Parts } from "./boot_parts.ts";
import { Clone } from "./clone.ts";
import { hardwareOf } from "./hardware.ts";
import type { GuestNetwork } from "./guest_network.ts";
import type { HostForkRequest, HostMachine, HostMachineRequest } from "./host_machine.ts";
import type { MachineNetwork, MachineNetworkEvent } from "./network.ts";
import { keepDependencies } from "./keep_dependencies.ts";
import { describe } from "./readiness.ts";
import { keepLayer } from "./recipes.ts";
import { snapshotStore } from "./snapshots.ts";

/**
 * How long a program survives its client while it is being forked, in seconds: the agent's most
 * (MAX_HOLD of agent/service.ts). On a host with much to do a copy may wait for minutes until it is
 * attached to; neither machine outlives its run, whatever its agent waits for.
 */
const HOLD = 600;

/** What a {@linkcode MicroVm} is made of. */
export interface MicroVmParts {
  /** It runs, and its agent has answered. */
  readonly vm: Vm;
  /** Its agent. */
  readonly agent: AgentClient;
  /** Its network. */
  readonly network: GuestNetwork;
  /** Path of a file that gets its network's frames; none when absent. */
  readonly capture?: string | undefined;
  /** What it was booted from, or would be. */
  readonly parts: Parts;
  /** What was asked for. */
  readonly request: HostMachineRequest;
  /** Everything that ends with it. */
  readonly resources: AsyncDisposable;
  /** The snapshot that it was restored from. */
  readonly base?: Snapshot;
  /** Whether the workload of {@linkcode HostMachineRequest.layer} is prepared in it. */
  readonly prepared?: boolean;
}

/** See the module. */
export class MicroVm implements HostMachine {
  readonly ended: Promise<string>;
  /** The VM; for tests and benchmarks. */
  readonly vm: Vm;
  readonly agent: AgentClient;
  readonly program: ProgramConfig | undefined;
  readonly prepared: boolean;
  readonly keep?: NonNullable<HostMachine["keep"]>;
  readonly #made: MicroVmParts;
  #saving: Promise<unknown> = Promise.resolve();

  /** @param made what it is made of; its own from now on */
  constructor(made: MicroVmParts) {
    const { vm, agent, parts, request, base, prepared = false } = made;
    this.#made = made;
    this.vm = vm;
    this.agent = agent;
    this.program = parts.program;
    this.prepared = prepared;
    this.ended = vm.outcome.then(describe);
    const { layer } = request;
    if (base !== undefined && layer !== undefined && !prepared) {
      this.keep = ({ signal, progress } = request) => {
        const call = { ...request, signal, progress };
        return this.#save(() => keepLayer(made, layer, parts, call, base.memory));
      };
    }
  }

  async connect(network: MachineNetwork, signal: AbortSignal): Promise<void> {
    const { vm, agent, network: card } = this.#made;
    await card.plug(vm.devices, network, this.#made.capture);
    if (network.policy === undefined) return;
    await agent.awaitNetwork({ authority: card.authority }, { signal });
  }

  async keepDependencies(key: string, signal: AbortSignal): Promise<void> {
    const { agent, request } = this.#made;
    await keepDependencies({ agent }, key, request.memory, signal);
  }

  networkEvents(end: Promise<unknown>): AsyncIterable<MachineNetworkEvent> {
    return this.#made.network.during(end);
  }

  console(): string {
    return this.vm.consoleText;
  }

  /**
   * One at a time: whatever pauses the machine to save it.
   *
   * @param after is done before the next one, but not waited for
   */
  async #save<T>(work: () => Promise<T>, after?: () => Promise<unknown>): Promise<T> {
    const saved = this.#saving.then(work);
    this.#saving = saved.catch(() => {}).then(after).catch(() => {}); // it may have ended
    return await saved;
  }

  async fork(fork: HostForkRequest): Promise<HostMachine> {
    const { vm, agent, parts, request, base } = this.#made;
    await using stack = new AsyncDisposableStack();
    stack.use(await leaseParts(parts)); // it may outlive this one
    using directory = temporaryIn(snapshotStore().root); // the clone keeps the file open
    await Deno.mkdir(directory.path, { recursive: true, mode: 0o700 });
    const requires = { fork: fork.id };
    await this.#save(async () => {
      fork.signal.throwIfAborted();
      await agent.hold({ executionId: fork.execution, seconds: HOLD }, { signal: fork.signal });
      try {
        await vm.pause();
        await saveSnapshot(vm, directory.path, requires, {
          base: base?.memory,
          durable: false,
          copied: () => vm.resume(),
        });
      } finally {
        vm.resume();
      }
    }, () => agent.hold({ executionId: fork.execution, seconds: 0 }));
    const snapshot = await Snapshot.open(directory.path, requires);
    const clone = stack.use(await Clone.make(snapshot, hardwareOf(parts, request), fork.progress));
    fork.signal.throwIfAborted();
    // The guest goes on at once, and so does what it connects to.
    if (fork.network !== undefined) await clone.network.plug(clone.vm.devices, fork.network);
    const forked = await clone.resume(fork.id, clone.clockStep, fork.signal);
    return new MicroVm({
      vm: clone.vm,
      agent: forked,
      network: clone.network,
      parts,
      request: { ...request, ...fork },
      resources: stack.move(),
      base: snapshot,
      prepared: true,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#made.resources[Symbol.asyncDispose]();
  }
}
