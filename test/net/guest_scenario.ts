/**
 * What a guest sees of the internet of internet.ts, and what that sees of it. Runs below
 * `unshare --map-root-user --net`, with the image and the snapshot in the cache: nothing can be fetched
 * here. Prints what came of each scenario as a line of JSON: `guest_scenario.ts NAME...`.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createServer as createTlsServer } from "node:tls";
import { join } from "node:path";
import { type NetworkReport, run, type RunOptions } from "../../mod.ts";
import { LONG } from "../long.ts";
import { GUEST_PACKAGES } from "./guest_packages.ts";
import { command, makeInternet, NameServer, RESOLVER } from "./internet.ts";
import { echo, Server } from "./servers.ts";

const SERVER = "203.0.113.7";
const SHARED = "203.0.113.8";
const HOST_ADDRESS = "192.0.2.2";
const client = await Deno.readTextFile(
  new URL("../guest/fixtures/network_client.py", import.meta.url),
);
const BYTES = LONG ? 50_000_000 : 5_000_000;

/** Bytes that everybody can make for himself. */
function bytesOf(size: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: size }, (_, i) => (i * 31) ^ (i >> 8));
}

async function serveHttp(request: Request, repository: string): Promise<Response> {
  const { pathname } = new URL(request.url);
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
class Canaries implements Disposable {
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

async function certificate(directory: string): Promise<{ key: string; cert: string }> {
  const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  const subject = ["-subj", "/CN=shared.example.com", "-days", "2"];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await command("openssl", "req", ...kind, "-keyout", key, "-out", cert, ...subject);
  return { key: await Deno.readTextFile(key), cert: await Deno.readTextFile(cert) };
}

/** The internet's servers. */
async function startServers(directory: string): Promise<AsyncDisposableStack> {
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
  const tls = createTlsServer(await certificate(directory), (socket) => socket.end());
  tls.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => tls.listen(443, SHARED, resolve));
  stack.defer(() => void tls.close());
  return stack.move();
}

interface Ended {
  readonly steps: Record<string, unknown>;
  readonly reports: NetworkReport[];
  readonly stderr: string;
}

/** Runs the client in a guest. */
async function inGuest(steps: string[], network: RunOptions["network"]): Promise<Ended> {
  const decoder = new TextDecoder();
  let [stdout, stderr] = ["", ""];
  const reports: NetworkReport[] = [];
  const program = run({
    ...{ code: client, language: "python", args: steps, packages: GUEST_PACKAGES },
    env: { HOST_ADDRESS },
    ...(network !== undefined && { network }),
    timeout: 400_000,
  });
  for await (const event of program) {
    if (event.type === "stdout") stdout += decoder.decode(event.data);
    if (event.type === "stderr") stderr += decoder.decode(event.data);
    if (event.type === "network") {
      const { type: _type, ...report } = event;
      reports.push(report);
    }
  }
  const lines = stdout.trim().split("\n").filter((line) => line !== "");
  const results = lines.map((line) => JSON.parse(line) as { step: string; result: unknown });
  return {
    steps: Object.fromEntries(results.map(({ step, result }) => [step.split("=")[0]!, result])),
    reports,
    stderr,
  };
}

const SCENARIOS: Record<string, () => Promise<unknown>> = {
  /** Nothing at all leaves. */
  async none() {
    using canaries = new Canaries();
    await using dns = await new NameServer({ "api.example.com": [SERVER] }).start();
    const ended = await inGuest(["none"], undefined);
    return { ...ended, reached: canaries.reached, asked: dns.asked };
  },

  /** What programs do, and what they may not. */
  async listed() {
    using canaries = new Canaries();
    await using dns = await new NameServer({
      "api.example.com": [SERVER],
      "shared.example.com": [SHARED],
      "evil.example.com": [SHARED],
      "rebind.example.com": ["127.0.0.1", "10.1.2.3", "169.254.169.254", HOST_ADDRESS],
      "flips.example.com": (time) => time === 0 ? [SERVER] : ["127.0.0.1"],
    }).start();
    const work = [`download=${BYTES}`, "upload=1000000", "many=100", "banner", "websocket"];
    const ended = await inGuest(
      ["http", ...work, "policy", "fronting", "frames", "tools"],
      {
        allow: [
          ...["api.example.com:80", "api.example.com:7", "api.example.com:25"],
          ...["shared.example.com", "rebind.example.com", "flips.example.com"],
        ],
      },
    );
    const hash = createHash("sha256").update(bytesOf(BYTES)).digest("hex");
    return { ...ended, hash, reached: canaries.reached, asked: [...new Set(dns.asked)].sort() };
  },
};

await makeInternet();
await command("ip", "addr", "add", `${HOST_ADDRESS}/32`, "dev", "lo");
for (const network of ["169.254.169.254/32", "10.1.2.3/32"]) {
  await command("ip", "route", "add", "local", network, "dev", "lo");
}
const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
await Deno.mkdir(join(directory, "cloudlet"));
await Deno.writeTextFile(
  join(directory, "cloudlet/config.toml"),
  `[network]\nresolver = "${RESOLVER}"\n`,
);
Deno.env.set("XDG_CONFIG_HOME", directory);
try {
  await using _servers = await startServers(directory);
  for (const name of Deno.args) {
    console.log(JSON.stringify({ name, result: await SCENARIOS[name]!() }));
  }
} finally {
  await Deno.remove(directory, { recursive: true });
}
Deno.exit(0);
