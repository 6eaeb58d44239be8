import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { oracle, run } from "../../test/oracle.ts";
import { buildInitramfs, cpioArchive, type CpioEntry, INIT_SCRIPT } from "./mod.ts";

const BUSYBOX = crypto.getRandomValues(new Uint8Array(10_001));

Deno.test("an initramfs holds busybox, init and a console, and nothing else", async () => {
  const archive = await buildInitramfs({ busybox: BUSYBOX, init: "#!/bin/busybox sh\n" });
  for (
    const { tool, args } of [{ tool: "cpio", args: ["-tv"] }, { tool: "bsdcpio", args: ["-itv"] }]
  ) {
    if (!(await oracle(tool))) continue;
    const { stdout } = await run(tool, args, { stdin: archive });
    const lines = stdout.trim().split("\n");
    assert.deepEqual(lines.map((line) => line.trim().split(/\s+/).at(-1)), [
      "bin",
      "bin/busybox",
      "dev",
      "dev/console",
      "init",
    ], tool);
    assert.deepEqual(lines.map((line) => line.slice(0, 10)), [
      "drwxr-xr-x",
      "-rwxr-xr-x",
      "drwxr-xr-x",
      "crw-------",
      "-rwxr-xr-x",
    ], tool);
    assert.match(lines[3]!, /\b5, *1\b/, tool);
    assert.match(lines[1]!, /\b10001\b/, tool);
    assert.ok(lines.every((line) => /\b1970\b/.test(line)), stdout);
  }
});

Deno.test("cpio and bsdcpio unpack what went in, from two archives joined", async () => {
  const first: CpioEntry[] = [
    { type: "directory", path: "a", mode: 0o700 },
    { type: "file", path: "a/empty", mode: 0o600, content: new Uint8Array(0) },
    { type: "symlink", path: "a/link", mode: 0o777, target: "../nach Süden" },
  ];
  const second: CpioEntry[] = [{ type: "file", path: "b", mode: 0o4755, content: BUSYBOX }];
  const archive = new Blob(
    await Promise.all([first, second].map(async (entries) => {
      return await cpioArchive(entries) as Uint8Array<ArrayBuffer>;
    })),
  );
  for (const tool of ["cpio", "bsdcpio"]) {
    if (!(await oracle(tool))) continue;
    const directory = await Deno.makeTempDir();
    try {
      const bytes = await archive.bytes();
      await run(tool, ["-i", "--quiet"], { stdin: bytes, cwd: directory });
      assert.equal((await Deno.stat(join(directory, "a"))).mode! & 0o7777, 0o700);
      assert.equal((await Deno.stat(join(directory, "a/empty"))).size, 0);
      assert.equal(await Deno.readLink(join(directory, "a/link")), "../nach Süden");
      // A reader stops at the first trailer, unlike the kernel; the rest is an archive of its own.
      const rest = bytes.subarray((await cpioArchive(first)).length);
      await run(tool, ["-i", "--quiet"], { stdin: rest, cwd: directory });
      assert.deepEqual(await Deno.readFile(join(directory, "b")), BUSYBOX);
      assert.equal((await Deno.stat(join(directory, "b"))).mode! & 0o7777, 0o4755);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  }
});

Deno.test("the same entries give the same bytes, a multiple of 512", async () => {
  const path = fc.stringMatching(/^[a-z]{1,9}(\/[ -.0-~]{1,30})?$/)
    .filter((path) => !path.split("/").some((name) => name === "." || name === ".."));
  const entry = fc.oneof(
    fc.record({
      type: fc.constant("file" as const),
      path,
      mode: fc.nat(0o7777),
      content: fc.uint8Array(),
    }),
    fc.record({ type: fc.constant("directory" as const), path, mode: fc.nat(0o7777) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(entry), async (entries) => {
      const archive = await cpioArchive(entries);
      assert.deepEqual(archive, await cpioArchive(entries));
      assert.equal(archive.length % 512, 0);
    }),
    { numRuns: 50 },
  );
});

Deno.test("names that a cpio archive cannot hold are refused", async () => {
  for (const path of ["", "/a", "a/", "../a", "a/./b", "ä", "a\0b", "TRAILER!!!"]) {
    await assert.rejects(
      cpioArchive([{ type: "directory", path, mode: 0o755 }]),
      (error) => error instanceof CloudletError && error.code === "invalid-input",
      path,
    );
  }
});

Deno.test("the init script is one for busybox", () => {
  assert.match(INIT_SCRIPT, /^#!\/bin\/busybox sh\n/);
});
