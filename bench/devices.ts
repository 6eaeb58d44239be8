/**
 * Throughput and latency of vsock beside a plain Unix socket, and of reading a pmem image beside the
 * host's page cache.
 *
 * @module
 */
import { join } from "node:path";
import { chunksOf, DeviceGuest, writeAll } from "../test/guest/device_guest.ts";
import { report } from "./report.ts";

const MIB = 1 << 20;

/** What the bench runs with. */
export interface DeviceBenchOptions {
  /** Path of the guest's kernel. */
  readonly kernel: string;
  /** Repetitions of each measurement. */
  readonly repetitions?: number;
  /** Bytes of a throughput measurement. */
  readonly bytes?: number;
}

async function seconds(work: () => Promise<void>): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
}

/** Sends `bytes` and waits for the other end to have read them all. */
async function push(connection: Deno.UnixConn, bytes: number): Promise<void> {
  const chunk = new Uint8Array(65536);
  for (let done = 0; done < bytes; done += chunk.length) await writeAll(connection, chunk);
  await connection.closeWrite();
  for await (const _ of chunksOf(connection));
}

/** Reads everything. */
async function pull(connection: Deno.UnixConn, bytes: number): Promise<void> {
  let count = 0;
  for await (const chunk of chunksOf(connection)) count += chunk.length;
  if (count !== bytes) throw new Error(`${count} bytes came, not ${bytes}`);
}

/** One byte there and back, as often as asked; milliseconds each. */
async function pings(connection: Deno.UnixConn, count: number): Promise<number[]> {
  const byte = new Uint8Array(1);
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const begin = performance.now();
    await connection.write(byte);
    await connection.read(byte);
    times.push(performance.now() - begin);
  }
  return times;
}

/** The peer: a process that serves the same commands on a Unix socket. */
const PEER = `
const listener = Deno.listen({ transport: "unix", path: Deno.args[0] });
console.log("ready");
for await (const connection of listener) (async () => {
  const byte = new Uint8Array(1);
  let line = "";
  while (!line.endsWith("\\n") && await connection.read(byte)) line += String.fromCharCode(byte[0]);
  const buffer = new Uint8Array(65536);
  const [command, bytes] = line.trim().split(" ");
  if (command === "source") {
    for (let left = Number(bytes); left > 0;) {
      left -= await connection.write(buffer.subarray(0, Math.min(left, buffer.length)));
    }
  } else {
    for (let n; (n = await connection.read(buffer)) !== null;) {
      if (command === "echo") await connection.write(buffer.subarray(0, n));
    }
  }
  connection.close();
})();
`;

async function startPeer(
  path: string,
): Promise<AsyncDisposable & { open(command: string): Promise<Deno.UnixConn> }> {
  const script = `${path}.js`;
  await Deno.writeTextFile(script, PEER);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-config", script, path],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const output = child.stdout.getReader();
  await output.read();
  return {
    async open(command) {
      const connection = await Deno.connect({ transport: "unix", path });
      await writeAll(connection, new TextEncoder().encode(`${command}\n`));
      return connection;
    },
    async [Symbol.asyncDispose]() {
      await output.cancel();
      child.kill("SIGKILL");
      await child.status;
    },
  };
}

/** Measures and prints the comparisons. */
export async function benchDevices(options: DeviceBenchOptions): Promise<void> {
  const { kernel, repetitions = 3, bytes = MIB } = options;
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(directory, { recursive: true }));

  const tree = join(directory, "tree");
  const image = join(directory, "image");
  await Deno.mkdir(tree);
  const content = crypto.getRandomValues(new Uint8Array(65536));
  const size = 2 * MIB;
  {
    using file = await Deno.create(join(tree, "file"));
    for (let done = 0; done < size; done += content.length) await file.write(content);
  }
  const made = await new Deno.Command("mkfs.erofs", { args: ["--quiet", image, tree] }).output();
  const withImage = made.success;

  const guest = stack.use(
    await DeviceGuest.start({
      kernel,
      devices: withImage ? { pmem: [{ path: image }] } : {},
    }),
  );
  const peer = stack.use(await startPeer(join(directory, "peer")));

  const rates = { ours: [] as number[], theirs: [] as number[] };
  const back = { ours: [] as number[], theirs: [] as number[] };
  const latency = { ours: [] as number[], theirs: [] as number[] };
  for (let i = 0; i < repetitions; i++) { // in turns, so that a slow spell meets both
    for (const [side, open] of [["ours", guest.open.bind(guest)], ["theirs", peer.open]] as const) {
      using sink = await open("sink");
      rates[side].push(bytes / MIB / await seconds(() => push(sink, bytes)));
      using source = await open(`source ${bytes}`);
      back[side].push(bytes / MIB / await seconds(() => pull(source, bytes)));
      using echo = await open("echo");
      latency[side].push(...await pings(echo, 10));
    }
  }
  const remark = "on a software-only KVM each instruction of the guest's kernel costs 0.5 us";
  const rate = { unit: "MiB/s", peer: "a Unix socket", higherIsBetter: true, remark };
  report({ what: "vsock, host to guest", ...rate, ...rates });
  report({ what: "vsock, guest to host", ...rate, ...back });
  report({ what: "vsock, a byte there and back", unit: "ms", peer: "a Unix socket", ...latency });
  if (withImage) await benchPmem(guest, join(tree, "file"), size, repetitions);
}

/** The same work on both sides: mmap the file, sum its bytes. */
async function benchPmem(
  guest: DeviceGuest,
  path: string,
  size: number,
  repetitions: number,
): Promise<void> {
  await guest.command("mount /dev/pmem0");
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let i = 0; i < repetitions; i++) {
    const answer = await guest.command("file /image/file");
    const milliseconds = Number(answer.split(" ")[2]);
    if (!(milliseconds > 0)) throw new Error(`Cannot read the image in the guest: ${answer}`);
    ours.push(size / MIB / (milliseconds / 1000));
    theirs.push(size / MIB / await seconds(async () => void (await Deno.readFile(path))));
  }
  report({
    what: "pmem, a file of 2 MiB mapped and summed, page by page",
    unit: "MiB/s",
    peer: "the host's page cache (read)",
    higherIsBetter: true,
    ours,
    theirs,
  });
}

if (import.meta.main) {
  const [kernel] = Deno.args;
  if (kernel === undefined) {
    console.error("usage: devices.ts KERNEL");
    Deno.exit(2);
  }
  await benchDevices({ kernel });
}
