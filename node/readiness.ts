/**
 * Waiting for a microVM's agent, and saying why it does not come.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { Vm } from "../vmm/vm.ts";
import type { VmOutcome } from "../vmm/vm_outcome.ts";

const TAIL = 20; // lines of the console that explain a failure

/**
 * Waits for `ready`, or for what makes it hopeless.
 *
 * @param timeout milliseconds
 * @throws {CloudletError} `guest` when the VM ends, or when time is up; the signal's reason
 */
export async function untilReady(
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
export function describe(outcome: VmOutcome): string {
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
