/**
 * The servers that guests of guest_scenario.ts reach, and those that they must not.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { command } from "./internet.ts";
import { echo, Server } from "./servers.ts";

/** The API's address, one of two servers, and one of this host's own. */
export const SERVER = "203.0.113.7";
/** See {@linkcode SERVER}. */
export const SHARED = "203.0.113.8";
/** See {@linkcode SERVER}. */
export const HOST_ADDRESS = "192.0.2.2";

/** Bytes that everybody can make for himself. */
export function bytesOf(size: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: size }, (_, i) => (i * 31) ^ (i >> 8));
}

/** What the servers of /echo got. */
export const echoed: { readonly host: string; readonly text: string }[] = [];

/** Answers with what was asked, as a server with little regard for secrets does. */
async function echoRequest(request: Request): Promise<Response> {
  const { host, pathname, search } = new URL(request.url);
  const body = await request.text();
  const headers = Object.fromEntries(request.headers);
  echoed.push({ host, text: JSON.stringify({ pathname, search, headers, body }) });
  return Response.json({
    authorization: headers["authorization"] ?? "",
    key: headers["x-key"] ?? "",
    body,
  });
}

async function serveHttp(request: Request, repository: string): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/echo") return await echoRequest(request);
  if (pathname === "/hello") return new Response("hello from the internet");
  if (pathname === "/socket") {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onmessage = ({ data }) => socket.send(String(data).toUpperCase());
    return response;
  }
  if (pathname === "/upload") {
    const hash = createHash("sha256");
    for await (const part of request.body!) hash.update(part);
    return new Response(hash.digest("hex"));
  }
  const size = /^\/bytes\/(\d+)$/.exec(pathname)?.[1];
  if (size !== undefined) return new Response(bytesOf(Number(size)));
  if (!pathname.startsWith("/repo.git/")) return new Response(null, { status: 404 });
  try {
    return new Response(await Deno.readFile(join(repository, pathname.slice(9))));
  } catch {
    return new Response(null, { status: 404 });
  }
}

/** Places that nobody may reach; counts who does. */
export class Canaries implements Disposable {
  readonly #stack = new DisposableStack();
  reached: string[] = [];

  constructor() {
    const places = [
      ...[["127.0.0.1", 8080], [HOST_ADDRESS, 8080], ["169.254.169.254", 80], ["10.1.2.3", 80]],
      ...[["198.51.100.7", 80], [SERVER, 81]],
    ] as const;
    for (const [address, port] of places) {
      const count = () => {
        this.reached.push(`${address}:${port}`);
        return Promise.resolve();
      };
      this.#stack.use(new Server(Number(port), count, String(address)));
    }
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

/** A repository with one commit, to be served as plain files. */
async function makeRepository(directory: string): Promise<string> {
  const git = (...args: string[]) =>
    command("git", "-c", "user.name=t", "-c", "user.email=t@example.com", ...args);
  const work = join(directory, "work");
  await git("init", "-q", work);
  await git("-C", work, "commit", "-q", "--allow-empty", "-m", "the only commit");
  await git("clone", "-q", "--bare", work, join(directory, "repo.git"));
  await git("-C", join(directory, "repo.git"), "update-server-info");
  return join(directory, "repo.git");
}

async function certificate(
  directory: string,
  name = "shared.example.com",
): Promise<{ key: string; cert: string }> {
  const [key, cert] = [join(directory, `${name}.key`), join(directory, `${name}.pem`)];
  const subject = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`, "-days", "2"];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await command("openssl", "req", ...kind, "-keyout", key, "-out", cert, ...subject);
  return { key: await Deno.readTextFile(key), cert: await Deno.readTextFile(cert) };
}

/** The internet's servers. */
export async function startServers(directory: string): Promise<AsyncDisposableStack> {
  await using stack = new AsyncDisposableStack();
  const repository = await makeRepository(directory);
  for (const hostname of [SERVER, SHARED]) {
    const server = Deno.serve(
      { hostname, port: 80, onListen: () => {} },
      (request) => serveHttp(request, repository),
    );
    stack.defer(() => server.shutdown());
  }
  stack.use(new Server(7, echo));
  stack.use(
    new Server(25, async (connection) => {
      await connection.write(new TextEncoder().encode("220 mail.example.com\r\n"));
      await connection.read(new Uint8Array(1));
    }),
  );
  const pem = await certificate(directory, "api.example.com");
  const secure = Deno.serve(
    { hostname: SERVER, port: 443, ...pem, onListen: () => {} },
    (request) => serveHttp(request, repository),
  );
  stack.defer(() => secure.shutdown());
  await Deno.writeTextFile(join(directory, "trusted.pem"), pem.cert);
  const tls = createTlsServer(await certificate(directory), (socket) => socket.end());
  tls.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => tls.listen(443, SHARED, resolve));
  stack.defer(() => void tls.close());
  return stack.move();
}
