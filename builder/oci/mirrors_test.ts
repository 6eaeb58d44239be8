/** Mirrors of registries: fake ones that fail in every way, and a real one that fetches itself. */
import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { addressKind } from "../../base/addresses.ts";
import { parseSettings } from "../../base/settings.ts";
import { run } from "../../test/oracle.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import {
  fakeImage,
  type Fault,
  hasTools,
  makeLayout,
  pull,
  serveImage,
  startRegistry,
} from "./fixtures_test.ts";
import { type Mirror, mirrorsOf } from "./mirrors.ts";
import type { OpenOptions } from "./open.ts";
import { checkReference } from "./policy.ts";
import { parseReference } from "./reference.ts";

const IMAGE = fakeImage([[{ name: "file", content: "content" }], [{ name: "more", content: "2" }]]);
const nobody = () => Promise.resolve(undefined);
const hostOf = (name: string) => name.slice(0, name.indexOf("/"));

function mirrors(toml: string, host = "docker.io"): Mirror[] {
  return mirrorsOf(host, parseSettings(toml, "config.toml"));
}

Deno.test("a registry's mirrors are those of its name, in order", () => {
  const toml = `[registry]
insecure = ["plain.example:5000"]
[registries.mirrors]
"docker.io" = "plain.example:5000"
"index.docker.io" = ["https://plain.example:5000/", "http://a.example/proxy/hub/", "b.example/v2/x"]
"team.example" = "c.example"
`;
  deepEqual(mirrors(toml), [
    { host: "plain.example:5000", prefix: "", insecure: true },
    { host: "plain.example:5000", prefix: "", insecure: false },
    { host: "a.example", prefix: "proxy/hub/", insecure: true },
    { host: "b.example", prefix: "x/", insecure: false },
  ]);
  deepEqual(mirrors(toml, "team.example").map(({ host }) => host), ["c.example"]);
  deepEqual(mirrors(toml, "plain.example:5000"), []);
  deepEqual(mirrors(""), []);
});

/** Two fake registries of the same image; pulls from the second, whose mirror the first is. */
async function withMirror(
  test: (fixture: {
    readonly pull: (more?: OpenOptions) => ReturnType<typeof pull>;
    readonly mirror: ReturnType<typeof serveImage>;
    readonly origin: ReturnType<typeof serveImage>;
    readonly mirrors: readonly Mirror[];
  }) => Promise<void>,
  fault?: Fault,
): Promise<void> {
  using directory = testDirectory();
  await using mirror = serveImage(IMAGE, fault);
  await using origin = serveImage(IMAGE);
  const mirrors = [{ host: hostOf(mirror.name), prefix: "", insecure: false }];
  await test({
    mirror,
    origin,
    mirrors,
    pull: (more = {}) =>
      pull(origin.name, directory.path, { credentials: nobody, mirrors, ...more }),
  });
}

Deno.test("what a mirror has is not asked of the registry", () =>
  withMirror(async ({ pull, mirror, origin }) => {
    equal((await pull()).lookup("more")?.type, "file");
    deepEqual(origin.asked, []);
    match(mirror.asked.join(" "), /manifests.*blobs.*blobs.*blobs/);
  }));

const wrong = () => new Response("something else");
const FAULTS: Readonly<Record<string, Fault>> = {
  "lacks the image": (_, path) => path.includes("/manifests/") ? status(404) : undefined,
  "lacks a layer": (_, path) => path.endsWith(IMAGE.layers[1]!) ? status(404) : undefined,
  "wants a login": (_, path) => path === "/v2/" ? undefined : status(401),
  "denies access": (_, path) => path === "/v2/" ? undefined : status(403),
  "fails": (_, path) => path === "/v2/" ? undefined : status(500),
  "has another layer": (_, path) => path.endsWith(IMAGE.layers[0]!) ? wrong() : undefined,
  "has what is no manifest": (_, path) =>
    path.endsWith("/t")
      ? new Response("{}", { headers: { "docker-content-digest": `sha256:${"0".repeat(64)}` } })
      : undefined,
  "redirects for ever": (request, path) =>
    path.includes("/blobs/") ? Response.redirect(request.url) : undefined,
};

