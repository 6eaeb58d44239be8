/** What a server dials for its clients; only addresses of the loopback network are dialled here. */
import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { join } from "node:path";
import { addressKind } from "../../base/addresses.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { Builder } from "../artifacts.ts";
import { run } from "../../test/oracle.ts";
import { fakeImage, type Fault, pull, serveImage } from "./fixtures_test.ts";
import type { OpenOptions } from "./open.ts";
import { checkReference, isListed, registryPolicy } from "./policy.ts";
import { parseReference } from "./reference.ts";

const NOTHING = { allowed: [], insecure: [] };
const IMAGE = () => fakeImage([[{ name: "file", content: "content" }]]);
const nobody = () => Promise.resolve(undefined);

/** 127.0.0.2 stands for the public network, and 127.0.0.1 for what is private. */
const kindOf = (address: string) => address === "127.0.0.2" ? "public" : addressKind(address);

/** A server of the private network that counts who connects. */
function privateServer() {
  let connections = 0;
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = (async () => {
    for await (const connection of listener) {
      connections++;
      connection.close();
    }
  })();
  return {
    port: (listener.addr as Deno.NetAddr).port,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
    },
  };
}

for (
  const host of [
    ...["127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "0x7F000001", "2130706433", "[::1]"],
    ...["[::ffff:7f00:1]", "localhost", "name.test", "six.test"],
  ]
) {
  Deno.test(`the private host ${host} is not dialled unless it is listed`, async () => {
    using directory = testDirectory();
    await using server = privateServer();
    const reference = `${host}:${server.port}/x:t`;
    const resolve = (name: string) =>
      Promise.resolve(name === "six.test" ? ["::ffff:127.0.0.1"] : ["127.0.0.1"]);
    const options: OpenOptions = { credentials: nobody, pinned: { resolve }, insecure: true };
    await rejects(pull(reference, directory.path, { ...options, policy: NOTHING }), {
      code: "denied",
      message: /its address is not a public one$/,
      remedy: /add ".*:\d+" to \[registry\] allowed/,
    });
    equal(server.connections(), 0);
    if (host === "[::1]") return; // the server listens on the other one
    // Listed with the port, it is dialled, and does not answer.
    const policy = { allowed: [`${host}:${server.port}`], insecure: [] };
    await rejects(pull(reference, directory.path, { ...options, policy }), { code: "unavailable" });
    equal(server.connections() > 0, true);
    // Another port is another host.
    const before = server.connections();
    const other = { allowed: [host, `${host}:1`], insecure: [] };
    await rejects(pull(reference, directory.path, { ...options, policy: other }), {
      code: "denied",
    });
    equal(server.connections(), before);
  });
}

Deno.test("what a name of two addresses means is refused when one is private", async () => {
  using directory = testDirectory();
  await using server = privateServer();
  const resolve = () => Promise.resolve(["127.0.0.2", "127.0.0.1"]);
  const pinned = { resolve, kindOf };
  await rejects(
    pull(`two.test:${server.port}/x:t`, directory.path, { policy: NOTHING, pinned }),
    { code: "denied" },
  );
  equal(server.connections(), 0);
});

Deno.test("of several addresses the next is dialled when one does not answer", async () => {
  using directory = testDirectory();
  await using registry = serveImage(IMAGE(), undefined, "127.0.0.2");
  const port = registry.name.slice("127.0.0.2:".length, -"/x:t".length);
  const pinned = {
    resolve: () => Promise.resolve(["127.0.0.4", "127.0.0.2"]),
    kindOf: () => "public" as const,
  };
  const options = { policy: NOTHING, pinned, insecure: true, credentials: nobody };
  await pull(`two.test:${port}/x:t`, directory.path, options);
});

/** The fake registry on 127.0.0.2, by a name, as a server's policy sees it. */
async function withRegistry(
  test: (registry: {
    readonly pull: (more?: OpenOptions) => Promise<unknown>;
    readonly asked: readonly string[];
    readonly resolved: readonly string[];
  }) => Promise<void>,
  fault?: Fault,
  addresses: readonly string[] = ["127.0.0.2"],
): Promise<void> {
  using directory = testDirectory();
  await using registry = serveImage(IMAGE(), fault, "127.0.0.2");
  const port = registry.name.slice("127.0.0.2:".length, -"/x:t".length);
  const resolved: string[] = [];
  const resolve = (name: string) => {
    resolved.push(name);
    return Promise.resolve([addresses[resolved.length - 1] ?? addresses.at(-1)!]);
  };
  await test({
    pull: (more = {}) =>
      pull(`registry.test:${port}/x:t`, directory.path, {
        credentials: nobody,
        insecure: true, // by the operator
        policy: NOTHING,
        pinned: { resolve, kindOf },
        ...more,
      }),
    asked: registry.asked,
    resolved,
  });
}

Deno.test("a public registry is pulled from, by the address that was judged", () =>
  withRegistry(async ({ pull, asked, resolved }) => {
    await pull();
    match(asked.join(" "), /manifests.*blobs/);
    deepEqual(resolved, ["registry.test"]);
  }));

Deno.test("a large layer arrives whole, and a pull that is given up closes its connection", async () => {
  using directory = testDirectory();
  const content = new Uint8Array(3_000_000).map((_, i) => i * i * 31 >> 7); // packs badly
  const image = fakeImage([[{ name: "large", content }]]);
  const closed = Promise.withResolvers<void>();
  let halt = false;
  await using registry = serveImage(image, (_, path) => {
    if (!halt || !path.includes("/blobs/")) return undefined;
    const stuck = new ReadableStream({ cancel: () => closed.resolve() });
    setTimeout(() => controller.abort(), 50);
    return new Response(stuck);
  }, "127.0.0.2");
  const controller = new AbortController();
  const options = { policy: NOTHING, pinned: { kindOf }, insecure: true, credentials: nobody };
  halt = true;
  await rejects(
    pull(registry.name, directory.path, { ...options, signal: controller.signal }),
    { code: "cancelled" },
  );
  await closed.promise;
  halt = false;
  await pull(registry.name, directory.path, options);
});

Deno.test("a name that means something else the second time is not asked a second time", async () => {
  // What the second answer leads to would take every request.
  await withRegistry(
    async ({ pull, asked, resolved }) => {
      await pull();
      deepEqual(resolved, ["registry.test"]);
      equal(asked.length > 2, true);
    },
    undefined,
    ["127.0.0.2", "127.0.0.1"],
  );
});

Deno.test("a redirect to a private address is refused, and nothing is sent there", async () => {
  await using server = privateServer();
  for (const target of ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "inner.test"]) {
    const location = `http://${target}:${server.port}/latest/meta-data`;
    await withRegistry(
      async ({ pull }) => {
        await rejects(pull(), { code: "denied", message: /not a public one/ });
      },
      (_, path) =>
        path.includes("/blobs/")
          ? new Response(null, { status: 307, headers: { location } })
          : undefined,
      ["127.0.0.2", "127.0.0.1"],
    );
  }
  equal(server.connections(), 0);
});

