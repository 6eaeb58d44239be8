/**
 * The real machines: a kernel, an initramfs and the language's image from the builders, booted in a
 * microVM until its agent serves.
 *
 * @module
 */
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { agentBehind, type AgentClient, connectAgent, listenForReady } from "../../agent/client.ts";
import { CloudletError } from "../../base/errors.ts";
import type { ProgramConfig } from "../../builder/oci/manifest.ts";
import { type BootFiles, Workshop } from "../../builder/workshop.ts";
import type { ResumeRequestSchema } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { defaultKernel } from "../host_traits.ts";
import { MIB } from "../layout.ts";
import { openOrMake } from "../snapshot/cache.ts";
import { requirements } from "../snapshot/key.ts";
import { saveSnapshot, type Snapshot } from "../snapshot/snapshot.ts";
import { Vm } from "../vm.ts";
import type { ShellConfig } from "../vm_config.ts";
import type { VmOutcome } from "../vm_outcome.ts";
import { saveChanges } from "./image_changes.ts";
import type { Machine, MachineFactory, MachineImage, MachineRequest } from "./machine.ts";
import { rehearse } from "./rehearsal.ts";
import { makeScratch, sweepScratch } from "./scratch.ts";

/** How machines are made. */
export interface MicroVmOptions {
  /** `debian`, `built`, or the path of a kernel; what suits the host when absent. */
  readonly kernel?: string;
  /** Whether to restore machines from snapshots, and to make those that are missing; they are by default. */
  readonly snapshots?: boolean;
  /** Milliseconds that a machine may take from its first instruction to its agent. */
  readonly bootTimeout?: number;
}

/** On a software-only KVM a boot takes half a minute, and several at a time share the processors. */
const BOOT_TIMEOUT = 300_000;
/** How long a restored machine may take to answer. */
const RESTORE_TIMEOUT = 60_000;
/** How far the clock of a guest to be saved is ahead, in nanoseconds: a day. */
export const AHEAD: bigint = 86_400_000_000_000n;
const ENTROPY = 64; // bytes
/** How often a guest that is to be saved is asked what time it is. */
const CLOCK_LOOKS = 5;
/** The root device is named so that /init waits until it is there. */
const KERNEL_ARGUMENTS = "cloudlet.root=/dev/pmem0";
const GUEST_CID = 3; // the first that is no one else's (vsock(7)); every VM has a socket of its own
/** The language's own image as it is. */
const PLAIN_IMAGE: MachineImage = { pull: false, insecure: false, files: [], run: [] };
const TAIL = 20; // lines of the console that explain a failure

/**
 * Makes microVMs.
 *
 * @param options how they are made
 */
export function microVms(options: MicroVmOptions = {}): MachineFactory {
  return async (request) => {
    const { signal } = request;
    sweepScratch();
    const parts = await findParts(request, options.kernel);
    signal.throwIfAborted();

    if (options.snapshots === false) return await boot(parts, request, options);
    using snapshot = await readySnapshot(parts, request, options);
    return await restore(snapshot, parts, request);
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
      ...machineOf(parts, request, socket),
      kernel: parts.kernel,
      initramfs: parts.initramfs,
      cmdline: KERNEL_ARGUMENTS,
    }),
  );
  signal.throwIfAborted();
  vm.resume();
  await untilReady(vm, listener.ready, signal, options.bootTimeout ?? BOOT_TIMEOUT);
  task.done();
  return new MicroVm(vm, connectAgent(agentBehind(socket)), parts.program, stack.move());
}

function machineOf(parts: Parts, request: MachineRequest, socket: string): ShellConfig {
  const [random] = crypto.getRandomValues(new Uint32Array(1));
  return {
    memory: request.memory * MIB,
    vcpus: request.vcpus,
    devices: {
      pmem: [{ path: parts.image }],
      vsock: { cid: GUEST_CID + random! % 0x7fff_0000, path: socket },
      rng: true,
    },
    warning: (message) => request.progress.info(message),
  };
}

/** The snapshot of such a machine that has just become ready: from the cache, or made now. */
async function readySnapshot(
  parts: Parts,
  request: MachineRequest,
  options: MicroVmOptions,
): Promise<Snapshot> {
  const { progress, signal, language, vcpus, memory } = request;
  const requires = requirements({
    kernel: fileOf(parts.kernel),
    initramfs: parts.initramfs.map(fileOf).join(" "),
    image: fileOf(parts.image),
    cmdline: KERNEL_ARGUMENTS,
    memory: memory * MIB,
    vcpus,
    warm: language,
  });
  return await openOrMake(requires, {
    note: (message) => progress.info(message),
    async make(directory) {
      await using machine = await boot(parts, request, options);
      const { vm, agent } = machine;
      using task = progress.task("Save the microVM for the next runs");
      // Processes that start in the future seed their generators again when the clock is put right:
      // OpenSSL does when time went backwards (providers/implementations/rands/drbg.c).
      const clockStepNs = AHEAD - await clockError(agent, signal);
      await agent.resume({ ...newIdentity(), clockStepNs }, { signal });
      await rehearse(agent, language, signal);
      await vm.pause();
      await saveSnapshot(vm, directory, requires);
      task.done();
    },
  });
}