function status(code: number): Response {
  return new Response(null, { status: code });
}

for (const [what, fault] of Object.entries(FAULTS)) {
  Deno.test(`where a mirror ${what}, the registry is asked`, () =>
    withMirror(async ({ pull, mirror, origin }) => {
      const tree = await pull();
      equal(tree.lookup("file")?.type, "file");
      equal(tree.lookup("more")?.type, "file");
      equal(mirror.asked.length > 0 && origin.asked.length > 0, true);
    }, fault));
}

Deno.test("a mirror that does not answer is asked once, and the next one after it", () =>
  withMirror(async ({ pull, mirror, origin, mirrors }) => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const dead = { ...mirrors[0]!, host: `127.0.0.1:${(listener.addr as Deno.NetAddr).port}` };
    let connections = 0;
    const accepting = (async () => {
      for await (const connection of listener) {
        connections++;
        connection.close();
      }
    })();
    await pull({ mirrors: [dead, ...mirrors] });
    deepEqual(origin.asked, []);
    equal(mirror.asked.length > 0, true);
    equal(connections > 0, true);
    const before = connections;
    listener.close();
    await accepting;
    equal(before <= 4, true, `${before} connections`); // https, http, and once again
  }));

Deno.test("when nobody has the image, the error is the registry's and names the mirror's", () =>
  withMirror(async ({ origin, mirrors }) => {
    using directory = testDirectory();
    const name = origin.name.replace(/:t$/, ":none");
    await rejects(pull(name, directory.path, { credentials: nobody, mirrors }), (error) => {
      match(
        String(error),
        new RegExp(`${hostOf(name)}/x none: .*mirrors: .*${mirrors[0]!.host}/x none`),
      );
      equal((error as { code?: unknown }).code, "not-found");
      return true;
    });
  }));

Deno.test("a pull that is given up asks nobody else", async () => {
  const controller = new AbortController();
  await withMirror(async ({ pull, origin }) => {
    await rejects(pull({ signal: controller.signal }), { code: "cancelled" });
    deepEqual(origin.asked, []);
  }, (_, path) => {
    if (path.includes("/manifests/")) controller.abort();
    return undefined;
  });
});

Deno.test("a mirror's path is where its repositories begin", () =>
  withMirror(async ({ pull, mirror, mirrors, origin }) => {
    await pull({ mirrors: [{ ...mirrors[0]!, prefix: "proxy/hub/" }] });
    match(mirror.asked.join(" "), /\/v2\/proxy\/hub\/x\/manifests\/t/);
    equal(origin.asked.length > 0, true); // the fake one has nothing there
  }));

Deno.test("a mirror gets its own login, and none of the registry's", async () => {
  const seen: (string | null)[] = [];
  await withMirror(async ({ pull, mirror, origin }) => {
    const asked: string[] = [];
    const credentials = (host: string) => {
      asked.push(host);
      return Promise.resolve({
        kind: "password" as const,
        username: host === hostOf(mirror.name) ? "mirror" : "origin",
        password: "secret",
      });
    };
    await pull({ credentials });
    deepEqual(origin.asked, []);
    deepEqual(asked, [hostOf(mirror.name)]);
    deepEqual([...new Set(seen)], [null, `Basic ${btoa("mirror:secret")}`]);
  }, (request, path) => {
    if (path === "/v2/") return undefined;
    const authorization = request.headers.get("authorization");
    seen.push(authorization);
    return authorization !== null ? undefined : new Response(null, {
      status: 401,
      headers: { "www-authenticate": 'Basic realm="x"' },
    });
  });
});

