/** What a registry, and an image on the disk, give: documents, names, challenges, archives. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { makeTar } from "../../builder/archive/fixtures_test.ts";
import { parseChallenges } from "../../builder/oci/challenge.ts";
import { findCredentials } from "../../builder/oci/credentials.ts";
import { digestOfBytes, parseDigest } from "../../builder/oci/digest.ts";
import { openDockerArchive } from "../../builder/oci/docker_archive.ts";
import { openLayout } from "../../builder/oci/layout.ts";
import {
  choosePlatform,
  mediaTypeOf,
  parseConfig,
  parseIndex,
  parseManifest,
} from "../../builder/oci/manifest.ts";
import { formatReference, parseReference } from "../../builder/oci/reference.ts";
import { checkRequest } from "../../workload/request.ts";
import { asImageWants } from "../../node/image_program.ts";
import { create } from "@bufbuild/protobuf";
import { ExecuteRequestSchema } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { fuzz, type Random, refusedOr, refusedOrAsync } from "./harness.ts";

const utf8 = new TextEncoder();
const DIGEST = `sha256:${"0a".repeat(32)}`;

const CONFIG = {
  architecture: "amd64",
  os: "linux",
  config: {
    Env: ["PATH=/bin", "A=b=c"],
    Entrypoint: ["/bin/sh"],
    Cmd: ["-c", "true"],
    WorkingDir: "/work",
    User: "1000:1000",
    ExposedPorts: { "80/tcp": {} },
  },
  rootfs: { type: "layers", diff_ids: [DIGEST] },
  history: [{ created_by: "x" }],
};
const descriptor = (mediaType: string, size: number, digest = DIGEST) => ({
  mediaType,
  digest,
  size,
});
const MANIFEST = {
  schemaVersion: 2,
  mediaType: "application/vnd.oci.image.manifest.v1+json",
  config: descriptor("application/vnd.oci.image.config.v1+json", 99),
  layers: [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 1234)],
};
const INDEX = {
  schemaVersion: 2,
  manifests: [
    {
      ...descriptor(MANIFEST.mediaType, 500),
      platform: { architecture: "arm64", os: "linux", variant: "v8" },
    },
    {
      ...descriptor(MANIFEST.mediaType, 500),
      platform: { architecture: "amd64", os: "linux" },
      annotations: { "org.opencontainers.image.ref.name": "latest" },
    },
  ],
};

/** A document with damage to its values, or to its bytes. */
function document(random: Random, value: unknown): Uint8Array<ArrayBuffer> {
  const text = JSON.stringify(random.chance(5) ? value : random.damageJson(value)) ?? "";
  return random.chance(3) ? random.damage(utf8.encode(text), 3) : utf8.encode(text);
}

fuzz("oci-documents", () => (random) => {
  const manifest = document(random, MANIFEST);
  mediaTypeOf(manifest, random.pick([undefined, "a/b; c", ""]));
  const parsed = refusedOr(() => parseManifest(manifest, "image"), "untrusted");
  for (const { digest, size } of parsed?.layers ?? []) {
    assert(parseDigest(digest) !== undefined && Number.isSafeInteger(size) && size >= 0);
  }
  const entries = refusedOr(() => parseIndex(document(random, INDEX), "image"), "untrusted");
  if (entries !== undefined) refusedOr(() => choosePlatform(entries, "image"), "not-found");
  const config = refusedOr(() => parseConfig(document(random, CONFIG), "image"), "untrusted");
  if (config === undefined) return 3;
  for (const language of ["command", "python"]) {
    const request = create(ExecuteRequestSchema, {
      language,
      code: language === "python" ? "1" : "",
    });
    // What an image says goes to the agent, which is asked whether it takes it.
    refusedOr(() => checkRequest(asImageWants(request, config.program)), "invalid-input");
  }
  return 3;
});

fuzz("oci-reference", () => {
  const words = [
    "docker.io",
    "localhost",
    ":5000",
    "/",
    "library",
    "alpine",
    ":",
    "@",
    DIGEST,
    "latest",
    "A",
    "[::1]",
    "..",
    "__",
    "-",
    "oci:",
    "docker-archive:",
    "\0",
  ];
  return (random) => {
    const text = random.chance(3) ? random.text(30) : random.words(words, 7);
    const reference = refusedOr(() => parseReference(text, "/base"), "invalid-input");
    if (reference === undefined) return;
    const whole = formatReference(reference);
    assert.deepEqual(parseReference(whole, "/other"), reference, whole);
    if (reference.kind !== "registry") return assert(reference.path.startsWith("/"));
    // It becomes a part of URLs.
    const { host, repository, tag = "x", digest = DIGEST } = reference;
    for (const last of [tag, digest]) {
      const url = new URL(`https://${host}/v2/${repository}/manifests/${last}`);
      assert.equal(url.pathname, `/v2/${repository}/manifests/${last}`);
      assert(url.username === "" && url.search === "" && url.hash === "", whole);
    }
  };
});

