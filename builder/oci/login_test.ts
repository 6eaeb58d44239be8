/** Where logins go, and where they do not. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { testDirectory } from "../archive/fixtures_test.ts";
import { fakeImage, type Fault, pull, serveImage } from "./fixtures_test.ts";
import { mayGetLogin } from "./login.ts";
import type { OpenOptions } from "./open.ts";

const IMAGE = () => fakeImage([[{ name: "file", content: "content" }]]);

Deno.test("a login goes to the registry's own domain, or where the user says", () => {
  for (
    const [registry, service, may] of [
      ["docker.io", "auth.docker.io", true],
      ["a.example:5000", "a.example", true],
      ["a.example", "a.example:5001", true],
      ["registry.gitlab.example", "gitlab.example", true],
      ["127.0.0.1:5000", "127.0.0.1:5001", true],
      ["A.example", "a.EXAMPLE", true],
      ["registry.git.example", "auth.git.example", false],
      ["a.example", "b.example", false],
      ["a.example", "xa.example", false],
      ["a.example", "a.example.evil", false],
      ["a.example", "example", false],
      ["127.0.0.1", "127.0.0.2", false],
      ["1.2.3.4", "4", false],
    ] as const
  ) equal(mayGetLogin(registry, service), may, `${registry} ${service}`);
  equal(mayGetLogin("a.example", "b.example", ["b.example"]), true);
  equal(mayGetLogin("a.example", "b.example:444", ["b.example"]), true);
  equal(mayGetLogin("a.example", "c.example", ["b.example"]), false);
});

const LOGIN = { kind: "password", username: "me", password: "secret" } as const;

/** Pulls from the fake registry on 127.0.0.1 with a login, as the command line does. */
async function pullWithLogin(
  fault: (own: string) => Fault,
  credentials: OpenOptions["credentials"] = () => Promise.resolve(LOGIN),
  more: OpenOptions = {},
): Promise<void> {
  using directory = testDirectory();
  let own = "";
  await using registry = serveImage(IMAGE(), (request, path) => fault(own)(request, path));
  own = `http://${registry.name.replace("/x:t", "")}`;
  await pull(registry.name, directory.path, { credentials, ...more });
}

/** A token service on another address, which is another host. */
function tokenService(answer: (request: Request) => Response) {
  const seen: string[] = [];
  const server = Deno.serve({ hostname: "127.0.0.3", port: 0, onListen() {} }, async (request) => {
    seen.push(`${request.headers.get("authorization")} ${await request.clone().text()}`);
    return answer(request);
  });
  return {
    url: `http://127.0.0.3:${server.addr.port}`,
    seen,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const challenged = (realm: string): Fault => (request, path) =>
  path === "/v2/" || request.headers.has("authorization") ? undefined : new Response(null, {
    status: 401,
    headers: { "www-authenticate": `Bearer realm="${realm}",service="s"` },
  });

Deno.test("a token service on another host gets no login, and its token will do", async () => {
  await using other = tokenService(() => new Response('{"token":"t"}'));
  const identity = () => Promise.resolve({ kind: "identity", token: "secret" } as const);
  for (const credentials of [() => Promise.resolve(LOGIN), identity]) {
    await pullWithLogin(() => challenged(`${other.url}/token`), credentials);
  }
  deepEqual([...new Set(other.seen)], ["null "]);
  // Unless the user lists it.
  await pullWithLogin(() => challenged(`${other.url}/token`), undefined, {
    tokenServices: ["127.0.0.3"],
  });
  equal(other.seen.at(-1), `Basic ${btoa("me:secret")} `);
});

Deno.test("a token service on another host that wants a login is an error that says so", async () => {
  await using other = tokenService(() => new Response(null, { status: 401 }));
  await rejects(pullWithLogin(() => challenged(`${other.url}/token`)), {
    code: "denied",
    message: /did not get the login, since it is on another host, 127\.0\.0\.3:\d+/,
    remedy: /token_services/,
  });
});

Deno.test("a host that the registry redirects to cannot ask for its login", async () => {
  const stolen: string[] = [];
  await using thief = tokenService((request) => {
    if (request.url.endsWith("/token")) return new Response('{"token":"t"}');
    stolen.push(request.url);
    const challenge = `Basic realm="x", Bearer realm="${thief.url}/token"`;
    return new Response(null, { status: 401, headers: { "www-authenticate": challenge } });
  });
  await rejects(
    pullWithLogin(() => (_, path) =>
      path.includes("/blobs/")
        ? new Response(null, { status: 307, headers: { location: `${thief.url}/blob` } })
        : undefined
    ),
    { code: "denied" },
  );
  equal(stolen.length, 1);
  deepEqual(thief.seen, ["null "]);
});

Deno.test("a token service cannot pass an identity token on by a redirect", async () => {
  await using thief = tokenService(() => new Response('{"token":"t"}'));
  const identity = () => Promise.resolve({ kind: "identity", token: "secret" } as const);
  await rejects(
    pullWithLogin(
      (own) => (request, path) =>
        path === "/token"
          ? new Response(null, { status: 307, headers: { location: `${thief.url}/token` } })
          : challenged(`${own}/token`)(request, path),
      identity,
    ),
    { code: "untrusted", message: /redirects a login to another host/ },
  );
  deepEqual(thief.seen, []);
});
