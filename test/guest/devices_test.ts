/**
 * The devices with Linux's own drivers: one guest, everything that it can do with them.
 *
 * CLOUDLET_TEST_STREAM_BYTES says how much goes through a stream each way (4 MiB when not set).
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setBalloon } from "../../vmm/devices/balloon/kind.ts";
import { typeAtConsole } from "../../vmm/devices/console/kind.ts";
import { chunksOf, DeviceGuest, patternByte, Sum, writeAll } from "./device_guest.ts";
import { hasKvm, testBuiltKernel } from "./fixtures.ts";

const STREAM_BYTES = Number(Deno.env.get("CLOUDLET_TEST_STREAM_BYTES") ?? 4 << 20);
const MIB = 1 << 20;
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

const pattern = (length: number, from = 0) =>
  Uint8Array.from({ length }, (_, i) => patternByte(from + i));

async function readAll(connection: Deno.Conn): Promise<string> {
  let text = "";
  for await (const chunk of chunksOf(connection)) text += decode(chunk);
  return text;
}

async function hasMkfs(): Promise<boolean> {
  try {
    await new Deno.Command("mkfs.erofs", { args: ["-V"] }).output();
    return true;
  } catch {
    return false;
  }
}

Deno.test({ name: "devices with Linux's drivers", ignore: !hasKvm() }, async (t) => {
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(directory, { recursive: true }));

  const disk = join(directory, "disk");
  await Deno.writeFile(disk, new Uint8Array(4 * MIB));
  const big = crypto.getRandomValues(new Uint8Array(65536));
  const image = join(directory, "image");
  const withImage = await hasMkfs();
  if (withImage) {
    const tree = join(directory, "tree");
    await Deno.mkdir(join(tree, "sub"), { recursive: true });
    using file = await Deno.create(join(tree, "sub", "big"));
    for (let i = 0; i < 16; i++) await file.write(big);
    const made = await new Deno.Command("mkfs.erofs", { args: ["--quiet", image, tree] }).output();
    assert(made.success, decode(made.stderr));
  }

  let consoleOutput = "";
  const guest = stack.use(
    await DeviceGuest.start({
      kernel: await testBuiltKernel(),
      devices: {
        blk: [{ path: disk }],
        ...(withImage ? { pmem: [{ path: image }] } : {}),
        rng: true,
        console: {
          columns: 80,
          rows: 24,
          output: (bytes) => consoleOutput += decode(bytes),
        },
        balloon: true,
      },
    }),
  );

  await t.step("vsock: the guest knows its context id", async () => {
    assert.equal(await guest.command("cid"), "3\n");
  });

  await t.step("vsock: the guest reaches a program of the host", async () => {
    using listener = Deno.listen({ transport: "unix", path: `${guest.socket}_77` });
    const answer = guest.command("connect 77");
    using connection = await listener.accept();
    const bytes = new Uint8Array(100);
    const count = await connection.read(bytes);
    assert.equal(decode(bytes.subarray(0, count!)), "from the guest\n");
    await writeAll(connection, new TextEncoder().encode("from the host\n"));
    assert.equal(await answer, "from the host\n");
  });

  await t.step("vsock: refusals reach both sides", async () => {
    assert.match(await guest.command("connect 78"), /^error connect: Connection reset/);
    await assert.rejects(guest.connect(4321), /nobody accepted/);
  });

  await t.step("vsock: what goes in arrives with the same sum", async () => {
    using connection = await guest.open("sink");
    const sum = new Sum();
    const chunk = pattern(Math.min(STREAM_BYTES, MIB));
    for (let done = 0; done < STREAM_BYTES; done += chunk.length) {
      const part = chunk.subarray(0, STREAM_BYTES - done);
      sum.add(part);
      await writeAll(connection, part);
    }
    await connection.closeWrite(); // a half-closed stream still answers
    assert.equal(await readAll(connection), `${STREAM_BYTES} ${sum}\n`);
  });

  await t.step("vsock: what comes out has the same sum, and then the end", async () => {
    using connection = await guest.open(`source ${STREAM_BYTES}`);
    const expected = new Sum();
    for (let at = 0; at < STREAM_BYTES; at += MIB) {
      expected.add(pattern(Math.min(MIB, STREAM_BYTES - at), at));
    }
    const sum = new Sum();
    let count = 0;
    for await (const chunk of chunksOf(connection)) {
      count += chunk.length;
      sum.add(chunk);
    }
    assert.deepEqual([count, sum.toString()], [STREAM_BYTES, expected.toString()]);
  });

  await t.step("vsock: a hundred streams at once do not mix", async () => {
    const streams = await Promise.all(Array.from({ length: 100 }, () => guest.open("echo")));
    try {
      const answers = await Promise.all(streams.map(async (stream, i) => {
        const text = `stream ${i} `.repeat(20);
        await writeAll(stream, new TextEncoder().encode(text));
        await stream.closeWrite();
        return await readAll(stream) === text;
      }));
      assert(answers.every((right) => right));
    } finally {
      streams.forEach((stream) => stream.close());
    }
  });

  await t.step(
    "vsock: a guest that closes at once, and a host that does, leave nothing",
    async () => {
      assert.equal(await guest.command("slam"), "");
      const flood = await guest.open(`source ${STREAM_BYTES}`);
      flood.close();
      assert.equal(await guest.command("cid"), "3\n");
      for (let i = 0;; i++) {
        const [vsock] = (await guest.vm.devices.statistics()).filter(({ name }) =>
          name === "vsock"
        );
        if (vsock!.counters.streams === 0) break;
        assert(i < 200, "a stream is left");
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
  );

  await t.step("blk: what the guest writes is in the host's file", async () => {
    assert.equal(await guest.command("write /dev/vda 8192 100000"), "ok\n");
    const content = await Deno.readFile(disk);
    const expected = new Uint8Array(4 * MIB);
    expected.set(pattern(100000), 8192);
    assert.deepEqual(new Sum().add(content).toString(), new Sum().add(expected).toString());
  });

  await t.step("blk: what the host wrote is what the guest reads", async () => {
    const data = crypto.getRandomValues(new Uint8Array(32768));
    using file = await Deno.open(disk, { write: true });
    await file.seek(MIB, Deno.SeekMode.Start);
    await file.write(data);
    assert.equal(await guest.command(`read /dev/vda ${MIB} 32768`), `${new Sum().add(data)}\n`);
  });

  await t.step({
    name: "pmem: an EROFS image is mounted with DAX and reads right",
    ignore: !withImage,
    fn: async () => {
      assert.match(
        await guest.command("mount /dev/pmem0"),
        /^\/dev\/pmem0 \/image erofs .*dax=always/,
      );
      const sum = new Sum();
      for (let i = 0; i < 16; i++) sum.add(big);
      assert(
        (await guest.command("file /image/sub/big")).startsWith(`${16 * big.length} ${sum} `),
      );
    },
  });

  await t.step("rng: the guest gets other bytes each time", async () => {
    const first = await guest.command("random 32");
    const second = await guest.command("random 32");
    assert.match(first, /^[0-9a-f]{64}\n$/);
    assert.notEqual(first, second);
  });

  await t.step("console: lines go both ways", async () => {
    const answer = guest.command("console hello out there");
    while (!consoleOutput.includes("hello out there")) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    typeAtConsole(guest.vm.devices, new TextEncoder().encode("hello in there\n"));
    assert.equal(await answer, "hello in there\n");
  });

  await t.step("balloon: what it takes is gone from the guest, and comes back", async () => {
    const free = async () => Number(await guest.command("memory"));
    const before = await free();
    const reach = async (pages: number) => {
      setBalloon(guest.vm.devices, pages * 4096);
      for (let i = 0;; i++) {
        const all = await guest.vm.devices.statistics();
        if (all.find(({ name }) => name === "balloon")?.counters.pages === pages) return;
        assert(i < 600, "the balloon does not move");
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    // MemFree moves by some MiB on its own: what the streams above used is freed late.
    await reach(4096);
    assert(before - await free() > 10_000); // KiB, of 16384
    await reach(0);
    assert(before - await free() < 6_000);
  });

  assert.deepEqual(guest.warnings, []);
});