fuzz("oci-challenge", () => {
  const field =
    'Bearer realm="https://auth.test/token",service="x\\"y",scope="repository:a:pull", Basic realm=z';
  const words = ["Bearer", " ", ",", "=", '"', "\\", "realm", "a", "\t"];
  return (random) => {
    for (const text of [random.damageText(field, words), random.words(words, 12)]) {
      for (const { scheme, parameters } of parseChallenges(text)) {
        assert(/^[!-~]+$/.test(scheme) && scheme === scheme.toLowerCase());
        for (const name of parameters.keys()) assert(name === name.toLowerCase());
      }
    }
    const value = random.text(20).replaceAll(/[\n\r]/g, "");
    const written = `Digest x="${value.replaceAll(/["\\]/g, "\\$&")}"`;
    assert.equal(parseChallenges(written)[0]!.parameters.get("x"), value);
    parseChallenges(random.pick(words).repeat(200_000) + "(");
    parseChallenges(`Bearer a${random.pick(words).repeat(200_000)}(`);
    return 5;
  };
});

fuzz("docker-archive", (stack) => {
  const path = Deno.makeTempFileSync();
  stack.defer(() => Deno.removeSync(path));
  const config = utf8.encode(JSON.stringify(CONFIG));
  const manifest = [{ Config: "config.json", RepoTags: ["a:latest"], Layers: ["layer/layer.tar"] }];
  return async (random) => {
    const tar = makeTar([
      {
        name: "manifest.json",
        content: random.chance(2)
          ? document(random, manifest)
          : utf8.encode(JSON.stringify(manifest)),
      },
      { name: "config.json", content: random.chance(4) ? document(random, CONFIG) : config },
      random.chance(2) ? { name: "layer/layer.tar", content: makeTar([]) } : {
        name: random.pick(["layer/layer.tar", "x"]),
        flag: random.pick(["1", "2"]),
        link: random.pick(["config.json", "../config.json", "layer.tar", "x", "layer/layer.tar"]),
      },
    ]);
    Deno.writeFileSync(path, random.chance(3) ? random.damage(tar) : tar);
    const image = random.pick([undefined, "a:latest", "b", "A:B:C"]);
    const opened = refusedOr(() => openDockerArchive({ kind: "docker-archive", path, image }));
    for (const layer of opened?.layers ?? []) {
      await layer.fetch(new AbortController().signal, () => {});
    }
  };
});

fuzz("oci-layout", (stack) => {
  const path = Deno.makeTempDirSync();
  stack.defer(() => Deno.removeSync(path, { recursive: true }));
  const blobs = join(path, "blobs/sha256");
  Deno.mkdirSync(blobs, { recursive: true });
  return async (random) => {
    const put = (value: unknown) => {
      const bytes = random.chance(3) ? document(random, value) : utf8.encode(JSON.stringify(value));
      const digest = digestOfBytes(bytes);
      Deno.writeFileSync(join(blobs, parseDigest(digest)!), bytes);
      return { digest, size: random.chance(8) ? random.below(1000) : bytes.length };
    };
    const layer = put("not a layer");
    const config = put(CONFIG);
    const manifest = put({
      ...MANIFEST,
      config: { ...MANIFEST.config, ...config },
      layers: [{ ...MANIFEST.layers[0], ...layer }],
    });
    const index = { manifests: [{ ...INDEX.manifests[1], ...manifest }] };
    Deno.writeFileSync(
      join(path, "index.json"),
      random.chance(3) ? document(random, index) : utf8.encode(JSON.stringify(index)),
    );
    const version = { imageLayoutVersion: "1.0.0" };
    Deno.writeFileSync(
      join(path, "oci-layout"),
      random.chance(4) ? document(random, version) : utf8.encode(JSON.stringify(version)),
    );
    const image = random.pick([undefined, undefined, "latest", DIGEST, ""]);
    await refusedOrAsync(async () => {
      const opened = await openLayout({ kind: "oci", path, image });
      for (const layer of opened.layers) await layer.fetch(new AbortController().signal, () => {});
    });
    for (const { name } of Deno.readDirSync(blobs)) Deno.removeSync(join(blobs, name));
  };
});

fuzz("docker-login", (stack) => {
  const path = Deno.makeTempFileSync();
  stack.defer(() => Deno.removeSync(path));
  const entry = (text: string) => ({ auth: utf8.encode(text).toBase64() });
  const config = {
    auths: {
      "registry.test:5000": entry("user:pass:word"),
      "https://index.docker.io/v1/": { identitytoken: "token" },
      "http://other.test/v2/": { username: "u", password: "p" },
    },
    HttpHeaders: {},
  };
  return async (random) => {
    Deno.writeFileSync(path, document(random, config));
    for (const host of ["registry.test:5000", "docker.io", "other.test", "__proto__"]) {
      const found = await refusedOrAsync(() => findCredentials(host, path), "invalid-input");
      if (found?.kind === "password") assert.equal(typeof found.password, "string");
      else if (found !== undefined) assert(found.token !== "");
    }
    return 4;
  };
});
