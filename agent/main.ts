/**
 * The program that runs in the microVM: `agent [--unix PATH] [--root DIR]`.
 *
 * With `--unix` it serves on this host, for tests; SIGTERM ends it and all that it started.
 *
 * In the microVM it is started by /init without options, serves vsock port {@linkcode AGENT_PORT}
 * and runs until the microVM ends. /init has to mount /proc and /dev, and to go on waiting for its
 * children. Of the image it needs the directory of its own bundle, nothing else.
 *
 * @module
 */
import { AGENT_PORT } from "../workload/vsock_ports.ts";
import { withDependencies } from "./dependencies.ts";
import { becomeInvisible } from "./process_state.ts";
import { Runner } from "./runner.ts";
import { serveAgent, type ServerAddress } from "./server.ts";

/** Which agent this is: tools/agent_bundle.ts puts the digest of the bundle here. */
const VERSION = "@agent-version@";

/** Of the environment that programs get, where the agent has none itself. */
const DEFAULTS = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LANG: "C.UTF-8",
} as const;

function environment(): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const own = Deno.env.get(name);
    if (own === undefined) Deno.env.set(name, value); // interpreters are looked up in our PATH
    result[name] = own ?? value;
  }
  return result;
}

/** The same in a guest, where interpreters may have been installed for the program. */
function guestEnvironment(): Record<string, string> {
  const variables = withDependencies(environment());
  Deno.env.set("PATH", variables["PATH"]!);
  return variables;
}

/** Where workloads are: below /tmp, or beside the agent where the image has none for everybody. */
function workloadRoot(): string {
  const root = "/tmp/cloudlet";
  try {
    if (((Deno.statSync("/tmp").mode ?? 0) & 0o001) !== 0) {
      Deno.mkdirSync(root, { recursive: true });
      return root;
    }
  } catch {
    // it is missing, a file, or a link to nothing
  }
  return new URL("workloads", import.meta.url).pathname;
}

function main(args: readonly string[]): void {
  let address: ServerAddress = { transport: "vsock", port: AGENT_PORT };
  let root: string | undefined;
  for (let i = 0; i < args.length; i += 2) {
    const value = args[i + 1];
    if (args[i] === "--unix" && value !== undefined) address = { transport: "unix", path: value };
    else if (args[i] === "--root" && value !== undefined) root = value;
    else {
      console.error(`agent: unknown option ${args[i]}`);
      Deno.exit(2);
    }
  }
  const guest = address.transport === "vsock";
  becomeInvisible(guest);
  const runner = new Runner({
    root: root ?? workloadRoot(),
    environment: guest ? guestEnvironment() : environment(),
    guest,
  });
  if (address.transport === "unix") { // in a microVM nothing outlives the agent
    Deno.addSignalListener("SIGTERM", () => {
      runner.end();
      Deno.exit(0);
    });
  }
  serveAgent(runner, address, VERSION, () => console.error("agent: ready"));
}

if (import.meta.main) main(Deno.args);