/** A machine from a snapshot. */
async function restore(
  snapshot: Snapshot,
  parts: Parts,
  request: MachineRequest,
): Promise<MicroVm> {
  const { signal } = request;
  await using stack = new AsyncDisposableStack();
  const socket = join(stack.use(makeScratch()).path, "vsock");
  const vm = stack.use(await Vm.shell(machineOf(parts, request, socket)));
  signal.throwIfAborted();
  const step = snapshot.restore(vm) - AHEAD;
  vm.resume();
  const agent = connectAgent(agentBehind(socket));
  const resumed = agent.resume({ ...newIdentity(request.id), clockStepNs: step }, { signal });
  await untilReady(vm, resumed.then(() => {}), signal, RESTORE_TIMEOUT);
  return new MicroVm(vm, agent, parts.program, stack.move());
}

/**
 * By how many nanoseconds the guest's clock is ahead: it began with the seconds of a real-time clock.
 * Of several answers the quickest tells best.
 */
async function clockError(agent: AgentClient, signal: AbortSignal): Promise<bigint> {
  let best = { took: Infinity, error: 0n };
  for (let i = 0; i < CLOCK_LOOKS; i++) {
    const asked = Date.now();
    const { clockNs } = await agent.info({}, { signal });
    const took = Date.now() - asked;
    const error = clockNs - BigInt(Math.round((asked + took / 2) * 1e6));
    if (took < best.took) best = { took, error };
  }
  return best.error;
}

/** What no other machine gets. */
function newIdentity(id = ""): MessageInitShape<typeof ResumeRequestSchema> {
  return {
    entropy: crypto.getRandomValues(new Uint8Array(ENTROPY)),
    clockNs: BigInt(Date.now()) * 1_000_000n,
    vmId: id,
    hostname: id.replace(/[^A-Za-z0-9-]/g, "-").slice(0, 12),
  };
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
  const workshop = new Workshop({ progress, signal });
  const files = await workshop.bootFiles(kernel ?? defaultKernel(), vcpus);
  const wanted = { ...PLAIN_IMAGE, ...request.image, language, packages };
  const { path, manifest } = await workshop.rootImage(wanted, async (base, run, layer) => {
    const parts = { ...files, image: base.path, program: base.manifest.from?.program };
    await using machine = await boot(parts, request, {});
    await saveChanges(machine, run, layer, request);
  });
  return { ...files, image: path, program: manifest.from?.program };
}

async function untilReady(
  vm: Vm,
  ready: Promise<void>,
  signal: AbortSignal,
  timeout: number,
): Promise<void> {
  const failure = Promise.withResolvers<never>();
  const fail = (why: string) =>
    failure.reject(
      new CloudletError(`Cannot boot the microVM: ${why}${consoleTail(vm)}`, {
        code: "guest",
        remedy: "give it more memory; `cloudlet doctor` checks the host",
      }),
    );
  const abort = () => failure.reject(signal.reason);
  const timer = setTimeout(
    () => fail(`its agent did not answer within ${timeout / 1000} s`),
    timeout,
  );
  signal.addEventListener("abort", abort);
  void vm.outcome.then((outcome) => fail(describe(outcome)));
  try {
    await Promise.race([ready, failure.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    failure.promise.catch(() => {});
  }
}

function consoleTail(vm: Vm): string {
  const lines = vm.consoleText.trimEnd().split("\n").slice(-TAIL).join("\n");
  return lines === "" ? "" : `; its console said last:\n${lines}`;
}

/** How a VM ended, in words that go on after "the microVM ended: ". */
function describe(outcome: VmOutcome): string {
  switch (outcome.kind) {
    case "poweroff":
      return "it switched itself off";
    case "reset":
      return "it reset itself";
    case "halted":
      return "it halted";
    case "stopped":
      return "it was stopped";
    case "panic":
      return `its kernel panicked: ${outcome.message}`;
    case "out-of-memory":
      return `its memory was used up: ${outcome.message}`;
    case "triple-fault":
    case "internal-error":
      return outcome.message;
    default:
      return outcome satisfies never;
  }
}

/** A microVM whose agent serves. */
class MicroVm implements Machine {
  readonly ended: Promise<string>;
  readonly vm: Vm;
  readonly #resources: AsyncDisposableStack;

  constructor(
    vm: Vm,
    readonly agent: AgentClient,
    readonly program: ProgramConfig | undefined,
    resources: AsyncDisposableStack,
  ) {
    this.vm = vm;
    this.#resources = resources;
    this.ended = vm.outcome.then(describe);
  }

  console(): string {
    return this.vm.consoleText;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
