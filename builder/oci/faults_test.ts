/** What registries and images do wrong: clear errors, and nothing half-fetched that is used later. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { CloudletError } from "../../base/errors.ts";
import { run } from "../../test/oracle.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import {
  digest,
  type FakeImage,
  fakeImage,
  type Fault,
  filesIn,
  pull,
  serveImage,
} from "./fixtures_test.ts";

const FILE = { name: "file", content: "content" };

interface Case {
  readonly image?: () => FakeImage;
  readonly fault?: (image: FakeImage) => Fault;
  readonly code: CloudletError["code"];
  readonly message: RegExp;
}

const status =
  (code: number, headers: Record<string, string> = {}, kind = "/manifests/") =>
  (): Fault =>
  (_, path) => path.includes(kind) ? new Response(null, { status: code, headers }) : undefined;

const withIndex = (platforms: readonly Record<string, string>[]) => (): FakeImage => {
  const image = fakeImage([[FILE]]);
  const manifests = platforms.map((platform) => ({
    mediaType: image.root.mediaType,
    digest: digest(image.root.bytes),
    size: image.root.bytes.length,
    platform,
  }));
  const mediaType = "application/vnd.oci.image.index.v1+json";
  const bytes = new TextEncoder().encode(
    JSON.stringify({ schemaVersion: 2, mediaType, manifests }),
  );
  image.root = { bytes, mediaType };
  return image;
};

const layer = (...entries: Parameters<typeof fakeImage>[0][number] & object[]) => () =>
  fakeImage([[{ name: "link", flag: "2", link: "/etc" }], entries]);

const CASES: Readonly<Record<string, Case>> = {
  "a layer with another digest": {
    fault: ({ layers, blobs }) => (_, path) =>
      path.endsWith(layers[0]!)
        ? new Response(blobs.get(layers[0]!)!.map((byte, i) => i === 20 ? byte ^ 1 : byte))
        : undefined,
    code: "untrusted",
    message: /SHA-256 is [0-9a-f]{64}, expected is/,
  },
  "a layer that is another one, uncompressed": {
    image: () =>
      fakeImage([[FILE]], {
        config: (config) => ({
          ...config,
          rootfs: { type: "layers", diff_ids: [digest(new Uint8Array(3))] },
        }),
      }),
    code: "untrusted",
    message: /uncompressed its digest is/,
  },
  "a manifest with another digest than the registry says": {
    fault: ({ root }) => (_, path) =>
      path.endsWith("/t")
        ? new Response(root.bytes, {
          headers: { "docker-content-digest": digest(new Uint8Array(1)) },
        })
        : undefined,
    code: "untrusted",
    message: /its digest is sha256:/,
  },
  "a missing layer": {
    fault: ({ layers }) => (_, path) =>
      path.endsWith(layers[0]!) ? new Response(null, { status: 404 }) : undefined,
    code: "not-found",
    message: /lacks this part/,
  },
  "a missing tag": { fault: status(404), code: "not-found", message: /no such image/ },
  "a layer longer than it should be": {
    fault: ({ layers, blobs }) => (_, path) =>
      path.endsWith(layers[0]!)
        ? new Response(new Blob([blobs.get(layers[0]!)!, new Uint8Array(9)]))
        : undefined,
    code: "untrusted",
    message: /more than the expected/,
  },
  "an unknown type of manifest": {
    image: () => fakeImage([[FILE]], { manifest: (m) => ({ ...m, mediaType: "application/x" }) }),
    code: "untrusted",
    message: /unknown type "application\/x"/,
  },
  "a docker manifest of the first version": {
    image: () =>
      fakeImage([[FILE]], {
        manifest: () => ({
          schemaVersion: 1,
          mediaType: "application/vnd.docker.distribution.manifest.v1+prettyjws",
        }),
      }),
    code: "untrusted",
    message: /unknown type .*v1\+prettyjws/,
  },
  "an unknown type of layer": {
    image: () => fakeImage([[FILE]], { layerType: "application/x.encrypted" }),
    code: "untrusted",
    message: /unknown type "application\/x\.encrypted"/,
  },
  "an artifact that is no image": {
    image: () =>
      fakeImage([[FILE]], {
        manifest: (m) => ({
          ...m,
          config: { ...(m["config"] as object), mediaType: "application/vnd.oci.empty.v1+json" },
        }),
      }),
    code: "untrusted",
    message: /no container image/,
  },
  "a manifest that is no JSON": {
    fault: () => (_, path) => path.endsWith("/t") ? new Response("{") : undefined,
    code: "untrusted",
    message: /unknown type|no JSON/,
  },
  "a digest with a path in it": {
    image: () =>
      fakeImage([[FILE]], {
        manifest: (m) => ({
          ...m,
          config: { ...(m["config"] as object), digest: "sha256:../../x" },
        }),
      }),
    code: "untrusted",
    message: /no sha256 digest/,
  },
  "fewer layers than the configuration says": {
    image: () => fakeImage([[FILE]], { manifest: (m) => ({ ...m, layers: [] }) }),
    code: "untrusted",
    message: /0 layers, its configuration 1/,
  },
  "an index of other platforms": {
    image: withIndex([
      { architecture: "s390x", os: "linux" },
      { architecture: "amd64", os: "windows" },
      { architecture: "unknown", os: "unknown" },
    ]),
    code: "not-found",
    message: /there is linux\/s390x, windows\/amd64$/,
  },
  "an image of another platform": {
    image: () => fakeImage([[FILE]], { config: (c) => ({ ...c, architecture: "riscv64" }) }),
    code: "not-found",
    message: /there is linux\/riscv64$/,
  },
  "401 without a way to log in": { fault: status(401), code: "denied", message: /401/ },
  "401 with a token service that refuses": {
    fault: () => (request, path) => {
      if (path === "/token") return new Response(null, { status: 403 });
      if (!path.includes("/manifests/")) return undefined;
      const realm = new URL("/token", request.url);
      const headers = { "www-authenticate": `Bearer realm="${realm}",service="x"` };
      return new Response(null, { status: 401, headers });
    },
    code: "denied",
    message: /token service refuses us \(403\)/,
  },
  "401 with a token service that has no token": {
    fault: () => (request, path) => {
      if (path === "/token") return new Response(JSON.stringify({ token: "a\r\nb" }));
      const realm = new URL("/token", request.url);
      const headers = { "www-authenticate": `Bearer realm="${realm}"` };
      return path === "/v2/" ? undefined : new Response(null, { status: 401, headers });
    },
    code: "untrusted",
    message: /gives no token/,
  },
  "403": { fault: status(403), code: "denied", message: /denies access \(403\)/ },
  "429 for ever": { fault: status(429), code: "unavailable", message: /429/ },
  "429 with a wait that is too long": {
    fault: status(429, { "retry-after": "3600" }),
    code: "unavailable",
    message: /come back in 3600 s/,
  },
  "503 for ever": { fault: status(503), code: "unavailable", message: /503/ },
  "500 for a layer": { fault: status(500, {}, "/blobs/"), code: "unavailable", message: /500/ },
  "a redirect without an end": {
    fault: () => (request, path) =>
      path.includes("/blobs/") ? Response.redirect(request.url) : undefined,
    code: "untrusted",
    message: /redirects more than/,
  },
  "a name that leads out of the image": {
    image: layer({ name: "../../etc/passwd", content: "root::0:0" }),
    code: "untrusted",
    message: /"\.\.\/\.\.\/etc\/passwd"/,
  },
  "a name below a file": {
    image: layer({ name: "a", content: "" }, { name: "a/b", content: "" }),
    code: "untrusted",
    message: /below something else than a directory/,
  },
  "a hard link out of the image": {
    image: layer({ name: "a", flag: "1", link: "../../etc/shadow" }),
    code: "untrusted",
    message: /"\.\."/,
  },
  "a hard link to nothing": {
    image: layer({ name: "a", flag: "1", link: "etc/shadow" }),
    code: "untrusted",
    message: /which is not there/,
  },
  "links in a circle": {
    image: layer(
      { name: "a", flag: "2", link: "b" },
      { name: "b", flag: "2", link: "a" },
      { name: "a/x", content: "" },
    ),
    code: "untrusted",
    message: /too many symbolic links/,
  },
  "a file in place of the root": {
    image: layer({ name: "./", flag: "0", content: "" }, { name: ".", flag: "2", link: "x" }),
    code: "untrusted",
    message: /root must be a directory/,
  },
  "a layer that ends in the middle": {
    image: () => fakeImage([new Uint8Array(700).fill(1)]),
    code: "untrusted",
    message: /layer 1/,
  },
};

for (const [what, { image: make, fault, code, message }] of Object.entries(CASES)) {
  Deno.test(`${what} is refused, and nothing of it stays but what is whole`, async () => {
    using directory = testDirectory();
    const image = make?.() ?? fakeImage([[FILE]]);
    await using registry = serveImage(image, fault?.(image));
    await assert.rejects(
      pull(registry.name, directory.path, { credentials: () => Promise.resolve(undefined) }),
      (error) => {
        assert.ok(error instanceof CloudletError, String(error));
        assert.deepEqual(
          [error.code, error.message.match(message) !== null],
          [code, true],
          error.message,
        );
        return true;
      },
    );
    const blobs = join(directory.path, "oci/blobs");
    const files = await Deno.stat(blobs).then(() => filesIn(blobs), () => []);
    for (const path of files) {
      const bytes = await Deno.readFile(path);
      assert.equal(`sha256:${path.slice(blobs.length + 1)}`, digest(bytes));
    }
  });
}

Deno.test("a path through a symbolic link stays inside the image", async () => {
  using directory = testDirectory();
  const image = fakeImage([
    [{ name: "etc", flag: "5" }],
    [{ name: "out", flag: "2", link: "/../../../etc" }, { name: "/out/inside", content: "here" }],
  ]);
  await using registry = serveImage(image);
  const tree = await pull(registry.name, directory.path);
  assert.equal(tree.lookup("etc/inside")?.type, "file");
});

Deno.test("a whiteout hides what is below, whatever comes first, and nothing of its own layer", async () => {
  using directory = testDirectory();
  const below = [
    { name: "a/x", content: "" },
    { name: "a/y", content: "" },
    { name: "b/x", content: "" },
    { name: "c", content: "" },
    { name: "d", content: "" },
  ];
  const above = [
    { name: "a/new", content: "" },
    { name: "a/.wh..wh..opq", content: "" },
    { name: "a/z", content: "" },
    { name: "b/own", content: "" },
    { name: ".wh.b", content: "" },
    { name: ".wh.c", content: "" },
    { name: "c", content: "again" },
    { name: "e", flag: "1", link: "d" },
    { name: ".wh.d", content: "" },
    { name: ".wh.missing", content: "" },
    { name: "no/such/.wh.place", content: "" },
    { name: ".wh..wh.plnk/1", content: "" },
  ];
  await using registry = serveImage(fakeImage([below, above]));
  const tree = await pull(registry.name, directory.path);
  const paths = [...tree.entries()].map(([path]) => path);
  // Overlay runtimes make the directory of a whiteout, too.
  assert.deepEqual(paths, ["a", "a/new", "a/z", "b", "b/own", "c", "e", "no", "no/such"]);
});

Deno.test({
  name: "a layer that does not fit on the disk is an error that says so, and leaves the disk free",
  ignore: Deno.uid() !== 0,
  async fn(t) {
    using directory = testDirectory();
    const disk = join(directory.path, "disk");
    await Deno.mkdir(disk);
    await run("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", disk]);
    const refused = { code: "host", remedy: /free some disk space/ };
    const left = () => filesIn(disk).filter((path) => Deno.statSync(path).size > 65_536);
    try {
      await t.step("ten gigabytes are not even begun", async () => {
        const image = fakeImage([[FILE]], {
          manifest: (m) => ({
            ...m,
            layers: (m["layers"] as object[]).map((layer) => ({ ...layer, size: 10 * 2 ** 30 })),
          }),
        });
        await using registry = serveImage(image);
        await assert.rejects(pull(registry.name, disk), { ...refused, message: /10240 MiB/ });
        assert.ok(!registry.asked.some((path) => path.endsWith(image.layers[0]!)));
        assert.deepEqual(left(), []);
      });
      await t.step("nor does it help to pack them well", async () => {
        await using registry = serveImage(fakeImage([new Uint8Array(64 * 2 ** 20)]));
        await assert.rejects(pull(registry.name, disk), refused);
        assert.deepEqual(left(), []);
      });
      await t.step("a disk that somebody else fills meanwhile", async () => {
        const noise = crypto.getRandomValues(new Uint8Array(65_536));
        const blocks = Array.from({ length: 64 }, (_, i) => noise.map((byte) => byte ^ i));
        const content = new Uint8Array(await new Blob(blocks).arrayBuffer());
        await using registry = serveImage(fakeImage([[{ name: "noise", content }]]), (_, path) => {
          if (path.includes("/blobs/")) {
            Deno.writeFileSync(join(disk, "else"), new Uint8Array(5 << 20));
          }
          return undefined;
        });
        await assert.rejects(pull(registry.name, disk), refused);
        assert.deepEqual(left(), [join(disk, "else")]);
      });
    } finally {
      await run("umount", [disk]);
    }
  },
});

Deno.test("gzip in several members is one layer", async () => {
  using directory = testDirectory();
  const image = fakeImage([[FILE]]);
  const [id] = image.layers as [string];
  const { gunzipSync } = await import("node:zlib");
  const tar = gunzipSync(image.blobs.get(id)!);
  const parts = [tar.subarray(0, 600), tar.subarray(600)].map((part) =>
    new Uint8Array(gzipSync(part))
  );
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  const manifest = JSON.parse(new TextDecoder().decode(image.root.bytes));
  manifest.layers[0] = { ...manifest.layers[0], digest: digest(bytes), size: bytes.length };
  image.blobs.set(digest(bytes), bytes);
  image.root.bytes = new TextEncoder().encode(JSON.stringify(manifest));
  await using registry = serveImage(image);
  assert.equal((await pull(registry.name, directory.path)).lookup("file")?.type, "file");
});
