/**
 * `cloudlet boot`: a microVM with nothing but a kernel and an initramfs, on the serial console.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { cpioArchive, type CpioEntry } from "../builder/initramfs/mod.ts";
import { MarkScanner } from "../vmm/marks.ts";
import { Vm } from "../vmm/vm.ts";
import type { VmOutcome } from "../vmm/vm_outcome.ts";
import { describeError } from "./context.ts";
import { say, writeSync } from "./output.ts";

/** What to boot. */
export interface BootOptions {
  /** Path of a vmlinux or bzImage. */
  readonly kernel: string;
  /** Cpio archives or their paths; the /init in them is cloudlet's (builder/initramfs/init.sh). */
  readonly initramfs: string | Uint8Array | readonly (string | Uint8Array)[];
  /** Path of an EROFS image in which {@linkcode BootOptions.exec} or the image's init runs. */
  readonly root?: string;
  /** Number of vCPUs. */
  readonly vcpus?: number;
  /** Bytes of memory. */
  readonly memory?: number;
  /** Kernel parameters added to the default ones. */
  readonly cmdline?: string;
  /** A shell script to run in place of the interactive shell. */
  readonly exec?: string;
  /** How long the VM may take, from its first instruction on. */
  readonly timeoutSeconds?: number;
  /** Whether to print how long each part of the boot took, on standard error. */
  readonly timeline?: boolean;
}

const LEAVE = 0x1d; // Ctrl-]
const EOF = new Uint8Array([0x04]); // Ctrl-D
/** As timeout(1). */
const EXIT_TIMEOUT = 124;

/**
 * Boots a microVM and stays until it ends.
 *
 * With a script: its output (both streams; the serial console has but one) goes to standard output,
 * and nothing else does. Without: the console is interactive on a terminal, and standard input is
 * typed into it otherwise.
 *
 * @returns the exit code for the process: the script's, or 0, or 124 after a timeout
 * @throws {CloudletError} when the VM cannot be made, or ends in another way than it should
 */
export async function boot(options: BootOptions): Promise<number> {
  const nonce = crypto.randomUUID().replaceAll("-", "");
  const times: Partial<Record<"init" | "begin", number>> = {};
  const begun = Promise.withResolvers<void>();
  const finished = Promise.withResolvers<number>();
  const scanner = new MarkScanner(nonce);
  let forward = options.exec === undefined; // a script's output begins at the mark
  /** Blocks: a reader that is slow makes the guest slow. */
  const show = (bytes: Uint8Array) => {
    try {
      writeSync(bytes);
    } catch (error) {
      forward = false;
      finished.reject(error);
    }
  };

  await using vm = await Vm.create({
    kernel: options.kernel,
    initramfs: [...[options.initramfs].flat(), await orders(nonce, options.exec)],
    ...(options.vcpus === undefined ? {} : { vcpus: options.vcpus }),
    ...(options.memory === undefined ? {} : { memory: options.memory }),
    cmdline: [consoleSize(options), options.cmdline ?? ""].join(" ").trim(),
    ...(options.root === undefined ? {} : { devices: { pmem: [{ path: options.root }] } }),
    serialOutput(chunk) {
      for (const event of scanner.push(chunk)) {
        switch (event.kind) {
          case "output":
            if (forward) show(event.bytes);
            break;
          case "init":
            times.init = performance.now();
            break;
          case "begin":
            times.begin = performance.now();
            begun.resolve();
            forward = true;
            break;
          case "exit":
            forward = false;
            finished.resolve(event.code);
            break;
          default:
            event satisfies never;
        }
      }
    },
    warning: say,
  });

  const leave = () => finished.resolve(0);
  using console_ = options.exec === undefined ? interact(vm, begun.promise, leave) : undefined;
  const timer = options.timeoutSeconds === undefined ? undefined : setTimeout(() => {
    say(`The microVM was stopped after ${options.timeoutSeconds} s.`);
    finished.resolve(EXIT_TIMEOUT);
  }, options.timeoutSeconds * 1000);
  try {
    vm.resume();
    const code = await Promise.race([finished.promise, vm.outcome.then((o) => judge(o, options))]);
    for (const event of scanner.end()) {
      if (event.kind === "output" && forward) writeSync(event.bytes);
    }
    if (options.timeline) printTimeline(vm, times);
    return code;
  } finally {
    clearTimeout(timer);
    console_?.[Symbol.dispose]();
  }
}