/** 127.0.0.2 stands for the public network, and 127.0.0.1 for what is private. */
const kindOf = (address: string) => address === "127.0.0.2" ? "public" : addressKind(address);

Deno.test("on a server, the operator's mirror may be private, and clients still may not name it", () =>
  withMirror(async ({ pull, mirror, origin }) => {
    const policy = { allowed: [hostOf(origin.name)], insecure: [] };
    await pull({ policy, pinned: { kindOf } });
    deepEqual(origin.asked, []);
    throws(() => checkReference(policy, parseReference(mirror.name), false), { code: "denied" });
    const open = { allowed: [], insecure: [] };
    throws(() => checkReference(open, parseReference(mirror.name), false), { code: "denied" });
  }));

Deno.test("on a server, what a mirror redirects to is held to the policy", async () => {
  let connections = 0;
  await using inner = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
    connections++;
    return new Response("secret");
  });
  const location = `http://127.0.0.1:${inner.addr.port}/latest/meta-data`;
  await withMirror(
    async ({ pull, mirror, origin }) => {
      const policy = { allowed: [hostOf(origin.name)], insecure: [] };
      equal((await pull({ policy, pinned: { kindOf } })).lookup("file")?.type, "file");
      equal(mirror.asked.some((path) => path.includes("/blobs/")), true);
      equal(connections, 0);
    },
    (_, path) =>
      path.includes("/blobs/")
        ? new Response(null, { status: 307, headers: { location } })
        : undefined,
  );
});

Deno.test("a mirror speaks http where the settings say so, and nowhere else but on loopback", async () => {
  using directory = testDirectory();
  await using mirror = serveImage(IMAGE, undefined, "127.0.0.2");
  await using origin = serveImage(IMAGE);
  const host = `mirror.test:${mirror.name.split(":")[1]!.split("/")[0]}`;
  const resolve = () => Promise.resolve(["127.0.0.2"]);
  const policy = { allowed: [hostOf(origin.name)], insecure: [] };
  const options = { credentials: nobody, policy, pinned: { resolve, kindOf } };
  const from = (scheme: string) =>
    pull(origin.name, directory.path, {
      ...options,
      pull: true,
      mirrors: mirrors(`[registries.mirrors]\n"docker.io" = "${scheme}${host}"\n`),
    });
  for (const scheme of ["", "https://"]) {
    const before = origin.asked.length;
    await from(scheme);
    equal(mirror.asked.length, 0);
    equal(origin.asked.length > before, true);
  }
  await from("http://");
  equal(mirror.asked.length > 0, true);
});

Deno.test("a real registry that fetches itself is a mirror, and serves when the other is gone", async () => {
  if (!(await hasTools())) return;
  using directory = testDirectory();
  const { path } = directory;
  await makeLayout(path, "layout", ["echo one >one", "echo two >two"]);
  await using origin = await startRegistry(path);
  const push = (tag: string) =>
    run("skopeo", [
      ...["copy", "--insecure-policy", "--dest-tls-verify=false"],
      ...["oci:layout:t", `docker://${origin.host}/team/x:${tag}`],
    ], { cwd: path });
  await push("t");
  await using mirror = await startRegistry(path, `proxy:\n  remoteurl: http://${origin.host}\n`);
  const toml = `[registries.mirrors]\n"${origin.host}" = "http://${mirror.host}"\n`;
  const options = () => ({ credentials: nobody, mirrors: mirrors(toml, origin.host) });
  const own = async (options: OpenOptions) => {
    const fresh = await Deno.makeTempDir({ dir: path }); // with an empty cache
    return await pull(`${origin.host}/team/x:t`, fresh, options);
  };
  equal((await own(options())).lookup("two")?.type, "file");
  await origin[Symbol.asyncDispose]();
  equal((await own(options())).lookup("two")?.type, "file");
  await rejects(own({ credentials: nobody }), { code: "unavailable" });
});
