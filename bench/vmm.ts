/**
 * The VMM beside Debian's QEMU (`-M microvm -enable-kvm`) and beside a loop in C: set-up, boot to
 * /init, the cost of an exit, resident memory.
 *
 * @module
 */
import { join } from "node:path";
import { cpioArchive } from "../builder/initramfs/mod.ts";
import { MarkScanner } from "../vmm/marks.ts";
import { Vm } from "../vmm/vm.ts";
import { report } from "./report.ts";

/** What {@linkcode benchVmm} boots. */
export interface VmmBenchOptions {
  /** Path of a vmlinux for one vCPU. */
  readonly kernel: string;
  /** Path of an initramfs with cloudlet's /init. */
  readonly initramfs: string;
  /** Boots to /init on each side; each takes ten seconds and more on a software-only KVM. */
  readonly boots?: number;
  /** Repetitions of the short measurements. */
  readonly repetitions?: number;
}

const QEMU = "qemu-system-x86_64";
const MEMORY_MIB = 256;
const MIB = 1024 * 1024;
const CODE = 0x10_0000;
const BOOT_LIMIT_MS = 300_000;
const FEW = 2_000;
const MANY = 42_000;

/** Sends "!" to the serial port and halts; the same bytes in 32-bit and in 64-bit mode. */
const HELLO = [0x66, 0xba, 0xf8, 0x03, 0xb0, 0x21, 0xee, 0xf4, 0xeb, 0xfd];

/** Writes to port 0x80 `count` times, then resets the machine: the code of exit_loop.c. */
function exitLoop(count: number): number[] {
  const bytes = [0, 8, 16, 24].map((shift) => (count >>> shift) & 0xff);
  return [0xb9, ...bytes, 0xe6, 0x80, 0xff, 0xc9, 0x75, 0xfa, 0xb0, 0xfe, 0xe6, 0x64, 0xf4];
}

