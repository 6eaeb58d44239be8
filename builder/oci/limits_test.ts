/** Images that are too large: an error that names the limit, long before the disk is full. */
import assert from "node:assert/strict";
import { zstdCompressSync } from "node:zlib";
import { makeTar, testDirectory } from "../archive/fixtures_test.ts";
import { stalled } from "../debian/fixtures_test.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import { digest, fakeImage, filesIn, pull, serveImage } from "./fixtures_test.ts";

const MIB = 2 ** 20;

/** Bytes of the files below a directory that are layers. */
function unpackedBytes(directory: string): number {
  return filesIn(directory).filter((path) => path.endsWith(".tar"))
    .reduce((sum, path) => sum + Deno.statSync(path).size, 0);
}

function zeros(mib: number, name: string): Uint8Array<ArrayBuffer> {
  return makeTar([{ name, content: new Uint8Array(mib * MIB) }]);
}

Deno.test("the layers of an image together may not have more bytes than the limit", async () => {
  using directory = testDirectory();
  const layers = ["a", "b", "c", "d"].map((name) => zeros(2, name));
  await using registry = serveImage(fakeImage(layers));
  const limits = { ...DEFAULT_LIMITS, bytes: 5 * MIB };
  await assert.rejects(pull(registry.name, directory.path, { limits }), {
    code: "invalid-input",
    message: /Cannot make the image .*: it has more than 5 MiB unpacked/,
    remedy: /max_mib/,
  });
  // Layers that were whole by then stay until the caller removes the directory.
  assert.ok(unpackedBytes(directory.path) <= limits.bytes);
  const all = { ...DEFAULT_LIMITS, bytes: 10 * MIB };
  assert.ok((await pull(registry.name, directory.path, { limits: all })).lookup("d"));
});

Deno.test("an uncompressed layer counts as well", async () => {
  using directory = testDirectory();
  const image = fakeImage([zeros(2, "a")]);
  const [id] = image.layers as [string];
  const tar = zeros(2, "a");
  const manifest = JSON.parse(new TextDecoder().decode(image.root.bytes));
  manifest.layers[0] = { ...manifest.layers[0], digest: digest(tar), size: tar.length };
  image.blobs.delete(id);
  image.blobs.set(digest(tar), tar);
  image.root.bytes = new TextEncoder().encode(JSON.stringify(manifest));
  await using registry = serveImage(image);
  const limits = { ...DEFAULT_LIMITS, bytes: MIB };
  await assert.rejects(pull(registry.name, directory.path, { limits }), { message: /1 MiB/ });
  assert.ok((await pull(registry.name, directory.path)).lookup("a"));
});

Deno.test("so may not what all layers have in files, directories and links", async () => {
  using directory = testDirectory();
  const layer = (prefix: string) =>
    makeTar(Array.from({ length: 40 }, (_, i) => ({
      name: `${prefix}${i}`,
      flag: "5",
    })));
  await using registry = serveImage(fakeImage([layer("a"), layer("b")]));
  const limits = { ...DEFAULT_LIMITS, entries: 79 };
  await assert.rejects(pull(registry.name, directory.path, { limits }), {
    code: "invalid-input",
    message: /more than 79 files, directories and links/,
    remedy: /max_entries/,
  });
  const all = { ...DEFAULT_LIMITS, entries: 80 };
  assert.ok((await pull(registry.name, directory.path, { limits: all })).lookup("b39"));
});

Deno.test("a registry that takes longer than the limit is given up", async () => {
  using directory = testDirectory();
  const image = fakeImage([[{ name: "file", content: "content" }]]);
  await using registry = serveImage(
    image,
    (_, path) => path.endsWith(image.layers[0]!) ? stalled(new Uint8Array(1), 1) : undefined,
  );
  const limits = { ...DEFAULT_LIMITS, time: 500 };
  const fetch = { attempts: 1, timeout: 300_000 }; // the server's silence is not what ends it
  const late = Promise.withResolvers<never>();
  const deadline = setTimeout(() => late.reject(new Error("it did not end in time")), 30_000);
  await assert.rejects(
    Promise.race([pull(registry.name, directory.path, { limits, fetch }), late.promise]),
    {
      code: "invalid-input",
      message: /fetching and unpacking it takes over/,
      remedy: /max_minutes/,
    },
  );
  clearTimeout(deadline);
});

Deno.test("a bomb of every kind ends at the limit", async () => {
  using directory = testDirectory();
  const tar = zeros(32, "a");
  const image = fakeImage([tar]);
  const bytes = new Uint8Array(zstdCompressSync(tar));
  const manifest = JSON.parse(new TextDecoder().decode(image.root.bytes));
  manifest.layers[0] = { ...manifest.layers[0], digest: digest(bytes), size: bytes.length };
  image.blobs.set(digest(bytes), bytes);
  image.root.bytes = new TextEncoder().encode(JSON.stringify(manifest));
  await using registry = serveImage(image);
  const limits = { ...DEFAULT_LIMITS, bytes: 10 * MIB };
  await assert.rejects(pull(registry.name, directory.path, { limits }), { message: /10 MiB/ });
  assert.equal(unpackedBytes(directory.path), 0);
  assert.deepEqual(filesIn(directory.path).filter((path) => path.includes(".tmp-")), []);
});
