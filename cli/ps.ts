/**
 * `cloudlet ps`, `logs`, `stop` and `shutdown`: what a server runs and ran.
 *
 * @module
 */
import { buildCommand } from "@stricli/core";
import { ApiClient } from "../api/client/client.ts";
import type { RunInfo } from "../api/schemas.ts";
import { CloudletError } from "../base/errors.ts";
import { RUN_NAME } from "../base/run_names.ts";
import { serverFlag, type ServerFlags, serverFromFlags } from "./server_address.ts";
import { formatTable } from "./table.ts";
import { say, write } from "./output.ts";
import { parseCount } from "./units.ts";

/** The parameter that names a run. */
export const idParameter = {
  brief: "name or id of a run, or the beginning of its id",
  parse: String,
  placeholder: "id",
};

/** Time between two moments as people say it: `850 ms`, `12 s`, `3 min`. */
export function formatSpan(milliseconds: number): string {
  const units: readonly (readonly [number, string])[] = [
    [86_400_000, "d"],
    [3_600_000, "h"],
    [60_000, "min"],
    [1000, "s"],
  ];
  const unit = units.find(([size]) => milliseconds >= size);
  return unit === undefined
    ? `${Math.round(milliseconds)} ms`
    : `${Math.floor(milliseconds / unit[0])} ${unit[1]}`;
}

function state(run: RunInfo): string {
  if (run.outcome === null) return run.state;
  return run.outcome === "exited" ? `exited ${run.exit_code}` : run.outcome;
}

/** A name is a client's: no control character of it may reach the terminal. */
function shown(name: string): string {
  return name.replaceAll(/\p{Cc}/gu, "?");
}

async function table(runs: readonly RunInfo[], now: number): Promise<string> {
  const rows = runs.map((run) => {
    const created = Date.parse(run.created_at);
    const end = run.ended_at === null ? now : Date.parse(run.ended_at);
    return [
      run.id,
      shown(run.run_name ?? ""),
      shown(run.workload_name),
      run.language,
      state(run),
      `${formatSpan(now - created)} ago`,
      formatSpan(end - created),
    ];
  });
  return await formatTable(
    ["ID", "NAME", "WORKLOAD", "LANGUAGE", "STATE", "STARTED", "TOOK"],
    rows,
  );
}

/** States of runs that have not ended, in the order in which a run goes through them. */
const ACTIVE = ["pending", "building", "running"] as const;

/** The runs that have not ended, however old they are; the newest first. */
export async function activeRuns(client: ApiClient): Promise<RunInfo[]> {
  const found = new Map<string, RunInfo>();
  // One after the other: a run that goes on to the next state meanwhile is seen there.
  for (const state of ACTIVE) {
    for (const run of await client.runs({ state, limit: Infinity })) found.set(run.id, run);
  }
  return [...found.values()].sort((a, b) => Date.parse(b.created_at) - Date.parse(a.created_at));
}

/** Ids that an error names at most. */
const SHOWN = 5;

/**
 * The run that is meant by a whole id of any age; by a name, of the run under way or the last one that
 * had it; or by the beginning of an id, of a run that has not ended or is among the last thousand.
 * Without a match it is the text itself, and the
 * server says that there is none.
 *
 * @throws {CloudletError} `invalid-input` when several runs begin so
 */
export async function completeId(client: ApiClient, id: string): Promise<string> {
  if (id !== "" && await client.run(id) !== undefined) return id;
  if (RUN_NAME.test(id)) {
    const [named] = await client.runs({ name: id, limit: 1 });
    if (named !== undefined) return named.id;
  }
  const runs = [...await client.runs({ limit: 1000 }), ...await activeRuns(client)];
  const matches = [...new Set(runs.map((run) => run.id).filter((other) => other.startsWith(id)))];
  if (matches.length <= 1) return matches[0] ?? id;
  const more = matches.length > SHOWN ? ` and ${matches.length - SHOWN} more` : "";
  throw new CloudletError(
    `Cannot tell which run ${JSON.stringify(id)} is: ` +
      `it can be ${matches.slice(0, SHOWN).join(", ")}${more}`,
    { code: "invalid-input", remedy: "give more of its id" },
  );
}

