/**
 * Booting a machine: what it boots from, found or built, and the wait for its agent.
 *
 * @module
 */
import { join } from "node:path";
import { agentBehind, type AgentClient, connectAgent, listenForReady } from "../agent/client.ts";
import { Workshop } from "../builder/workshop.ts";
import { defaultKernel } from "../vmm/host_traits.ts";
import { Vm } from "../vmm/vm.ts";
import { type Parts, PLAIN_IMAGE } from "./boot_parts.ts";
import { saveChanges } from "./image_changes.ts";
import { hardwareOf, vmConfig } from "./hardware.ts";
import type { MachineRequest } from "./machine_factory.ts";
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

/**
 * Finds what a machine boots from; builds what is missing.
 *
 * @param kernel `debian`, `built`, or the path of a kernel; what suits the host when undefined
 */
export async function findParts(
  request: MachineRequest,
  kernel: string | undefined,
): Promise<Parts> {
  const { progress, signal, language, vcpus, packages } = request;
  const workshop = new Workshop({ progress, signal });
  const files = await workshop.bootFiles(kernel ?? defaultKernel(), vcpus);
  const wanted = { ...PLAIN_IMAGE, ...request.image, language, packages };
  const { path, manifest } = await workshop.rootImage(wanted, async (base, run, layer) => {
    const program = base.manifest.from?.program;
    await using machine = await boot({ ...files, image: base.path, program }, request, {});
    await saveChanges({ agent: machine.agent, program }, run, layer, request);
  });
  return { ...files, image: path, program: manifest.from?.program };
}

/** A VM whose agent has answered. */
export interface RunningVm extends AsyncDisposable {
  /** The VM. */
  readonly vm: Vm;
  /** Its agent. */
  readonly agent: AgentClient;
}

/** Boots a machine and waits for its agent. */
export async function boot(
  parts: Parts,
  request: MachineRequest,
  options: BootOptions,
): Promise<RunningVm> {
  const { signal, progress } = request;
  using task = progress.task("Boot the microVM");
  await using stack = new AsyncDisposableStack();
  const socket = join(stack.use(makeScratch()).path, "vsock");
  const listener = stack.use(listenForReady(socket));
  const vm = stack.use(
    await Vm.create({
      ...vmConfig(hardwareOf(parts, request), socket, progress),
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
  return { vm, agent, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}