/** The archive that tells /init what to do. */
async function orders(nonce: string, exec: string | undefined): Promise<Uint8Array> {
  const text = new TextEncoder();
  const entries: CpioEntry[] = [
    { type: "directory", path: "cloudlet", mode: 0o700 },
    { type: "file", path: "cloudlet/nonce", mode: 0o600, content: text.encode(`${nonce}\n`) },
  ];
  if (exec !== undefined) {
    entries.push({
      type: "file",
      path: "cloudlet/exec",
      mode: 0o700,
      content: text.encode(`${exec}\n`),
    });
  }
  return await cpioArchive(entries);
}

function consoleSize(options: BootOptions): string {
  if (options.exec !== undefined || !Deno.stdin.isTerminal()) return "";
  try {
    const { rows, columns } = Deno.consoleSize();
    return `cloudlet.tty=${rows}x${columns}`;
  } catch {
    return "";
  }
}

/** Joins standard input to the console until disposed; keys but Ctrl-] wait for the shell. */
function interact(vm: Vm, begun: Promise<void>, leave: () => void): Disposable {
  const terminal = Deno.stdin.isTerminal();
  const restore = () => {
    if (terminal) Deno.stdin.setRaw(false);
  };
  if (terminal) {
    say("Booting. Press Ctrl-] to leave.");
    Deno.stdin.setRaw(true);
    globalThis.addEventListener("unload", restore); // Deno.exit() anywhere
  }

  const reader = Deno.stdin.readable.getReader();
  // A kernel that opens the serial port throws away what has come before.
  let typed = begun;
  const type = (bytes: Uint8Array) => typed = typed.then(() => vm.writeSerial(bytes));
  const pump = async () => {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (terminal && value.includes(LEAVE)) return leave();
      const last = type(value);
      if (!terminal) await last; // a file is read at the guest's pace; a person is not waited for
    }
    if (!terminal) await type(EOF);
  };
  pump().catch((error) => {
    if (!(error instanceof Deno.errors.Interrupted)) say(describeError(error));
  });
  return {
    [Symbol.dispose]() {
      restore();
      globalThis.removeEventListener("unload", restore);
      reader.cancel().catch(() => {}); // standard input may be closed already
    },
  };
}

/** The exit code for a VM that ended by itself. */
function judge(outcome: VmOutcome, options: BootOptions): number {
  const whole = options.exec === undefined;
  const fail = (why: string, remedy?: string) =>
    new CloudletError(`Cannot ${whole ? "go on" : "finish the command"}: ${why}`, {
      code: "guest",
      ...(remedy === undefined ? {} : { remedy }),
    });
  switch (outcome.kind) {
    case "poweroff":
    case "reset":
    case "halted":
      if (whole) return 0;
      throw fail("the microVM switched itself off before the command ended");
    case "stopped":
      return 0;
    case "panic":
      throw fail(`the guest's kernel panicked: ${outcome.message}`);
    case "out-of-memory":
      throw fail(
        `the guest's memory was used up: ${outcome.message}`,
        "give the VM more memory with --memory",
      );
    case "triple-fault":
      throw fail(`the guest's kernel crashed: ${outcome.message}`);
    case "internal-error":
      throw fail(outcome.message);
    default:
      return outcome satisfies never;
  }
}

function printTimeline(vm: Vm, times: { init?: number; begin?: number }): void {
  const { setup, resumedAt = 0 } = vm.timeline;
  const since = (from: number, to: number | undefined) =>
    to === undefined ? "not reached" : `${Math.round(to - from)} ms`;
  say(`VMM set-up   ${Math.round(setup)} ms`);
  say(`kernel       ${since(resumedAt, times.init)}`);
  say(`user space   ${since(times.init ?? resumedAt, times.begin)}`);
}
