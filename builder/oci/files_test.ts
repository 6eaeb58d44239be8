/** Images on the disk: which one is meant, and what is wrong with others. */
import { ARCHITECTURE } from "../architecture.ts";
import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { dirname, join } from "node:path";
import { contentBytes } from "../content.ts";
import { makeTar, type TarEntry, testDirectory } from "../archive/fixtures_test.ts";
import { digest, fakeImage, pull } from "./fixtures_test.ts";

const hex = (bytes: Uint8Array) => digest(bytes).slice("sha256:".length);
const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

function configOf(layers: readonly Uint8Array[], more: object = {}): Uint8Array<ArrayBuffer> {
  const architecture = ARCHITECTURE;
  return json({
    architecture,
    os: "linux",
    rootfs: { type: "layers", diff_ids: layers.map(digest) },
    ...more,
  });
}

async function text(reference: string, directory: string): Promise<string> {
  const node = (await pull(reference, directory)).lookup("file");
  assert.equal(node?.type, "file");
  if (node?.type !== "file") throw new Error("not reached");
  return new TextDecoder().decode(contentBytes(node.content));
}

/** Both layouts of `docker save`, with two images of which one has a layer by a link. */
function savedArchive(): TarEntry[] {
  const one = makeTar([{ name: "file", content: "one" }]);
  const two = makeTar([{ name: "file", content: "two" }]);
  const packed = new Uint8Array(gzipSync(two));
  const configs = [configOf([one]), configOf([one, two])];
  return [
    { name: "aaa/", flag: "5" },
    { name: "aaa/layer.tar", content: one },
    { name: "bbb/layer.tar", flag: "2", link: "../aaa/layer.tar" },
    { name: `blobs/sha256/${hex(packed)}`, content: packed },
    ...configs.map((content) => ({ name: `${hex(content)}.json`, content })),
    {
      name: "manifest.json",
      content: json([
        { Config: `${hex(configs[0]!)}.json`, RepoTags: ["first:1"], Layers: ["aaa/layer.tar"] },
        {
          Config: `${hex(configs[1]!)}.json`,
          RepoTags: ["second:2", "localhost/alias:x"],
          Layers: ["bbb/layer.tar", `blobs/sha256/${hex(packed)}`],
        },
      ]),
    },
  ];
}

Deno.test("an image of a saved archive is found by any of its names", async () => {
  using directory = testDirectory();
  const path = join(directory.path, "saved.tar");
  await Deno.writeFile(path, makeTar(savedArchive()));
  assert.equal(await text(`docker-archive:${path}:first:1`, directory.path), "one");
  assert.equal(await text(`docker-archive:${path}:second:2`, directory.path), "two");
  assert.equal(await text(`docker-archive:${path}:localhost/alias:x`, directory.path), "two");
  await assert.rejects(pull(`docker-archive:${path}`, directory.path), {
    code: "invalid-input",
    message: /first:1, second:2, localhost\/alias:x/,
  });
  await assert.rejects(pull(`docker-archive:${path}:third`, directory.path), {
    code: "not-found",
    message: /the archive has first:1/,
  });
});

const DAMAGE: Readonly<Record<string, readonly [(entries: TarEntry[]) => TarEntry[], RegExp]>> = {
  "without its list": [
    (entries) => entries.filter(({ name }) => name !== "manifest.json"),
    /lacks "manifest\.json"/,
  ],
  "without a layer": [
    (entries) => entries.filter(({ name }) => name !== "aaa/layer.tar"),
    /lacks "aaa\/layer\.tar"/,
  ],
  "with another layer": [
    (entries) =>
      entries.map((entry) =>
        entry.name === "aaa/layer.tar" ? { ...entry, content: makeTar([]) } : entry
      ),
    /uncompressed its digest is/,
  ],
  "with a list that is none": [
    (entries) =>
      entries.map((entry) => entry.name === "manifest.json" ? { ...entry, content: "{}" } : entry),
    /malformed/,
  ],
  "with links in a circle": [
    (entries) =>
      entries.map((entry) =>
        entry.name === "aaa/layer.tar" ? { name: entry.name, flag: "2", link: "layer.tar" } : entry
      ),
    /lacks/,
  ],
};

for (const [what, [damage, message]] of Object.entries(DAMAGE)) {
  Deno.test(`a saved archive ${what} is refused`, async () => {
    using directory = testDirectory();
    const path = join(directory.path, "saved.tar");
    await Deno.writeFile(path, makeTar(damage(savedArchive())));
    await assert.rejects(pull(`docker-archive:${path}:first:1`, directory.path), {
      code: "untrusted",
      message,
    });
  });
}

/** A layout directory; `changes` are files in place of its own. */
async function writeLayout(path: string, changes: Record<string, Uint8Array> = {}) {
  const images = ["one", "two"].map((content) => fakeImage([[{ name: "file", content }]]));
  const manifests = images.map(({ root }, i) => ({
    mediaType: root.mediaType,
    digest: digest(root.bytes),
    size: root.bytes.length,
    annotations: { "org.opencontainers.image.ref.name": ["first", "second"][i]! },
  }));
  const files: Record<string, Uint8Array> = {
    "oci-layout": json({ imageLayoutVersion: "1.0.0" }),
    "index.json": json({ schemaVersion: 2, manifests }),
    ...Object.fromEntries(
      images.flatMap(({ blobs }) =>
        [...blobs].map(([id, bytes]) => [`blobs/sha256/${id.slice(7)}`, bytes])
      ),
    ),
    ...changes,
  };
  for (const [name, bytes] of Object.entries(files)) {
    await Deno.mkdir(dirname(join(path, name)), { recursive: true });
    await Deno.writeFile(join(path, name), bytes);
  }
  return { images, manifests };
}

Deno.test("an image of a layout directory is found by its name or its digest", async () => {
  using directory = testDirectory();
  const path = join(directory.path, "layout");
  const { manifests } = await writeLayout(path);
  assert.equal(await text(`oci:${path}:first`, directory.path), "one");
  assert.equal(await text(`oci:${path}:${manifests[1]!.digest}`, directory.path), "two");
  await assert.rejects(pull(`oci:${path}`, directory.path), {
    code: "invalid-input",
    message: /first, second/,
  });
  await assert.rejects(pull(`oci:${path}:third`, directory.path), { code: "not-found" });
  await assert.rejects(pull(`oci:${path}-none`, directory.path), { code: "not-found" });
});

Deno.test("a layout directory with other content than its digests say is refused", async () => {
  using directory = testDirectory();
  const path = join(directory.path, "layout");
  const { images } = await writeLayout(path);
  const [layer] = images[0]!.layers as [string];
  const blob = (id: string) => ({ [`blobs/sha256/${id.slice(7)}`]: json("else") });
  await writeLayout(path, blob(layer));
  await assert.rejects(pull(`oci:${path}:first`, directory.path), { code: "untrusted" });
  await writeLayout(path, blob(digest(images[0]!.root.bytes)));
  await assert.rejects(pull(`oci:${path}:first`, directory.path), { code: "untrusted" });
  await writeLayout(path);
  await Deno.remove(join(path, "blobs/sha256", layer.slice(7)));
  await assert.rejects(pull(`oci:${path}:first`, directory.path), { code: "not-found" });
  await writeLayout(path, { "oci-layout": json({ imageLayoutVersion: "2.0" }) });
  await assert.rejects(pull(`oci:${path}:first`, directory.path), {
    code: "invalid-input",
    message: /unknown version "2\.0"/,
  });
});
