/**
 * The real machines: a kernel, an initramfs and the language's image from the builders, booted in a
 * microVM until its agent serves.
 *
 * @module
 */
import { join } from "node:path";
import { agentBehind, type AgentClient, connectAgent, listenForReady } from "../../agent/client.ts";
import { CloudletError } from "../../base/errors.ts";
import { Workshop } from "../../builder/workshop.ts";
import { MIB } from "../layout.ts";
import { Vm, type VmConfig, type VmOutcome } from "../vm.ts";
import type { Machine, MachineFactory, MachineRequest } from "./machine.ts";
import { makeScratch, sweepScratch } from "./scratch.ts";

/** How machines are made. */
export interface MicroVmOptions {
  /** Path of a kernel in place of the one that cloudlet builds. */
  readonly kernel?: string;
  /** Milliseconds that a machine may take from its first instruction to its agent. */
  readonly bootTimeout?: number;
}

/** On a software-only KVM a boot takes half a minute, and several at a time share the processors. */
const BOOT_TIMEOUT = 300_000;
const GUEST_CID = 3; // the first that is no one else's (vsock(7)); every VM has a socket of its own
const TAIL = 20; // lines of the console that explain a failure

/**
 * Makes microVMs.
 *
 * @param options how they are made
 */
export function microVms(options: MicroVmOptions = {}): MachineFactory {
  return async (request) => {
    const { signal, progress } = request;
    sweepScratch();
    const parts = await findParts(request, options.kernel);
    signal.throwIfAborted();

    using task = progress.task("Boot the microVM");
    await using stack = new AsyncDisposableStack();
    const directory = stack.use(makeScratch()).path;
    const socket = join(directory, "vsock");
    const listener = stack.use(listenForReady(socket));
    const vm = stack.use(
      await Vm.create({
        kernel: parts.kernel,
        initramfs: parts.initramfs,
        memory: request.memory * MIB,
        vcpus: request.vcpus,
        devices: {
          pmem: [{ path: parts.image }],
          vsock: { cid: GUEST_CID, path: socket },
          rng: true,
        },
        warning: (message) => progress.info(message),
      }),
    );
    signal.throwIfAborted();
    vm.resume();
    await untilReady(vm, listener.ready, signal, options.bootTimeout ?? BOOT_TIMEOUT);
    task.done();
    return new MicroVm(vm, connectAgent(agentBehind(socket)), stack.move());
  };
}

interface Parts extends Pick<VmConfig, "kernel"> {
  readonly initramfs: string;
  readonly image: string;
}

/** Finds what a machine boots from; builds what is missing. */
async function findParts(request: MachineRequest, kernel: string | undefined): Promise<Parts> {
  const { progress, signal, language, vcpus } = request;
  const workshop = new Workshop({ progress, signal });
  return {
    kernel: kernel ?? (await workshop.kernel(vcpus > 1 ? "smp" : "up")).vmlinux,
    initramfs: await workshop.initramfs(),
    image: (await workshop.image(language)).path,
  };
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
  readonly #vm: Vm;
  readonly #resources: AsyncDisposableStack;

  constructor(vm: Vm, readonly agent: AgentClient, resources: AsyncDisposableStack) {
    this.#vm = vm;
    this.#resources = resources;
    this.ended = vm.outcome.then(describe);
  }

  console(): string {
    return this.#vm.consoleText;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