Deno.test("a token service at a private address is refused, and nothing is sent there", async () => {
  await using server = privateServer();
  const challenge = `Bearer realm="http://inner.test:${server.port}/token"`;
  await withRegistry(
    async ({ pull }) => {
      await rejects(pull(), { code: "denied", message: /not a public one/ });
    },
    (_, path) =>
      path === "/v2/"
        ? undefined
        : new Response(null, { status: 401, headers: { "www-authenticate": challenge } }),
    ["127.0.0.2", "127.0.0.1"],
  );
  equal(server.connections(), 0);
});

Deno.test("behind a proxy, whose addresses are not known, only what is listed is asked for", () =>
  withRegistry(async ({ pull, asked }) => {
    const environment = (name: string) => name === "HTTP_PROXY" ? "http://proxy.test" : undefined;
    const pinned = { resolve: () => Promise.resolve(["127.0.0.2"]), kindOf, environment };
    await rejects(pull({ pinned }), { code: "denied", message: /a proxy fetches from there/ });
    deepEqual(asked, []);
  }));

Deno.test("https is asked of the name at the judged address, and its certificate is checked", async () => {
  using directory = testDirectory();
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(directory.path, name));
  await run("openssl", [
    ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"],
    ...["-addext", "subjectAltName=DNS:registry.test", "-keyout", key!, "-out", cert!],
    ...["-addext", "basicConstraints=critical,CA:FALSE"],
  ]);
  const tls = { cert: await Deno.readTextFile(cert!), key: await Deno.readTextFile(key!) };
  await using registry = serveImage(IMAGE(), undefined, "127.0.0.2", tls);
  const port = registry.name.slice("127.0.0.2:".length, -"/x:t".length);
  const pinned = { resolve: () => Promise.resolve(["127.0.0.2"]), kindOf };
  const options = { policy: NOTHING, pinned, credentials: nobody };
  const certificates = [tls.cert];
  const from = (host: string, more: OpenOptions) =>
    pull(`${host}:${port}/x:t`, directory.path, { ...options, ...more });
  await rejects(from("registry.test", {}), { code: "unavailable", message: /certificate/ });
  await rejects(from("other.test", { certificates }), { code: "unavailable" });
  await from("registry.test", { certificates });
});

