/**
 * Recipes: which snapshot a machine is restored from, and how it is made where it is missing.
 *
 * ```text
 * booted machine
 *  └─ ready: its agent answers, an idle interpreter of its language waits     readySnapshot
 *      ├─ for one program: the interpreter knows more than its language       programSnapshot
 *      └─ with a layer: a workload is prepared in it                          keepLayer
 * ```
 *
 * @module
 */
import { languageOrCommand } from "../workload/languages.ts";
import type { InterpreterNeeds } from "../workload/interpreter_needs.ts";
import { lazyImport } from "../base/lazy_import.ts";
import { CloudletError, messageOf } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import type { Caller, SharedWork } from "../base/shared_work.ts";
import { cacheKey, filesKey, type KeyPart } from "../base/store.ts";
import { MIB } from "../vmm/layout.ts";
import type { MemoryFile } from "../vmm/snapshot/memory_file.ts";
import { saveSnapshot, type Snapshot } from "../vmm/snapshot/snapshot.ts";
import { boot, type BootOptions, KERNEL_ARGUMENTS, type RunningVm } from "./boot.ts";
import { fileOf, filesOf, leaseParts, type Parts } from "./boot_parts.ts";
import { Clone } from "./clone.ts";
import { BEHIND, clockError, newIdentity } from "./clone_identity.ts";
import { hardwareOf, vmConfig } from "./hardware.ts";
import type { HostMachineRequest } from "./host_machine.ts";
import { reclaimFreeMemory } from "./reclaim.ts";
import { type GuestParts, snapshotRequirements } from "./snapshot_key.ts";
import { keepSnapshot, openCached, openOrMake } from "./snapshots.ts";
import { untilIdle, warmUp } from "./warm_up.ts";

/** How snapshots are made. */
export interface RecipeOptions extends BootOptions {
  /** What builds and snapshots belong to, since several requests may want the same one. */
  readonly shared: SharedWork;
}

/** A snapshot, with what it is of. */
export interface Found {
  /** What it is of; its key in the cache. */
  readonly requires: KeyPart;
  /** Open; the caller closes it. */
  readonly snapshot: Snapshot;
  /** Whether the workload of {@linkcode HostMachineRequest.layer} is prepared in it. */
  readonly prepared: boolean;
}

/**
 * What a snapshot must be of to serve a request.
 *
 * @param more what it has beyond a ready machine
 */
function requirementsOf(
  parts: Parts,
  request: HostMachineRequest,
  more: Pick<GuestParts, "main" | "files" | "workload"> = {},
): KeyPart {
  const { devices } = vmConfig(hardwareOf(parts, request), "", request.progress);
  return snapshotRequirements({
    kernel: fileOf(parts.kernel),
    initramfs: parts.initramfs.map(fileOf).join(" "),
    image: fileOf(parts.image),
    devices: Object.keys(devices).join(" "),
    cmdline: KERNEL_ARGUMENTS,
    memory: request.memory * MIB,
    vcpus: request.vcpus,
    warm: request.idle === false ? "" : request.language,
    ...more,
  });
}

/** The snapshot that serves a request: with its layer, or with as much as there can be of it. */
export async function findSnapshot(
  parts: Parts,
  request: HostMachineRequest,
  options: RecipeOptions,
): Promise<Found> {
  const { layer, rebuild = false } = request;
  if (layer !== undefined && !rebuild) {
    const requires = requirementsOf(parts, request, { workload: layer });
    const snapshot = await openCached(requires, (message) => request.progress.info(message));
    if (snapshot !== undefined) return { requires, snapshot, prepared: true };
  }
  return await unpreparedSnapshot(parts, request, options);
}

/** Of a machine whose interpreter waits for the program, or at least for its language. */
async function unpreparedSnapshot(
  parts: Parts,
  request: HostMachineRequest,
  options: RecipeOptions,
): Promise<Found> {
  const { needs, signal, progress, language } = request;
  if (needs === undefined) return await readySnapshot(parts, request, options);
  try {
    return await programSnapshot(parts, request, needs, options);
  } catch (error) { // the disk is full, say, or its configuration is wrong: the run will tell
    signal.throwIfAborted();
    const requires = requirementsOf(parts, request);
    const snapshot = await openCached(requires, (message) => progress.info(message));
    if (snapshot === undefined) throw error; // not even that one could be made
    progress.info(`No idle ${language} waits for ${needs.entryPoint}: ${messageOf(error)}`);
    return { requires, snapshot, prepared: false };
  }
}

