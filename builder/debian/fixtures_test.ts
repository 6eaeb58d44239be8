/** A Debian mirror of its own for the tests beside this file, served on a loopback address. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import * as openpgp from "openpgp";
import { makeDeb, type TarEntry, testDirectory } from "../archive/fixtures_test.ts";
import { CloudletError } from "../../base/errors.ts";
import { sha256 } from "../../base/store.ts";
import type { Progress } from "../../base/progress.ts";
import type { DebianOptions } from "./debian.ts";
import type { Source } from "./sources.ts";

// What the developer set for real mirrors must not reach the tests.
Deno.env.delete("CLOUDLET_DEBIAN_MIRROR");

export { sha256 } from "../../base/store.ts";

/** A signing key. */
export interface TestKey {
  readonly privateKey: openpgp.PrivateKey;
  readonly armoredPublicKey: string;
}

/** Makes a key; `lifetime` in seconds from `date` on. */
export async function makeKey(date?: Date, lifetime?: number): Promise<TestKey> {
  const { privateKey, publicKey } = await openpgp.generateKey({
    type: "curve25519",
    userIDs: [{ name: "Test Archive" }],
    format: "object",
    ...(date === undefined ? {} : { date }),
    ...(lifetime === undefined ? {} : { keyExpirationTime: lifetime }),
  });
  return { privateKey, armoredPublicKey: publicKey.armor() };
}

/** Signs as InRelease files are signed. */
export async function clearsign(text: string, key: TestKey, date?: Date): Promise<string> {
  return await openpgp.sign({
    message: await openpgp.createCleartextMessage({ text }),
    signingKeys: key.privateKey,
    ...(date === undefined ? {} : { date }),
  });
}

/** A package of the test mirror. */
export interface TestPackage {
  readonly name: string;
  readonly version?: string;
  /** More fields, such as `Depends`. */
  readonly fields?: Readonly<Record<string, string>>;
  readonly files?: readonly TarEntry[];
  /** Files of control.tar besides `control`, such as scripts. */
  readonly control?: Readonly<Record<string, string>>;
  /** The whole .deb, when it is not to be made of the files. */
  readonly deb?: Uint8Array<ArrayBuffer>;
}

/** Index of packages as Debian writes it, and the .debs by path. */
export function makeIndex(packages: readonly TestPackage[]) {
  const debs = new Map<string, Uint8Array<ArrayBuffer>>();
  const stanzas = packages.map((item) => {
    const { name, version = "1.0", fields = {} } = item;
    const text = Object.entries({
      Package: name,
      Version: version,
      Architecture: "amd64",
      ...fields,
    })
      .map(([key, value]) => `${key}: ${value}\n`).join("");
    const deb = item.deb ?? makeDeb(
      item.files ?? [{ name: `./${name}`, content: name }],
      "gzip",
      { control: text, ...item.control },
    );
    const filename = `pool/main/${name}_${version.replace(":", "%3a")}_amd64.deb`;
    debs.set(filename, deb);
    const all: Record<string, string> = {
      Package: name,
      Version: version,
      Architecture: "amd64",
      Maintainer: "Nobody",
      ...fields,
      Filename: filename,
      Size: String(deb.length),
      SHA256: sha256(deb),
    };
    return Object.entries(all).map(([key, value]) => `${key}: ${value}\n`).join("");
  });
  return { packages: stanzas.join("\n"), debs };
}

/** What the server does with a request; undefined for its usual answer. */
export type Behaviour = (path: string, request: Request) => Response | undefined;

/** A running mirror. */
export interface TestMirror extends AsyncDisposable {
  /** URL of the archive. */
  readonly url: string;
  /** Files by path below the URL; may be changed. */
  readonly files: Map<string, Uint8Array<ArrayBuffer>>;
  /** Paths asked for so far, with the Range header if there was one. */
  readonly requests: string[];
  behaviour: Behaviour | undefined;
  /**
   * Makes index and InRelease anew; each component has all packages.
   *
   * @param release fields besides the usual ones, or in their place
   */
  publish(
    packages: readonly TestPackage[],
    release?: Readonly<Record<string, string>>,
    components?: readonly string[],
  ): Promise<void>;
  /** Does not answer any more. */
  stop(): Promise<void>;
}

export const SUITE = "bookworm";

