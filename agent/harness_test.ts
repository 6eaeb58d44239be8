/** What the agent's tests share: an agent on a Unix socket, as it is in the image but for that. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Code, ConnectError } from "@connectrpc/connect";
import { type AgentBundle, bundleAgent } from "../tools/agent_bundle.ts";
import { type AgentClient, connectAgent } from "./client/client.ts";
import { agentCommand, agentEnvironment } from "../builder/image/agent_command.ts";
import {
  ExecuteRequest_Action as Action,
  type ExecuteRequestSchema,
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { MessageInitShape } from "@bufbuild/protobuf";

/** An agent that runs as a child of the test. */
export interface TestAgent extends AsyncDisposable {
  readonly client: AgentClient;
  readonly pid: number;
  readonly socket: string;
  /** Where its workloads are. */
  readonly root: string;
  /** A number behind a name in the agent's /proc/<pid>/status, such as VmRSS (in KiB). */
  status(name: string): number;
  /** Process ids of the agent's children that have not ended. */
  children(): number[];
}

/** The checkout. */
export const ROOT: string = fileURLToPath(new URL("..", import.meta.url));

/** Paths below the root of a bundle's modules that are not of packages. */
export function ownSources({ sources }: AgentBundle, root = ROOT): string[] {
  const base = pathToFileURL(root).href;
  return [...sources.keys()].filter((url) => url.startsWith(base))
    .map((url) => url.slice(base.length)).sort();
}

/** Copies files of the checkout to where they can be edited; its root ends in a slash. */
export async function temporaryCopy(
  paths: readonly string[],
): Promise<{ readonly root: string } & AsyncDisposable> {
  const root = await Deno.makeTempDir({ prefix: "agent-copy-" }) + "/";
  for (const path of paths) {
    await Deno.mkdir(join(root, dirname(path)), { recursive: true });
    await Deno.copyFile(ROOT + path, root + path);
  }
  return { root, [Symbol.asyncDispose]: () => Deno.remove(root, { recursive: true }) };
}

/** Replaces text in a file that has it. */
export async function edit(path: string, from: string, to: string): Promise<void> {
  const text = await Deno.readTextFile(path);
  assert(text.includes(from), path);
  await Deno.writeTextFile(path, text.replace(from, to));
}

let bundle: Promise<Uint8Array<ArrayBuffer>> | undefined;

/**
 * Starts an agent; PATH and HOME are the test's.
 *
 * @param environment other values for the agent's variables; undefined for none
 * @param setup shell commands that precede it in its process
 */
export async function startAgent(
  environment: Readonly<Record<string, string | undefined>> = {},
  setup = "",
): Promise<TestAgent> {
  const directory = await Deno.makeTempDir({ prefix: "agent-test-" });
  bundle ??= bundleAgent().then(({ code }) => code);
  const file = join(directory, "agent.js");
  await Deno.writeFile(file, await bundle);
  const socket = join(directory, "socket");
  const root = join(directory, "root");
  const command = [...agentCommand(Deno.execPath(), file), "--unix", socket, "--root", root];
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", `${setup}\nexec "$@"`, "sh", ...command],
    env: agentVariables(environment),
    clearEnv: true,
    stdin: "null",
    stderr: "piped",
  }).spawn();
  const stderr = child.stderr.getReader();
  await stderr.read(); // "agent: ready"
  const drained = (async () => {
    for (;;) {
      const { value, done } = await stderr.read();
      if (done) return;
      await Deno.stderr.write(value); // shown: an agent says nothing else unless it fails
    }
  })();
  return {
    client: connectAgent({ unixPath: socket, vsockPort: undefined }),
    pid: child.pid,
    socket,
    root,
    status(name) {
      const text = Deno.readTextFileSync(`/proc/${child.pid}/status`);
      return Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1]);
    },
    children() {
      const found: number[] = [];
      for (const { name } of Deno.readDirSync("/proc")) {
        if (!/^\d+$/.test(name)) continue;
        try {
          const stat = Deno.readTextFileSync(`/proc/${name}/stat`);
          const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
          if (Number(parent) === child.pid && state !== "Z") found.push(Number(name));
        } catch {
          // it ended meanwhile
        }
      }
      return found;
    },
    async [Symbol.asyncDispose]() {
      try {
        child.kill("SIGTERM"); // with it ends all that it started
      } catch {
        // it ended by itself
      }
      await child.status;
      await drained;
      await Deno.remove(directory, { recursive: true });
    },
  };
}

/** The test's own, those of every agent, and others. */
function agentVariables(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const all = { ...Deno.env.toObject(), LANG: "C.UTF-8", ...agentEnvironment, ...environment };
  return Object.fromEntries(
    Object.entries(all).flatMap(([name, value]) => value === undefined ? [] : [[name, value]]),
  );
}

/** A test with an agent of its own. */
export function withAgent(name: string, body: (agent: TestAgent) => Promise<void>): void {
  Deno.test(name, async () => {
    await using agent = await startAgent();
    await body(agent);
  });
}

/** Waits until something is so; fails after half a minute. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let looks = 0; !await isSo(); looks++) {
    assert(looks < 1500, `not so: ${isSo}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Whether a call is refused with this code, for a reason that fits. */
export async function rejectsWith(
  code: Code,
  pattern: RegExp,
  work: Promise<unknown>,
): Promise<void> {
  await assert.rejects(work, (error) => {
    assert(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code]);
    assert.match(error.rawMessage, pattern);
    return true;
  });
}

/** Everything that came of an execution. */
export interface Result {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  /** As text. */
  readonly out: string;
  /** As text. */
  readonly err: string;
  /** What the compiler wrote. */
  readonly building: string;
  readonly responses: ExecuteResponse[];
  readonly last: ExecuteResponse;
}

function concat(parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}

/** Puts together what a stream of responses holds. */
export async function collect(stream: AsyncIterable<ExecuteResponse>): Promise<Result> {
  const responses: ExecuteResponse[] = [];
  const stdout: Uint8Array[] = [];
  const stderr: Uint8Array[] = [];
  let building = "";
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  for await (const response of stream) {
    responses.push(response);
    const out = response.stdoutBytes ?? encoder.encode(response.stdout ?? "");
    const err = response.stderrBytes ?? encoder.encode(response.stderr ?? "");
    if (response.stage === Stage.BUILDING) {
      building += decoder.decode(out) + decoder.decode(err);
    } else {
      stdout.push(out);
      stderr.push(err);
    }
  }
  const all = concat(stdout);
  const errors = concat(stderr);
  return {
    stdout: all,
    stderr: errors,
    out: decoder.decode(all),
    err: decoder.decode(errors),
    building,
    responses,
    last: responses.at(-1)!,
  };
}

/** Prepares and runs a program of one file. */
export function run(
  agent: TestAgent,
  language: string,
  code: string,
  options: MessageInitShape<typeof ExecuteRequestSchema>["options"] = {},
): Promise<Result> {
  return collect(agent.client.execute({
    workloadName: "test",
    language,
    code,
    action: Action.PREPARE_AND_RUN,
    options,
  }));
}

/** Whether a program can be executed on this machine. */
export async function isHere(program: string): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(program, {
      args: ["--version"],
      stdout: "null",
      stderr: "null",
    }).output();
    if (success) return true;
  } catch {
    // not there
  }
  console.log(`skipped: ${program} does not run here`);
  return false;
}
