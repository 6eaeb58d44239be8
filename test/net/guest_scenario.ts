/**
 * What a guest sees of the internet of internet.ts, and what that sees of it. Runs below
 * `unshare --map-root-user --net`, with the image and the snapshot in the cache: nothing can be fetched
 * here. Prints what came of each scenario as a line of JSON: `guest_scenario.ts NAME...`.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { type NetworkReport, run, type RunOptions } from "../../mod.ts";
import { LONG } from "../long.ts";
import { GUEST_PACKAGES } from "./guest_packages.ts";
import { searchGuestMemory } from "./guest_memory.ts";
import {
  bytesOf,
  Canaries,
  echoed,
  HOST_ADDRESS,
  SERVER,
  SHARED,
  startServers,
} from "./guest_servers.ts";
import { command, makeInternet, NameServer, RESOLVER } from "./internet.ts";

const client = await Deno.readTextFile(
  new URL("../guest/fixtures/network_client.py", import.meta.url),
);
const BYTES = LONG ? 50_000_000 : 5_000_000;

/** Connects, and goes on with the connection until it breaks; then it connects again. */
const TALKER = `
import errno, socket, time
s = socket.create_connection(("api.example.com", 7), timeout=30)
for _ in range(300):
    try:
        s.sendall(b"x")
        got = "ok" if s.recv(10) else "end"
    except OSError as error:
        got = errno.errorcode.get(error.errno, str(error))
    print(got, flush=True)
    if got != "ok":
        socket.create_connection(("api.example.com", 7), timeout=30).close()
        print("connected again", flush=True)
        break
    time.sleep(0.3)
`;

/** A web server for three requests, after a while in which nothing listens. */
const WEB_SERVER = `
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
time.sleep(2)
server = http.server.HTTPServer(("127.0.0.1", 8000), Handler)
print("serving", flush=True)
for _ in range(3): server.handle_request()
`;

interface Ended {
  readonly steps: Record<string, unknown>;
  readonly reports: NetworkReport[];
  readonly stderr: string;
}