/** Runs that `ps --all` lists. */
const LISTED = 100;

interface PsFlags {
  readonly all: boolean;
  readonly json: boolean;
  readonly limit?: number;
}

/** The command `ps`. */
export const psCommand = buildCommand({
  docs: {
    brief: "List the runs of a server",
    fullDescription:
      "Lists the runs under way, the newest first; with --all those that ended after " +
      "them. A server that has more than it lists at once is asked again.",
  },
  parameters: {
    flags: {
      server: serverFlag,
      all: { kind: "boolean", default: false, brief: "also those that ended" },
      limit: {
        kind: "parsed",
        parse: (text: string) => parseCount(text, 1),
        optional: true,
        brief: "most runs that are listed; with --all 100 when absent",
      },
      json: { kind: "boolean", default: false, brief: "print JSON, one run a line" },
    },
    aliases: { a: "all" },
  },
  async func(flags: ServerFlags & PsFlags) {
    const client = new ApiClient(serverFromFlags(flags));
    const { all, limit } = flags;
    const shown = all
      ? await client.runs({ limit: limit ?? LISTED })
      : (await activeRuns(client)).slice(0, limit);
    const text = flags.json
      ? shown.map((run) => JSON.stringify(run) + "\n").join("")
      : await table(shown, Date.now()) + "\n";
    await write("stdout", text);
  },
});

/** The command `logs`. */
export const logsCommand = buildCommand({
  docs: {
    brief: "Show what a run of a server wrote",
    fullDescription:
      "What the program wrote on standard output and standard error goes to the same " +
      "streams here, in the order in which it came. A server keeps the first megabytes of a run.",
  },
  parameters: {
    flags: {
      server: serverFlag,
      follow: { kind: "boolean", default: false, brief: "go on until the run ends" },
      verbose: { kind: "boolean", default: false, brief: "show what the service said, too" },
    },
    aliases: { f: "follow", v: "verbose" },
    positional: { kind: "tuple", parameters: [idParameter] },
  },
  async func(
    flags: ServerFlags & { readonly follow: boolean; readonly verbose: boolean },
    id: string,
  ) {
    const client = new ApiClient(serverFromFlags(flags));
    const run = await completeId(client, id);
    for await (const event of client.logs(run, { follow: flags.follow })) {
      if ("truncated" in event) {
        if (event.truncated) {
          say("cloudlet: the server kept no more of what it wrote");
        }
      } else if (event.stream !== "service" || flags.verbose) {
        const to = event.stream === "stdout" ? "stdout" : "stderr";
        const { text = "", base64 } = event;
        await write(to, base64 === undefined ? text : Uint8Array.fromBase64(base64));
      }
    }
  },
});

/** The command `stop`. */
export const stopCommand = buildCommand({
  docs: { brief: "End runs of a server, with their microVMs" },
  parameters: {
    flags: { server: serverFlag },
    positional: { kind: "array", minimum: 1, parameter: idParameter },
  },
  async func(flags: ServerFlags, ...ids: string[]) {
    const client = new ApiClient(serverFromFlags(flags));
    for (const id of ids) {
      const run = await client.stop(await completeId(client, id));
      await write("stdout", `${run.id}: ${state(run)}\n`);
    }
  },
});

/** The command `shutdown`. */
export const shutdownCommand = buildCommand({
  docs: { brief: "End all runs of a server, with their microVMs" },
  parameters: { flags: { server: serverFlag } },
  async func(flags: ServerFlags) {
    const success = await new ApiClient(serverFromFlags(flags)).shutdown();
    await write("stdout", success ? "All runs were ended\n" : "There was no run to end\n");
  },
});
