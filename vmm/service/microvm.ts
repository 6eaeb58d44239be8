/**
 * The real machines: a kernel, an initramfs and the language's image from the builders, restored from
 * a snapshot of such a machine whose agent serves, or booted.
 *
 * Snapshots come in two layers: of a machine that is ready for any program of its language, and of
 * one in which a workload is prepared. A machine of the first becomes one of the second by
 * {@linkcode Machine.keep}. In between are those whose interpreter had to be told more of the program
 * than its language ({@linkcode MachineRequest.needs}).
 *
 * @module
 */
import { join } from "node:path";
import {
  agentBehind,
  type AgentClient,
  connectAgent,
  KEEP_ALIVE,
  listenForReady,
} from "../../agent/client.ts";
import { languageOrCommand } from "../../agent/languages.ts";
import type { InterpreterNeeds } from "../../agent/interpreter_needs.ts";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { temporaryIn } from "../../base/files.ts";
import { silentProgress } from "../../base/progress.ts";
import { cacheKey, filesKey, type KeyPart } from "../../base/store.ts";
import type { ProgramConfig } from "../../builder/oci/manifest.ts";
import { type BootFiles, Builder } from "../../builder/artifacts.ts";
import { defaultKernel } from "../host_traits.ts";
import { MIB } from "../layout.ts";
import { keepSnapshot, openCached, openOrMake, snapshotStore } from "../snapshot/cache.ts";
import { type GuestParts, requirements } from "../snapshot/key.ts";
import { saveSnapshot, Snapshot } from "../snapshot/snapshot.ts";
import { Vm } from "../vm.ts";
import { Clone, type Hardware, machineOf } from "./clone.ts";
import { compact } from "./compact.ts";
import { AHEAD, clockError, newIdentity } from "./identity.ts";
import { saveChanges } from "./image_changes.ts";
import type {
  ForkRequest,
  Machine,
  MachineFactory,
  MachineImage,
  MachineRequest,
} from "./machine.ts";
import { describe, untilReady } from "./ready.ts";
import { rehearse, settle } from "./rehearsal.ts";
import { makeScratch, sweepScratch } from "./scratch.ts";
import type { Shells } from "./shells.ts";

/** How machines are made. */
export interface MicroVmOptions {
  /** `debian`, `built`, or the path of a kernel; what suits the host when absent. */
  readonly kernel?: string;
  /** Whether to restore machines from snapshots, and to make those that are missing; they are by default. */
  readonly snapshots?: boolean;
  /** Keeps clones ready; none is when absent. */
  readonly shells?: Shells;
  /** Milliseconds that a machine may take from its first instruction to its agent. */
  readonly bootTimeout?: number;
}

/** On a software-only KVM a boot takes half a minute, and several at a time share the processors. */
const BOOT_TIMEOUT = 300_000;
/** How long a restored machine may take to answer. */
const RESTORE_TIMEOUT = 60_000;
/** How long a program survives its client while it is being forked, in seconds. */
const HOLD = 60;
/** The root device is named so that /init waits until it is there. */
const KERNEL_ARGUMENTS = "cloudlet.root=/dev/pmem0";
/** The language's own image as it is. */
const PLAIN_IMAGE: MachineImage = { pull: false, insecure: false, files: [], run: [] };

/**
 * Makes microVMs.
 *
 * @param options how they are made
 */
export function microVms(options: MicroVmOptions = {}): MachineFactory {
  return async (request) => {
    const { signal, layer, rebuild = false } = request;
    sweepScratch();
    const parts = await findParts(request, options.kernel);
    signal.throwIfAborted();
    if (options.snapshots === false) return await boot(parts, request, options);

    if (layer !== undefined && !rebuild) {
      const requires = requirementsOf(parts, request, { workload: layer });
      const prepared = await openCached(requires, (message) => request.progress.info(message));
      if (prepared !== undefined) {
        const clone = await cloneOf(prepared, requires, parts, request, options);
        return await restored(clone, parts, request, true);
      }
    }
    const { requires, snapshot } = await findSnapshot(parts, request, options);
    const clone = await cloneOf(snapshot, requires, parts, request, options);
    return await restored(clone, parts, request, false);
  };
}

