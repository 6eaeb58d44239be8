/**
 * Booting a machine: what it boots from, found or built, and the wait for its agent.
 *
 * @module
 */
import { join } from "node:path";
import {
  agentBehind,
  type AgentClient,
  connectAgent,
  listenForReady,
} from "../agent/client/client.ts";
import { withBuilder } from "../builder/artifacts.ts";
import type { RegistryPolicy } from "../builder/oci/policy.ts";
import { defaultKernel } from "../vmm/host_traits.ts";
import { Vm } from "../vmm/vm.ts";
import { type Parts, PLAIN_IMAGE } from "./boot_parts.ts";
import { saveChanges } from "./image_changes.ts";
import { GuestNetwork } from "./guest_network.ts";
import { hardwareOf, vmConfig } from "./hardware.ts";
import type { HostMachineRequest } from "./host_machine.ts";
import type { NetworkEvent } from "./network.ts";
import { untilReady } from "./readiness.ts";
import { makeScratch } from "./scratch.ts";

/** On a software-only KVM a boot takes half a minute, and several at a time share the processors. */
const BOOT_TIMEOUT = 300_000;
/** The root device is named so that /init waits until it is there. */
export const KERNEL_ARGUMENTS = "cloudlet.root=/dev/pmem0";

/** How machines are booted. */
export interface BootOptions {
  /** Milliseconds that a machine may take from its first instruction to its agent. */
  readonly bootTimeout?: number;
}

/** What machines may be booted from. */
export interface PartsOptions {
  /** `debian`, `built`, or the path of a kernel; what suits the host when absent. */
  readonly kernel?: string;
  /** Which images clients may pull; any when absent. */
  readonly registries?: RegistryPolicy;
}

/**
 * Finds what a machine boots from; builds what is missing.
 *
 * @throws {CloudletError} `denied` for an image that may not be pulled, and what the builders throw
 */
export async function findParts(
  request: HostMachineRequest,
  { kernel, registries }: PartsOptions,
): Promise<Parts> {
  const { progress, signal, language, vcpus, packages } = request;
  return await withBuilder({ progress, signal, registries }, async (builder) => {
    const wanted = { ...PLAIN_IMAGE, ...request.image, language, packages };
    builder.checkRoot(wanted); // before a kernel is built for what is refused
    const files = await builder.bootFiles(kernel ?? defaultKernel(), vcpus);
    const { path, manifest } = await builder.rootImage(wanted, async (base, run, layer, budget) => {
      const program = base.manifest.from?.program;
      await using machine = await boot({ ...files, image: base.path, program }, request, {});
      await saveChanges({ agent: machine.agent, program }, run, layer, request, budget);
    });
    return { ...files, image: path, program: manifest.from?.program };
  });
}

/** A VM whose agent has answered. */
export interface RunningVm extends AsyncDisposable {
  /** The VM. */
  readonly vm: Vm;
  /** Its agent. */
  readonly agent: AgentClient;
  /** Its network: none, until it is given one. */
  readonly network: GuestNetwork;
}

/** Boots a machine and waits for its agent. */
export async function boot(
  parts: Parts,
  request: HostMachineRequest,
  options: BootOptions,
): Promise<RunningVm> {
  const { signal, progress } = request;
  using task = progress.task("Boot the microVM");
  await using stack = new AsyncDisposableStack();
  const socket = join(stack.use(makeScratch()).path, "vsock");
  const listener = stack.use(listenForReady(socket));
  const network = stack.use(new GuestNetwork(socket));
  const onNetwork = (event: NetworkEvent) => network.heard(event);
  const vm = stack.use(
    await Vm.create({
      ...vmConfig(hardwareOf(parts, request), socket, progress, onNetwork),
      kernel: parts.kernel,
      initramfs: parts.initramfs,
      cmdline: KERNEL_ARGUMENTS,
    }),
  );
  signal.throwIfAborted();
  vm.resume();
  await untilReady(vm, listener.ready, signal, options.bootTimeout ?? BOOT_TIMEOUT);
  task.done();
  const agent = connectAgent(agentBehind(socket));
  const resources = stack.move();
  return { vm, agent, network, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}
