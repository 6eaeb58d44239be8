import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { oracle, run } from "../../test/oracle.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { moduleInfo, moduleName, orderModules } from "./modules.ts";

/** An ELF object with a .modinfo section. */
function moduleOf(entries: readonly string[]): Uint8Array {
  const info = Buffer.from(entries.map((entry) => `${entry}\0`).join(""));
  const names = Buffer.from("\0.modinfo\0.shstrtab\0");
  const table = 64 + info.length + names.length;
  const bytes = new Uint8Array(table + 3 * 64);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 1, true); // ET_REL
  view.setUint16(18, 62, true); // EM_X86_64
  view.setUint32(20, 1, true);
  view.setBigUint64(40, BigInt(table), true);
  view.setUint16(52, 64, true);
  view.setUint16(58, 64, true);
  view.setUint16(60, 3, true);
  view.setUint16(62, 2, true);
  bytes.set(info, 64);
  bytes.set(names, 64 + info.length);
  const section = (index: number, name: number, type: number, start: number, size: number) => {
    const at = table + 64 * index;
    view.setUint32(at, name, true);
    view.setUint32(at + 4, type, true);
    view.setBigUint64(at + 24, BigInt(start), true);
    view.setBigUint64(at + 32, BigInt(size), true);
    view.setBigUint64(at + 48, 1n, true);
  };
  section(1, 1, 1, 64, info.length);
  section(2, 10, 3, 64 + info.length, names.length);
  return bytes;
}

function source(modules: Record<string, string[]>, builtIn: readonly string[] = []) {
  return {
    read: (name: string) =>
      Promise.resolve(modules[name] === undefined ? undefined : moduleOf(modules[name])),
    builtIn: (name: string) => builtIn.includes(name),
  };
}

const order = async (...parameters: Parameters<typeof orderModules>) =>
  (await orderModules(...parameters)).map(({ name }) => name);

Deno.test("a module comes after all that it needs, each once, whatever the file's spelling", async () => {
  const modules = source({
    virtio: ["depends=virtio_ring"],
    virtio_ring: ["depends="],
    "virtio_mmio": ["license=GPL", "depends=virtio,virtio_ring"],
    virtio_rng: ["depends=virtio,rng-core"],
    erofs: ["depends=libcrc32c", "softdep=pre: crc32c-intel alias-of-something post: later"],
    libcrc32c: ["depends="],
    crc32c_intel: ["depends="],
  }, ["rng_core"]);
  assert.deepEqual(
    await order(["virtio_mmio", "virtio-rng", "virtio", "rng_core", "erofs"], modules),
    ["virtio_ring", "virtio", "virtio_mmio", "virtio_rng", "crc32c_intel", "libcrc32c", "erofs"],
  );
});

Deno.test("the order is one in which every module finds what it needs, for any dependencies", async () => {
  // each may depend on those with a smaller number
  const graph = fc.array(fc.array(fc.nat({ max: 30 }), { maxLength: 5 }), { maxLength: 30 });
  await fc.assert(fc.asyncProperty(graph, async (lists) => {
    const needs = lists.map((list, i) => list.filter((need) => need < i));
    const modules = Object.fromEntries(
      needs.map((list, i) => [`m${i}`, [`depends=${list.map((need) => `m${need}`).join(",")}`]]),
    );
    const wanted = Object.keys(modules).reverse();
    const names = await order(wanted, source(modules));
    assert.deepEqual(names.toSorted(), wanted.toSorted());
    names.forEach((name, i) => {
      for (const need of needs[Number(name.slice(1))]!) {
        assert.ok(names.indexOf(`m${need}`) < i);
      }
    });
  }));
});

Deno.test("a missing module, a circle and what is no module are errors", async () => {
  const circle = source({ a: ["depends=b"], b: ["depends=a"] });
  await assert.rejects(orderModules(["a"], circle), /Cannot use the kernel module a: it depends/);
  await assert.rejects(
    orderModules(["a"], source({ a: ["depends=gone"] })),
    /no module gone, which a needs/,
  );
  const good = moduleOf(["depends="]);
  for (const length of [0, 10, 63, 64, 100]) {
    assert.throws(() => moduleInfo(good.subarray(0, length), "cut"), CloudletError);
  }
});

Deno.test("names that do not end, in as many sections as there can be, take no time", () => {
  const count = 0xffff;
  const names = 64 + 64 * count;
  const bytes = new Uint8Array(names + 8_000_000).fill(0x61, names);
  const view = new DataView(bytes.buffer);
  bytes.set(moduleOf([]).subarray(0, 64));
  view.setBigUint64(40, 64n, true);
  view.setUint16(60, count, true);
  view.setBigUint64(64 + 2 * 64 + 24, BigInt(names), true);
  view.setBigUint64(64 + 2 * 64 + 32, 8_000_000n, true);
  assert.equal(moduleInfo(bytes, "long").size, 0); // took hours when each name was read
});

Deno.test("modinfo reads the same from a module", async () => {
  if (!await oracle("modinfo")) return;
  using directory = testDirectory();
  const path = join(directory.path, "some-module.ko");
  const bytes = moduleOf(["license=GPL", "depends=virtio,virtio_ring", "name=some_module"]);
  await Deno.writeFile(path, bytes);
  const info = moduleInfo(bytes, "some-module");
  for (const field of ["license", "depends", "name"]) {
    const { stdout } = await run("modinfo", ["-F", field, path]);
    assert.deepEqual(info.get(field), [stdout.trim()]);
  }
  assert.equal(moduleName("some-module.ko.xz"), "some_module");
});