/** Runs the client in a guest. */
async function inGuest(
  steps: string[],
  network: RunOptions["network"],
  pcap?: string,
): Promise<Ended> {
  const decoder = new TextDecoder();
  let [stdout, stderr] = ["", ""];
  const reports: NetworkReport[] = [];
  const program = run({
    ...{ code: client, language: "python", args: steps, packages: GUEST_PACKAGES },
    env: { HOST_ADDRESS },
    ...(network !== undefined && { network }),
    ...(pcap !== undefined && { pcap }),
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
  return { steps: stepsOf(stdout), reports, stderr };
}

/** What the client printed, by step. */
function stepsOf(stdout: string): Record<string, unknown> {
  const lines = stdout.trim().split("\n").filter((line) => line !== "");
  const results = lines.map((line) => JSON.parse(line) as { step: string; result: unknown });
  return Object.fromEntries(results.map(({ step, result }) => [step.split("=")[0]!, result]));
}

const SCENARIOS: Record<string, () => Promise<unknown>> = {
  /** Nothing at all leaves. */
  async none() {
    using canaries = new Canaries();
    await using dns = await new NameServer({ "api.example.com": [SERVER] }).start();
    const ended = await inGuest(["none"], undefined);
    return { ...ended, reached: canaries.reached, asked: dns.asked };
  },

  /** A value that the guest never has. */
  async secrets() {
    await using dns = await new NameServer({
      "api.example.com": [SERVER],
      "shared.example.com": [SHARED],
    }).start();
    const value = `sk-live-${crypto.randomUUID()}`;
    const decoder = new TextDecoder();
    const go = Promise.withResolvers<void>();
    let [stdout, stderr] = ["", ""];
    let found: number | undefined;
    const reports: NetworkReport[] = [];
    const program = run({
      ...{ code: client, language: "python", args: ["secrets"], packages: GUEST_PACKAGES },
      network: {
        allow: ["shared.example.com:80"],
        secrets: { API_KEY: { value, hosts: ["api.example.com"] } },
      },
      stdin: (async function* () {
        await go.promise;
        yield new TextEncoder().encode("go\n");
      })(),
      timeout: 200_000,
    });
    for await (const event of program) {
      if (event.type === "stderr") stderr += decoder.decode(event.data);
      if (event.type === "network") reports.push(event);
      if (event.type !== "stdout") continue;
      stdout += decoder.decode(event.data);
      if (found !== undefined || !stdout.includes('"waits"')) continue;
      const placeholder = String(stepsOf(stdout.slice(0, stdout.lastIndexOf("\n")))["placeholder"]);
      // The placeholder shows that it is the guest's memory which is searched.
      found = searchGuestMemory(value);
      if (searchGuestMemory(placeholder) === 0) found = NaN;
      go.resolve();
    }
    const { secrets, placeholder } = stepsOf(stdout);
    return {
      secrets,
      stderr,
      reports,
      found,
      asked: [...new Set(dns.asked)].sort(),
      got: echoed.map(({ host, text }) => ({
        host,
        values: text.split(value).length - 1,
        placeholders: text.split(String(placeholder)).length - 1,
      })),
    };
  },

  /** A run's frames, for tcpdump outside of the namespace, in which it cannot become another user. */
  async captured() {
    await using _dns = await new NameServer({ "api.example.com": [SERVER] }).start();
    const pcap = join(directory, "frames.pcap");
    const { steps } = await inGuest(["http"], { allow: ["api.example.com:80"] }, pcap);
    return { http: steps.http, pcap: (await Deno.readFile(pcap)).toBase64() };
  },

  /** The same client in a guest and on this host: how long it takes to connect, and how much goes through. */
  async measure() {
    await using _dns = await new NameServer({ "api.example.com": [SERVER] }).start();
    const steps = ["connects=40", "requests=40", "download=5000000", "rate_up=2000000"];
    const guest = await inGuest(steps, { allow: ["api.example.com"] });
    const script = join(directory, "client.py");
    await Deno.writeTextFile(script, client);
    const { stdout } = await new Deno.Command("python3", {
      args: [script, ...steps],
      env: { API_HOST: SERVER, HOST_ADDRESS },
    }).output();
    return { guest: guest.steps, host: stepsOf(new TextDecoder().decode(stdout)) };
  },

  /** The copy of a running program has its connections reset, and makes new ones. */
  async fork() {
    await using _dns = await new NameServer({ "api.example.com": [SERVER] }).start();
    const decoder = new TextDecoder();
    await using original = run({
      ...{ code: TALKER, language: "python", packages: GUEST_PACKAGES, timeout: 200_000 },
      network: { allow: ["api.example.com:7"] },
    });
    const lines: string[] = [];
    let copied: Promise<string> | undefined;
    let after = 0;
    for await (const event of original) {
      if (event.type !== "stdout") continue;
      lines.push(...decoder.decode(event.data).split("\n").filter((line) => line !== ""));
      copied ??= original.fork().output().then(({ stdout }) => {
        after = lines.length;
        return decoder.decode(stdout);
      });
      if (after > 0 && lines.length > after + 2) break; // it goes on behind its copy
    }
    return { original: [...new Set(lines)], copy: (await copied)?.trim().split("\n") };
  },

  /** A port of the host leads to one of the guest's loopback. */
  async published() {
    const decoder = new TextDecoder();
    const reports: NetworkReport[] = [];
    const answers: unknown[] = [];
    let exitCode: number | undefined;
    const program = run({
      ...{ code: WEB_SERVER, language: "python", packages: GUEST_PACKAGES, timeout: 200_000 },
      network: { publish: ["8000"] },
    });
    let url = "";
    for await (const event of program) {
      if (event.type === "exit") exitCode = event.result.exitCode;
      if (event.type === "network") {
        reports.push(event);
        if (event.kind !== "published") continue;
        url = `http://${event.address}:${event.port}/`;
        const early = fetch(url).then(() => "answered", () => "reset"); // nothing listens yet
        answers.push(await early);
      }
      if (event.type === "stdout" && decoder.decode(event.data).includes("serving")) {
        void (async () => {
          for (const size of [1, 100_000, 0]) {
            const body = bytesOf(size);
            const response = await fetch(url, { method: "POST", body });
            const got = new Uint8Array(await response.arrayBuffer());
            answers.push(got.length === size && got.every((byte, i) => byte === body[i]));
          }
        })();
      }
    }
    return { stderr: "", kinds: reports.map(({ kind }) => kind), answers, exitCode };
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
  `[network]\nresolver = "${RESOLVER}"\nca = "${directory}/trusted.pem"\n`,
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