/** An ELF kernel of nothing but `code`, which both VMMs load: QEMU wants the PVH note. */
function tinyKernel(code: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(0x200 + code.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(CODE), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 2, true);
  const header = (at: number, type: number, offset: number, address: number, size: number) => {
    view.setUint32(at, type, true);
    view.setUint32(at + 4, 7, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    for (const place of [16, 24]) view.setBigUint64(at + place, BigInt(address), true);
    for (const place of [32, 40]) view.setBigUint64(at + place, BigInt(size), true);
    view.setBigUint64(at + 48, 4n, true);
  };
  header(64, 1, 0x200, CODE, code.length); // PT_LOAD
  header(120, 4, 0x100, 0, 20); // PT_NOTE
  // XEN_ELFNOTE_PHYS32_ENTRY of xen/include/public/elfnote.h
  [4, 4, 18].forEach((word, i) => view.setUint32(0x100 + 4 * i, word, true));
  bytes.set(new TextEncoder().encode("Xen\0"), 0x10c);
  view.setUint32(0x110, CODE, true);
  bytes.set(code, 0x200);
  return bytes;
}

/** QEMU with the same kernel, memory and devices as ours. */
function qemu(kernel: string, extra: readonly string[] = []): Deno.ChildProcess {
  return new Deno.Command(QEMU, {
    args: [
      ...["-M", "microvm,pit=on,pic=on,rtc=on,isa-serial=on", "-enable-kvm"],
      ...["-cpu", "host,-arch-capabilities", "-m", String(MEMORY_MIB)],
      ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
      ...["-serial", "stdio", "-kernel", kernel, ...extra],
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function hasQemu(): Promise<boolean> {
  try {
    return (await new Deno.Command(QEMU, { args: ["--version"] }).output()).success;
  } catch {
    return false;
  }
}

/** Reads a child's output until `enough`; then ends the child. Says when it was enough. */
async function until(
  child: Deno.ChildProcess,
  enough: (chunk: Uint8Array) => boolean,
  limit = BOOT_LIMIT_MS,
): Promise<{ reachedAt: number | undefined; errors: string }> {
  const kill = () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // it has ended by itself
    }
  };
  const errors = (async () => {
    let text = "";
    for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (text.includes("KVM internal error")) kill(); // QEMU stops the VM and waits for a person
    }
    return text;
  })();
  const timer = setTimeout(kill, limit);
  let reachedAt: number | undefined;
  try {
    for await (const chunk of child.stdout) {
      if (enough(chunk)) {
        reachedAt = performance.now();
        break;
      }
    }
  } finally {
    clearTimeout(timer);
    kill();
    await child.status;
  }
  return { reachedAt, errors: (await errors).trim() };
}

/** Runs a VM until it has sent `enough`, then ends it; the milliseconds up to that. */
async function ours(
  config: Omit<Parameters<typeof Vm.create>[0], "serialOutput">,
  enough: (chunk: Uint8Array) => boolean,
  meanwhile?: (vm: Vm) => void,
): Promise<number> {
  const begin = performance.now();
  const reached = Promise.withResolvers<number>();
  await using vm = await Vm.create({
    memory: MEMORY_MIB * MIB,
    ...config,
    serialOutput(chunk) {
      if (enough(chunk)) reached.resolve(performance.now() - begin);
    },
  });
  vm.resume();
  const time = await Promise.race([
    reached.promise,
    vm.outcome.then((outcome) => {
      throw new Error(`the VM ended: ${outcome.kind}`);
    }),
  ]);
  meanwhile?.(vm);
  return time;
}

/** Prints the comparisons. */
export async function benchVmm(options: VmmBenchOptions): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    const peer = await hasQemu();
    if (!peer) console.log(`${QEMU} is not installed: no peer for set-up, boot and memory`);
    await benchSetup(directory, options.repetitions ?? 15, peer);
    await benchExits(directory, options.repetitions ?? 7);
    await benchMemory(directory, peer);
    await benchBoot(directory, options, peer);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const sentHello = (chunk: Uint8Array) => chunk.includes(0x21);

async function benchSetup(directory: string, repetitions: number, peer: boolean): Promise<void> {
  const kernel = join(directory, "hello");
  await Deno.writeFile(kernel, tinyKernel(HELLO));
  await ours({ kernel }, sentHello); // the host's kind is probed once in a process
  const times = { ours: [] as number[], theirs: [] as number[] };
  for (let i = 0; i < repetitions; i++) {
    times.ours.push(await ours({ kernel }, sentHello));
    if (!peer) continue;
    const begin = performance.now();
    const { reachedAt, errors } = await until(qemu(kernel), sentHello, 30_000);
    if (reachedAt === undefined) throw new Error(`QEMU does not run the guest: ${errors}`);
    times.theirs.push(reachedAt - begin);
  }
  report({
    what: "VMM set-up to the guest's first byte",
    unit: "ms",
    peer: "qemu microvm",
    ...times,
    remark: "ours in a process that is there already, QEMU as a process: each as it is used",
  });
}

async function benchExits(directory: string, repetitions: number): Promise<void> {
  const program = join(directory, "exit_loop");
  const source = new URL("./fixtures/exit_loop.c", import.meta.url).pathname;
  const { success, stderr } = await new Deno.Command("gcc", {
    args: ["-O2", "-Wall", "-Wextra", "-o", program, source],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  for (const count of [FEW, MANY]) {
    await Deno.writeFile(join(directory, `loop${count}`), tinyKernel(exitLoop(count)));
  }
  const runOurs = async (count: number) => {
    await using vm = await Vm.create({
      kernel: join(directory, `loop${count}`),
      memory: 32 * MIB,
    });
    const begin = performance.now();
    vm.resume();
    const outcome = await vm.outcome;
    if (outcome.kind !== "reset") throw new Error(`the VM ended: ${outcome.kind}`);
    return performance.now() - begin;
  };
  const runC = async (count: number) => {
    const { success, stdout } = await new Deno.Command(program, { args: [String(count)] }).output();
    if (!success) throw new Error("the loop in C failed");
    return Number(new TextDecoder().decode(stdout)) / 1e6;
  };
  const each = async (run: (count: number) => Promise<number>) => {
    const few = await run(FEW);
    return (await run(MANY) - few) / (MANY - FEW) * 1000;
  };
  const values = { ours: [] as number[], theirs: [] as number[] };
  for (let i = 0; i < repetitions; i++) {
    values.ours.push(await each(runOurs));
    values.theirs.push(await each(runC));
  }
  report({ what: "port write exit", unit: "us", peer: "a loop in C", ...values });
}

/** Resident KiB of a process without the mappings of `size` bytes, which are guest memory. */
function residentBeyond(pid: number | "self", size: number): number {
  let total = 0;
  let guest = false;
  for (const line of Deno.readTextFileSync(`/proc/${pid}/smaps`).split("\n")) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range !== null) {
      guest = Number.parseInt(range[2]!, 16) - Number.parseInt(range[1]!, 16) === size;
    } else if (!guest && line.startsWith("Rss:")) {
      total += Number.parseInt(line.slice(4), 10);
    }
  }
  return total;
}

async function benchMemory(directory: string, peer: boolean): Promise<void> {
  const kernel = join(directory, "hello");
  const size = MEMORY_MIB * MIB;
  const before = residentBeyond("self", size);
  let whole = 0;
  await ours({ kernel }, sentHello, () => whole = residentBeyond("self", size));
  const theirs: number[] = [];
  if (peer) {
    const child = qemu(kernel);
    await until(child, (chunk) => {
      if (!sentHello(chunk)) return false;
      theirs.push(residentBeyond(child.pid, size) / 1024);
      return true;
    }, 30_000);
  }
  report({
    what: "resident memory beyond the guest's, whole process",
    unit: "MiB",
    peer: "qemu microvm",
    ours: [whole / 1024],
    theirs,
    remark: `of ours, this VM took ${((whole - before) / 1024).toFixed(1)} MiB`,
  });
}

async function benchBoot(
  directory: string,
  options: VmmBenchOptions,
  peer: boolean,
): Promise<void> {
  const nonce = crypto.randomUUID().replaceAll("-", "");
  const orders = await cpioArchive([
    { type: "directory", path: "cloudlet", mode: 0o700 },
    {
      type: "file",
      path: "cloudlet/nonce",
      mode: 0o600,
      content: new TextEncoder().encode(`${nonce}\n`),
    },
  ]);
  const atInit = () => {
    const scanner = new MarkScanner(nonce);
    return (chunk: Uint8Array) => [...scanner.push(chunk)].some(({ kind }) => kind === "init");
  };
  const joined = join(directory, "initramfs");
  const initramfs = await Deno.readFile(options.initramfs);
  await Deno.writeFile(joined, new Uint8Array([...initramfs, ...orders]));
  let commandLine = "";
  const times: { ours: number[]; theirs: number[] } = { ours: [], theirs: [] };
  let remark: string | undefined;
  for (let i = 0; i < (options.boots ?? 1); i++) {
    times.ours.push(
      await ours(
        { kernel: options.kernel, initramfs: joined },
        atInit(),
        (vm) => commandLine = vm.commandLine,
      ),
    );
    if (!peer || remark !== undefined) continue;
    const begin = performance.now();
    const { reachedAt, errors } = await until(
      qemu(options.kernel, ["-initrd", joined, "-append", commandLine]),
      atInit(),
    );
    if (reachedAt !== undefined) times.theirs.push(reachedAt - begin);
    else {
      const code = /Code=.*<(.*)/.exec(errors)?.[1];
      remark = `QEMU does not reach /init on this host: ${errors.split("\n")[0] || "no word"}` +
        (code === undefined ? "" : ` at the instruction ${code.replace(">", "")}`);
    }
  }
  report({
    what: "boot to /init",
    unit: "ms",
    peer: "qemu microvm",
    ...times,
    ...(remark === undefined ? {} : { remark }),
  });
}

if (import.meta.main) {
  const [kernel, initramfs] = Deno.args;
  if (kernel === undefined || initramfs === undefined) {
    console.error("usage: vmm.ts KERNEL INITRAMFS");
    Deno.exit(2);
  }
  await benchVmm({ kernel, initramfs });
}
