import assert from "node:assert/strict";
import { testDirectory } from "../archive/fixtures_test.ts";
import { openDebian } from "../debian/debian.ts";
import { kernelPackage } from "../kernel/packaged.ts";
import { imageDeclaration } from "./declarations.ts";
import { BUSYBOX } from "./payload.ts";

/** Most that a first Bash program may fetch where guests boot Debian's kernel. */
const MOST = 100_000_000;

Deno.test("from an empty cache, all that a Bash program boots from is less than 100 MB", async () => {
  using cache = testDirectory();
  let bytes = 0;
  const declaration = imageDeclaration("bash");
  const debian = await openDebian({
    suite: declaration.suite,
    cache: cache.path,
    fetch: {
      async send(url, init) {
        const { body, status, headers } = await fetch(url, init);
        const count = new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, controller) {
            bytes += chunk.length;
            controller.enqueue(chunk);
          },
        });
        return new Response(body?.pipeThrough(count) ?? null, { status, headers });
      },
    },
  });
  const image = debian.resolve(declaration.packages, declaration);
  const initramfs = debian.resolve([BUSYBOX]).filter(({ name }) => name === BUSYBOX);
  const wanted = [kernelPackage(debian), ...initramfs, ...image];
  await debian.fetch([...new Map(wanted.map((item) => [item.sha256, item])).values()]);
  console.log(`${(bytes / 1e6).toFixed(1)} MB`);
  // The mirror's lists of packages alone are several.
  assert.ok(bytes > 5_000_000 && bytes < MOST, `${bytes} bytes`);
});