/** From the cache, or made now, for all who want it: `make` is not the request's own work. */
async function findOrMake(
  requires: KeyPart,
  parts: Parts,
  request: HostMachineRequest,
  { shared }: RecipeOptions,
  make: (directory: string, request: HostMachineRequest) => Promise<void>,
): Promise<Found> {
  let built = false;
  const made = (caller: Caller) =>
    openOrMake(requires, {
      make: async (directory) => {
        // The work may outlive the request, whose machine has these otherwise.
        using _lease = await leaseParts(parts);
        await make(directory, { ...request, ...caller });
        built = true;
      },
      parts: filesOf(parts),
      note: (message) => caller.progress.info(message),
    });
  const found = await openCached(requires, (message) => request.progress.info(message));
  if (found !== undefined) return { requires, snapshot: found, prepared: false };
  await shared.share(cacheKey(requires), request, async (caller) => {
    using _snapshot = await made(caller);
    if (built) await tidy(caller.progress);
  });
  return { requires, snapshot: await made(request), prepared: false }; // each opens it for itself
}

/** Of a machine that was booted and has just become ready. */
async function readySnapshot(
  parts: Parts,
  request: HostMachineRequest,
  options: RecipeOptions,
): Promise<Found> {
  const requires = requirementsOf(parts, request);
  return await findOrMake(requires, parts, request, options, async (directory, request) => {
    const { progress, signal, language } = request;
    await using machine = await boot(parts, request, options);
    const { vm, agent } = machine;
    using task = progress.task("Save the microVM for the next runs");
    const clockStepNs = -BEHIND - await clockError(agent, signal);
    await agent.resume({ ...newIdentity(), clockStepNs }, { signal });
    await reclaimFreeMemory(vm, signal);
    if (request.idle !== false) await warmUp(agent, language, signal); // last: what is warm cools down
    await untilIdle(vm, signal);
    await vm.pause();
    await saveSnapshot(vm, directory, requires);
    task.done();
  });
}

/** Of a machine in which an interpreter waits for one program: made of the ready one. */
async function programSnapshot(
  parts: Parts,
  request: HostMachineRequest,
  needs: InterpreterNeeds,
  options: RecipeOptions,
): Promise<Found> {
  const { entryPoint: main, files } = needs;
  const requires = requirementsOf(parts, request, { main, files: filesKey(files) });
  return await findOrMake(requires, parts, request, options, async (directory, request) => {
    const { progress, signal, language } = request;
    const { snapshot } = await readySnapshot(parts, request, options);
    await using clone = await Clone.make(snapshot, hardwareOf(parts, request), progress);
    using task = progress.task(`Start ${language} for ${main}, for the next runs as well`);
    // It keeps the name and the clock of the ready one: what starts now starts behind its clones.
    const agent = await clone.resume("", clone.clockStep, signal);
    const asked = { language, entryPoint: main, files: [...files] };
    const { warm } = await agent.warm(asked, { signal });
    if (!warm) throw new CloudletError("Cannot start it", { code: "invalid-input" });
    await untilIdle(clone.vm, signal);
    await clone.vm.pause();
    await saveSnapshot(clone.vm, directory, requires, { base: snapshot.memory });
    task.done();
  });
}

/**
 * Saves a running machine with the layer that is prepared in it, and lets it go on.
 *
 * @param base the memory file that the machine was restored from
 * @returns false when the snapshot could not be saved
 */
export async function keepLayer(
  { vm, agent }: Pick<RunningVm, "vm" | "agent">,
  layer: string,
  parts: Parts,
  request: HostMachineRequest,
  base: MemoryFile,
): Promise<boolean> {
  const { signal, progress } = request;
  using task = progress.task("Save the prepared microVM for the next runs");
  if (languageOrCommand(request.language).build !== undefined) await reclaimFreeMemory(vm, signal);
  // As in readySnapshot: the clock is behind in the snapshot only.
  await agent.resume({ ...newIdentity(), clockStepNs: -BEHIND }, { signal });
  await vm.pause();
  const requires = requirementsOf(parts, request, { workload: layer });
  let kept = false;
  try {
    await keepSnapshot(
      requires,
      {
        make: (directory) => saveSnapshot(vm, directory, requires, { base }),
        parts: filesOf(parts),
      },
    );
    kept = true;
    task.done();
  } catch (error) { // the disk is full, say; the run itself needs no snapshot
    progress.info(`The prepared microVM is not kept: ${messageOf(error)}`);
  } finally {
    vm.resume();
  }
  await agent.resume({ ...newIdentity(request.id), clockStepNs: BEHIND }, { signal });
  if (kept) await tidy(progress);
  return kept;
}

/** Brings the cache back within its budget, after something was added to it. */
async function tidy(progress: Progress): Promise<void> {
  const { keepWithinBudget } = await lazyImport<typeof import("../base/cache/upkeep.ts")>(
    "../base/cache/upkeep.ts",
    import.meta.url,
  );
  await keepWithinBudget((message) => progress.info(message));
}