Deno.test("only the operator chooses http, and the registries where there is a list", () => {
  const check = (text: string, insecure = false, policy = NOTHING as Policy) =>
    checkReference(policy, parseReference(text), insecure);
  type Policy = Parameters<typeof checkReference>[0];
  check("alpine");
  check("ghcr.io/x/y");
  check("8.8.8.8/x");
  const refused = { code: "denied" };
  throws(() => check("alpine", true), { ...refused, message: /only the server's operator/ });
  for (const host of ["10.0.0.1", "169.254.169.254", "0xa9.0xfe.43518", "[fd00::1]", "0.0.0.0"]) {
    throws(() => check(`${host}:80/x`), { ...refused, message: /not a public one/ });
  }
  const policy = { allowed: ["docker.io", "10.0.0.1:5000"], insecure: ["team.example"] };
  for (const text of ["alpine", "me/x", "index.docker.io/x", "10.0.0.1:5000/x", "team.example/x"]) {
    check(text, false, policy);
  }
  check("team.example/x", true, policy);
  for (const text of ["ghcr.io/x", "docker.io:444/x", "10.0.0.1/x", "docker.io.evil.example/x"]) {
    throws(() => check(text, false, policy), {
      ...refused,
      message: /does not pull from that registry/,
      remedy: /use one of docker\.io, 10\.0\.0\.1:5000, team\.example/,
    });
  }
  check("oci:/x", false, policy); // the workload's checks refuse it
  const settings = { allowed: ["a.example"], insecure: ["b.example"] };
  deepEqual(registryPolicy(settings), settings);
  deepEqual(registryPolicy(settings, ["c.example"]), { ...settings, allowed: ["c.example"] });
});

Deno.test("a host is listed with its port, which the scheme may imply", () => {
  const policy = { allowed: ["a.example", "b.example:5000", "c.example:443"], insecure: [] };
  for (const url of ["https://a.example/", "http://a.example/", "https://b.example:5000/x"]) {
    equal(isListed(policy, new URL(url)), true, url);
  }
  equal(isListed(policy, new URL("https://c.example/")), true);
  for (const url of ["https://a.example:444/", "https://b.example/", "http://c.example/"]) {
    equal(isListed(policy, new URL(url)), false, url);
  }
});

Deno.test("the builder of a server refuses before it looks at anything", async () => {
  const builder = new Builder({ registries: NOTHING });
  const request = {
    ...{ language: "command", pull: false, packages: [], files: [], run: [] },
    from: "169.254.169.254/x",
  };
  const none = () => Promise.reject(new Error("no changes"));
  await rejects(builder.rootImage({ ...request, insecure: false }, none), { code: "denied" });
  await rejects(builder.rootImage({ ...request, from: "alpine", insecure: true }, none), {
    code: "denied",
    message: /only the server's operator may choose http/,
  });
});
