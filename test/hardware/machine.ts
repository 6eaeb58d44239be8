/**
 * Runs a script in a host with hardware KVM: QEMU in software emulation, with nested AMD-V. It is
 * some fifty times slower than the real one, so its timings mean nothing.
 *
 * @module
 */
import { join } from "node:path";
import { writeAllSync } from "../../base/files.ts";
import { cpioArchive } from "../../builder/initramfs/mod.ts";
import { MarkScanner } from "../../vmm/marks.ts";
import type { HostImage } from "./image.ts";

/** How a script is run. */
export interface RunOptions {
  /** Directory for the initramfs and the scratch disk. */
  readonly directory: string;
  /** The script, for /bin/sh. */
  readonly script: string;
  /** Milliseconds that the host may live. */
  readonly timeout: number;
  /** Gets everything that the host's console says. */
  readonly log: Deno.FsFile;
  /** Gets what the script writes. */
  readonly output: (text: string) => void;
}

const SCRATCH_GIB = 24;
/** XSAVE cannot be emulated in a guest's guest. */
const CPU = "EPYC,+svm,-xsave";
/** MiB of the host: a quarter of what there is, and not more than its guests can use. */
const MEMORY = Math.min(4096, Math.floor(Deno.systemMemoryInfo().total / 2 ** 22));
const PARAMETERS = "console=ttyS0 quiet panic=-1 mitigations=off cloudlet.root=/dev/vda " +
  "cloudlet.overlay=75%";

/**
 * Boots the host, runs the script as root, and waits for the host's end.
 *
 * @returns the script's exit code; undefined when the host ended, or was ended, before
 */
export async function runInHost(
  host: HostImage,
  options: RunOptions,
): Promise<number | undefined> {
  const { directory } = options;
  const nonce = crypto.randomUUID().replaceAll("-", "");
  const encoder = new TextEncoder();
  const orders = await cpioArchive([
    { type: "directory", path: "cloudlet", mode: 0o700 },
    { type: "file", path: "cloudlet/nonce", mode: 0o600, content: encoder.encode(`${nonce}\n`) },
    { type: "file", path: "cloudlet/exec", mode: 0o700, content: encoder.encode(options.script) },
  ]);
  const initramfs = join(directory, "initramfs");
  await Deno.writeFile(initramfs, new Uint8Array(0));
  for (const part of [...host.initramfs, orders]) {
    await Deno.writeFile(initramfs, part, { append: true });
  }
  const scratch = join(directory, "scratch");
  await Deno.writeFile(scratch, new Uint8Array(0));
  await Deno.truncate(scratch, SCRATCH_GIB * 1024 ** 3);

  const child = new Deno.Command("qemu-system-x86_64", {
    args: [
      // One processor: of five runs with two, and guests on both, three hung or crashed (QEMU 7.2),
      // why is not known; it never happened with one.
      ...["-accel", "tcg,thread=multi", "-cpu", CPU, "-M", "pc", "-smp", "1"],
      ...["-m", String(MEMORY), "-nodefaults", "-no-user-config", "-no-reboot"],
      ...["-display", "none", "-serial", "stdio", "-kernel", host.kernel, "-initrd", initramfs],
      ...["-append", PARAMETERS],
      ...["-drive", `file=${host.root},if=virtio,format=raw,readonly=on`],
      ...["-drive", `file=${scratch},if=virtio,format=raw,cache=unsafe,discard=unmap`],
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  // What it says of the features that it leaves out is for the log.
  const remarks = child.stderr.pipeTo(
    new WritableStream({ write: (chunk) => writeAllSync(options.log, chunk) }),
  );
  const end = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // it has ended
    }
  };
  globalThis.addEventListener("unload", end); // it must not outlive this process
  const timer = setTimeout(end, options.timeout);
  const scanner = new MarkScanner(nonce);
  const decoder = new TextDecoder();
  let code: number | undefined;
  let within = false;
  try {
    for await (const chunk of child.stdout) {
      writeAllSync(options.log, chunk);
      for (const event of scanner.push(chunk)) {
        if (event.kind === "begin") within = true;
        else if (event.kind === "exit") {
          within = false;
          code = event.code;
        } else if (event.kind === "output" && within) {
          options.output(decoder.decode(event.bytes, { stream: true }));
        }
      }
    }
    await Promise.all([child.status, remarks]);
    return code;
  } finally {
    clearTimeout(timer);
    end();
    globalThis.removeEventListener("unload", end);
  }
}