/** Starts a mirror that serves `packages`, signed by `key`. */
export async function startMirror(
  key: TestKey,
  packages: readonly TestPackage[],
  suite = SUITE,
): Promise<TestMirror> {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  const requests: string[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    const path = decodeURIComponent(new URL(request.url).pathname.replace(/^\/debian\//, ""));
    const range = request.headers.get("range");
    requests.push(range === null ? path : `${path} ${range}`);
    return mirror.behaviour?.(path, request) ?? answer(files.get(path), range);
  });
  let stopped = false;
  const mirror: TestMirror = {
    url: `http://127.0.0.1:${server.addr.port}/debian`,
    files,
    requests,
    behaviour: undefined,
    async publish(packages, release = {}, components = ["main"]) {
      files.clear();
      const index = makeIndex(packages);
      for (const [path, deb] of index.debs) files.set(path, deb);
      const plain = new TextEncoder().encode(index.packages);
      const packed = new Uint8Array(gzipSync(plain));
      const directories = components.map((component) => `${component}/binary-amd64`);
      for (const directory of directories) {
        files.set(`dists/${suite}/${directory}/Packages.gz`, packed);
        files.set(`dists/${suite}/${directory}/by-hash/SHA256/${sha256(packed)}`, packed);
      }
      const fields = {
        Origin: "Debian",
        Suite: "stable",
        Codename: suite,
        Date: new Date().toUTCString(),
        "Acquire-By-Hash": "yes",
        Architectures: "all amd64",
        "No-Support-for-Architecture-all": "Packages",
        Components: components.join(" "),
        ...release,
      };
      const text = Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`).join("") +
        "SHA256:\n" +
        directories.map((directory) =>
          ` ${sha256(plain)} ${plain.length} ${directory}/Packages\n` +
          ` ${sha256(packed)} ${packed.length} ${directory}/Packages.gz\n`
        ).join("");
      const signed = await clearsign(text, key);
      files.set(`dists/${suite}/InRelease`, new TextEncoder().encode(signed));
    },
    async stop() {
      if (!stopped) await server.shutdown();
      stopped = true;
    },
    [Symbol.asyncDispose]: () => mirror.stop(),
  };
  await mirror.publish(packages);
  return mirror;
}

function answer(file: Uint8Array<ArrayBuffer> | undefined, range: string | null): Response {
  if (file === undefined) return new Response("not here", { status: 404 });
  const start = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  if (start === 0) return new Response(file);
  if (start >= file.length) return new Response(null, { status: 416 });
  return new Response(file.slice(start), {
    status: 206,
    headers: { "content-range": `bytes ${start}-${file.length - 1}/${file.length}` },
  });
}

/** An answer that promises the whole file and ends in the middle of it. */
export function cutOff(file: Uint8Array, after: number): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(file.slice(0, after));
      controller.close();
    },
  });
  return new Response(body); // chunked: an honest length would make the client fail by itself
}

/** An answer that starts and then never goes on. */
export function stalled(file: Uint8Array, after: number): Response {
  return new Response(
    new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(file.slice(0, after)),
    }),
  );
}

/** A directory with a keyring, and options for the mirror. */
export function testOptions(mirror: TestMirror, key: TestKey) {
  const directory = testDirectory();
  const keyring = join(directory.path, "keyring.asc");
  Deno.writeTextFileSync(keyring, key.armoredPublicKey);
  const infos: string[] = [];
  const progress: Progress = {
    task: () => ({ advance() {}, note() {}, done() {}, [Symbol.dispose]() {} }),
    info: (message) => void infos.push(message),
    [Symbol.dispose]() {},
  };
  const cache = join(directory.path, "cache");
  const options: DebianOptions = {
    mirror: mirror.url,
    suite: SUITE,
    security: false, // the mirror has none
    keyring,
    cache,
    progress,
    fetch: { attempts: 2, backoff: 1 },
  };
  return { options, cache, infos, [Symbol.dispose]: () => directory[Symbol.dispose]() };
}

/** Files below a directory, without empty lock files of nobody. */
export function filesBelow(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].flatMap((entry) =>
      entry.isDirectory
        ? filesBelow(join(directory, entry.name)).map((name) => `${entry.name}/${name}`)
        : [entry.name]
    ).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** A small archive: a package that needs another one, and a third. */
export const PACKAGES: readonly TestPackage[] = [
  {
    name: "app",
    fields: { Depends: "lib (>= 1.0)" },
    files: [{ name: "./bin/app", content: "a" }],
  },
  { name: "lib", files: [{ name: "./usr/lib/lib.so", content: "library" }] },
  { name: "other" },
];

/** A predicate for `assert.rejects`: a CloudletError of this code whose message has all of this. */
export function failure(code: string, ...patterns: (RegExp | string)[]) {
  return (error: unknown) => {
    assert.ok(error instanceof CloudletError, String(error));
    assert.equal(error.code, code, error.message);
    for (const pattern of patterns) {
      if (typeof pattern === "string") assert.ok(error.message.includes(pattern), error.message);
      else assert.match(error.message, pattern);
    }
    return true;
  };
}

/** A mirror as a source of packages, as apt's files would name it. */
export function sourceOf(mirror: TestMirror, changes: Partial<Source> = {}): Source {
  return {
    uri: `${mirror.url}/`,
    suite: SUITE,
    components: ["main"],
    signedBy: [],
    checkValidUntil: true,
    maxFuture: 10_000,
    optional: false,
    doubtful: false,
    ...changes,
  };
}