/** Boots a machine and waits for its agent. */
async function boot(
  parts: Parts,
  request: MachineRequest,
  options: MicroVmOptions,
): Promise<MicroVm> {
  const { signal, progress } = request;
  using task = progress.task("Boot the microVM");
  await using stack = new AsyncDisposableStack();
  const socket = join(stack.use(makeScratch()).path, "vsock");
  const listener = stack.use(listenForReady(socket));
  const vm = stack.use(
    await Vm.create({
      ...machineOf(hardwareOf(parts, request), socket, progress),
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
  return new MicroVm({ vm, agent, parts, request, resources: stack.move() });
}

function hardwareOf(parts: Parts, { memory, vcpus }: MachineRequest): Hardware {
  return { image: parts.image, memory, vcpus };
}

/**
 * What a snapshot must be of to serve a request.
 *
 * @param more what it has beyond a ready machine
 */
function requirementsOf(
  parts: Parts,
  request: MachineRequest,
  more: Pick<GuestParts, "main" | "files" | "workload"> = {},
): KeyPart {
  return requirements({
    kernel: fileOf(parts.kernel),
    initramfs: parts.initramfs.map(fileOf).join(" "),
    image: fileOf(parts.image),
    devices: Object.keys(machineOf(hardwareOf(parts, request), "", request.progress).devices)
      .join(" "),
    cmdline: KERNEL_ARGUMENTS,
    memory: request.memory * MIB,
    vcpus: request.vcpus,
    warm: request.language,
    ...more,
  });
}

/** A snapshot, with what it is of. */
interface Found {
  readonly requires: KeyPart;
  readonly snapshot: Snapshot;
}

/** From the cache, or made now. */
async function findOrMake(
  requires: KeyPart,
  { progress }: MachineRequest,
  make: (directory: string) => Promise<void>,
): Promise<Found> {
  const snapshot = await openOrMake(requires, { make, note: (message) => progress.info(message) });
  return { requires, snapshot };
}

/** The snapshot of such a machine that has just become ready. */
async function readySnapshot(
  parts: Parts,
  request: MachineRequest,
  options: MicroVmOptions,
): Promise<Found> {
  const { progress, signal, language } = request;
  const requires = requirementsOf(parts, request);
  return await findOrMake(requires, request, async (directory) => {
    await using machine = await boot(parts, request, options);
    const { vm, agent } = machine;
    using task = progress.task("Save the microVM for the next runs");
    const clockStepNs = AHEAD - await clockError(agent, signal);
    await agent.resume({ ...newIdentity(), clockStepNs }, { signal });
    await compact(vm, signal);
    await rehearse(agent, language, signal); // last: what is warm cools down
    await settle(vm, signal);
    await vm.pause();
    await saveSnapshot(vm, directory, requires);
    task.done();
  });
}

/** The snapshot of a machine in which an interpreter waits for one program: made of the ready one. */
async function waitingSnapshot(
  parts: Parts,
  request: MachineRequest,
  needs: InterpreterNeeds,
  options: MicroVmOptions,
): Promise<Found> {
  const { progress, signal, language } = request;
  const { entryPoint: main, files } = needs;
  const requires = requirementsOf(parts, request, { main, files: filesKey(files) });
  return await findOrMake(requires, request, async (directory) => {
    const { snapshot } = await readySnapshot(parts, request, options);
    await using clone = await Clone.make(snapshot, hardwareOf(parts, request), progress);
    using task = progress.task(`Start ${language} for ${main}, for the next runs as well`);
    // It keeps the name and the clock of the ready one: what starts now starts ahead of its clones.
    const agent = await wake(clone, "", clone.clockStep, signal);
    const asked = { language, entryPoint: main, files: [...files] };
    const { warm } = await agent.warm(asked, { signal });
    if (!warm) throw new CloudletError("Cannot start it", { code: "invalid-input" });
    await settle(clone.vm, signal);
    await clone.vm.pause();
    await saveSnapshot(clone.vm, directory, requires, { base: snapshot.memory });
    task.done();
  });
}

/** The snapshot of a machine whose interpreter waits for the program, or at least for its language. */
async function findSnapshot(
  parts: Parts,
  request: MachineRequest,
  options: MicroVmOptions,
): Promise<Found> {
  const { needs, signal, progress, language } = request;
  if (needs === undefined) return await readySnapshot(parts, request, options);
  try {
    return await waitingSnapshot(parts, request, needs, options);
  } catch (error) { // the disk is full, say, or its configuration is wrong: the run will tell
    signal.throwIfAborted();
    const requires = requirementsOf(parts, request);
    const snapshot = await openCached(requires, (message) => progress.info(message));
    if (snapshot === undefined) throw error; // not even that one could be made
    progress.info(`No ${language} waits for ${needs.entryPoint}: ${messageOf(error)}`);
    return { requires, snapshot };
  }
}

/** A clone that waits already, or a new one. The snapshot is taken over. */
async function cloneOf(
  snapshot: Snapshot,
  requires: KeyPart,
  parts: Parts,
  request: MachineRequest,
  { shells }: MicroVmOptions,
): Promise<Clone> {
  const hardware = hardwareOf(parts, request);
  if (shells === undefined) return await Clone.make(snapshot, hardware, request.progress);
  let given: Snapshot | undefined = snapshot;
  try {
    return await shells.take(cacheKey(requires), async () => {
      const own = given ?? await openCached(requires, () => {});
      given = undefined;
      if (own === undefined) {
        throw new CloudletError("Cannot keep a microVM ready: its snapshot is gone", {
          code: "not-found",
        });
      }
      return await Clone.make(own, hardware, silentProgress);
    });
  } finally {
    given?.[Symbol.dispose]();
    given = undefined; // one that is made later opens the snapshot again
  }
}

/** Lets a clone loose and tells it who it is. */
async function restored(
  clone: Clone,
  parts: Parts,
  request: MachineRequest,
  prepared: boolean,
): Promise<MicroVm> {
  const { signal, id } = request;
  await using stack = new AsyncDisposableStack();
  stack.use(clone);
  signal.throwIfAborted();
  const agent = await wake(clone, id, clone.clockStep - AHEAD, signal);
  const { vm, snapshot: base } = clone;
  return new MicroVm({ vm, agent, parts, request, resources: stack.move(), base, prepared });
}

/** Lets a clone go on, tells it its name and the time, and waits until it has heard. */
async function wake(
  { vm, socket }: Clone,
  id: string,
  clockStepNs: bigint,
  signal: AbortSignal,
): Promise<AgentClient> {
  vm.resume();
  const agent = connectAgent(agentBehind(socket));
  // What the machine is for follows at once.
  const resumed = agent.resume({ ...newIdentity(id), clockStepNs }, { ...KEEP_ALIVE, signal });
  await untilReady(vm, resumed.then(() => {}), signal, RESTORE_TIMEOUT);
  return agent;
}

/** What tells a file of the cache from others: entries are named by their content. */
function fileOf(path: string): string {
  const { size, mtime } = Deno.statSync(path);
  return `${path} ${size} ${mtime?.getTime()}`;
}

interface Parts extends BootFiles {
  readonly image: string;
  readonly program: ProgramConfig | undefined;
}

/** Finds what a machine boots from; builds what is missing. */
async function findParts(request: MachineRequest, kernel: string | undefined): Promise<Parts> {
  const { progress, signal, language, vcpus, packages } = request;
  const builder = new Builder({ progress, signal });
  const files = await builder.bootFiles(kernel ?? defaultKernel(), vcpus);
  const wanted = { ...PLAIN_IMAGE, ...request.image, language, packages };
  const { path, manifest } = await builder.rootImage(wanted, async (base, run, layer, budget) => {
    const parts = { ...files, image: base.path, program: base.manifest.from?.program };
    await using machine = await boot(parts, request, {});
    await saveChanges(machine, run, layer, request, budget);
  });
  return { ...files, image: path, program: manifest.from?.program };
}

/** What a {@linkcode MicroVm} is made of. */
interface MicroVmParts {
  readonly vm: Vm;
  readonly agent: AgentClient;
  readonly parts: Parts;
  readonly request: MachineRequest;
  readonly resources: AsyncDisposableStack;
  /** The snapshot that it was restored from. */
  readonly base?: Snapshot;
  readonly prepared?: boolean;
}

/** A microVM whose agent serves. */
class MicroVm implements Machine {
  readonly ended: Promise<string>;
  readonly vm: Vm;
  readonly agent: AgentClient;
  readonly program: ProgramConfig | undefined;
  readonly prepared: boolean;
  readonly keep?: () => Promise<void>;
  readonly #made: MicroVmParts;
  #saving: Promise<unknown> = Promise.resolve();

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
      this.keep = () => this.#save(() => this.#keep(layer));
    }
  }

  console(): string {
    return this.vm.consoleText;
  }

  /**
   * One at a time: whatever pauses the machine to save it.
   *
   * @param after is done before the next one, but not waited for
   */
  async #save(work: () => Promise<void>, after?: () => Promise<unknown>): Promise<void> {
    const saved = this.#saving.then(work);
    this.#saving = saved.catch(() => {}).then(after).catch(() => {}); // it may have ended
    await saved;
  }

  /** Saves the machine under a layer's name, and goes on. */
  async #keep(layer: string): Promise<void> {
    const { vm, agent, parts, request, base } = this.#made;
    const { signal, progress } = request;
    using task = progress.task("Save the prepared microVM for the next runs");
    if (languageOrCommand(request.language).build !== undefined) await compact(vm, signal);
    // As in readySnapshot: the clock is ahead in the snapshot only.
    await agent.resume({ ...newIdentity(), clockStepNs: AHEAD }, { signal });
    await vm.pause();
    const requires = requirementsOf(parts, request, { workload: layer });
    try {
      await keepSnapshot(
        requires,
        (directory) => saveSnapshot(vm, directory, requires, { base: base?.memory }),
      );
      task.done();
    } catch (error) { // the disk is full, say; the run itself needs no snapshot
      progress.info(`The prepared microVM is not kept: ${messageOf(error)}`);
    } finally {
      vm.resume();
    }
    await agent.resume({ ...newIdentity(request.id), clockStepNs: -AHEAD }, { signal });
  }

  async fork(fork: ForkRequest): Promise<Machine> {
    const { vm, agent, parts, request, base } = this.#made;
    await using stack = new AsyncDisposableStack();
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
    const forked = await wake(clone, fork.id, clone.clockStep, fork.signal);
    return new MicroVm({
      vm: clone.vm,
      agent: forked,
      parts,
      request: { ...request, ...fork },
      resources: stack.move(),
      base: snapshot,
      prepared: true,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#made.resources.disposeAsync();
  }
}
