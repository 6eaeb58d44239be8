/**
 * `cloudlet snapshot ls|rm|gc|verify`
 *
 * @module
 */
import { buildCommand, buildRouteMap, type CommandContext } from "@stricli/core";
import { join } from "node:path";
import { CloudletError, messageOf } from "../base/errors.ts";
import { MIB } from "../vmm/layout.ts";
import { checkUnneeded } from "../base/cache/state_leases.ts";
import { cacheDir } from "../base/dirs.ts";
import { cacheBudget, tidy } from "../base/cache/upkeep.ts";
import { isUnusable, listSnapshots, snapshotStore } from "../node/snapshots.ts";
import { Snapshot } from "../vmm/snapshot/snapshot.ts";
import { EXIT, exitWith } from "./context.ts";
import { writeLine } from "./output.ts";
import { formatBytes } from "./progress.ts";
import { formatSpan } from "./ps.ts";
import { formatTable } from "./table.ts";
import { parseDuration, parseMemory } from "./units.ts";

const SHORT = 12; // hex digits of a key that are shown
const DEFAULT_AGE = 30 * 24 * 60 * 60 * 1000; // milliseconds

interface Row {
  readonly key: string;
  readonly language: string;
  /** Main file that its idle interpreter is for, when that is not the usual one. */
  readonly main?: string;
  /** Key of the workload that is prepared in it. */
  readonly workload?: string;
  readonly memory: string;
  readonly bytes: number;
  readonly used: string;
  readonly problem?: string;
  /** Whether the problem will stay, so that it is of no use. */
  readonly unusable?: boolean;
}

async function describe(
  key: string,
  whole: boolean,
): Promise<Pick<Row, "language" | "main" | "workload" | "memory" | "problem" | "unusable">> {
  try {
    using snapshot = await Snapshot.open(join(snapshotStore().root, key), undefined, whole);
    const { warm, memory, main, workload } = snapshot.facts.requires as Readonly<
      Record<string, unknown>
    >;
    return {
      language: String(warm),
      memory: formatBytes(Number(memory)),
      ...(main !== undefined && { main: String(main) }),
      ...(workload !== undefined && { workload: String(workload) }),
    };
  } catch (error) {
    const unusable = isUnusable(error);
    return { language: "-", memory: "-", problem: messageOf(error), unusable };
  }
}

async function rows(whole: boolean): Promise<Row[]> {
  const result: Row[] = [];
  for (const { key, bytes, used } of await listSnapshots()) {
    result.push({ key, ...await describe(key, whole), bytes, used: used.toISOString() });
  }
  return result;
}

/** What a snapshot has besides its language. */
function holds({ main, workload }: Row): string {
  if (workload !== undefined) return `prepared ${workload.slice(0, SHORT)}`;
  return main === undefined ? "" : `waits for ${main}`;
}

const ls = buildCommand({
  docs: { brief: "List the snapshots in the cache, the one used last first" },
  parameters: {
    flags: { json: { kind: "boolean", brief: "one JSON object a line", default: false } },
  },
  async func(flags: { json: boolean }) {
    const list = await rows(false);
    if (flags.json) {
      for (const row of list) writeLine(JSON.stringify(row));
      return;
    }
    const cells = list.map((row) => [
      row.key.slice(0, SHORT),
      row.language,
      holds(row),
      row.memory,
      formatBytes(row.bytes),
      `${formatSpan(Date.now() - Date.parse(row.used))} ago`,
      row.problem ?? "",
    ]);
    const head = ["KEY", "LANGUAGE", "WORKLOAD", "MEMORY", "ON DISK", "LAST USED", ""];
    writeLine(await formatTable(head, cells));
  },
});

const verify = buildCommand({
  docs: { brief: "Read every byte of the snapshots and compare it with its checksum" },
  parameters: { flags: {} },
  async func(this: CommandContext) {
    for (const { key, problem } of await rows(true)) {
      writeLine(`${key.slice(0, SHORT)}  ${problem ?? "good"}`);
      if (problem !== undefined) exitWith(this, EXIT.failure);
    }
  },
});

const rm = buildCommand({
  docs: { brief: "Remove snapshots; the next run makes what it needs again" },
  parameters: {
    flags: { all: { kind: "boolean", brief: "remove all of them", default: false } },
    positional: {
      kind: "array",
      parameter: { brief: "a key or its beginning", parse: String, placeholder: "key" },
    },
  },
  async func(flags: { all: boolean }, ...prefixes: string[]) {
    const store = snapshotStore();
    const keys = await store.keys();
    if (!flags.all && prefixes.length === 0) {
      throw new CloudletError("Cannot remove a snapshot: none is named", {
        code: "invalid-input",
        remedy: "give the keys that `cloudlet snapshot ls` shows, or --all",
      });
    }
    const chosen = flags.all ? keys : prefixes.map((prefix) => {
      const found = keys.filter((key) => key.startsWith(prefix));
      if (found.length === 1) return found[0]!;
      throw new CloudletError(
        `Cannot remove the snapshot ${prefix}: ${
          found.length === 0 ? "there is none" : `${found.length} begin so`
        }`,
        { code: found.length === 0 ? "not-found" : "invalid-input", remedy: "see `snapshot ls`" },
      );
    });
    checkUnneeded(cacheDir(), chosen.map((key) => `snapshots/${key}`));
    for (const key of chosen) {
      await store.remove(key);
      writeLine(key);
    }
  },
});

const gc = buildCommand({
  docs: {
    brief: "Remove the snapshots that cannot be used, were not used for long or take too much room",
    fullDescription:
      "Snapshots that serve one program each may take half of the room, and none goes that is in " +
      "use. `cloudlet cache prune` does the same for all of the cache.",
  },
  parameters: {
    flags: {
      age: {
        kind: "parsed",
        parse: parseDuration,
        optional: true,
        brief: "remove what was not used for this long: 30 days unless given",
      },
      size: {
        kind: "parsed",
        parse: parseMemory,
        optional: true,
        brief: "how much may stay, such as 4G: what all of the cache may have unless given",
      },
    },
  },
  async func(flags: { age?: number; size?: number }) {
    for (const { key, bytes, unusable } of await rows(false)) {
      if (unusable !== true) continue;
      await snapshotStore().remove(key);
      writeLine(`${key}  ${formatBytes(bytes)}`);
    }
    const { removed } = await tidy({
      kinds: ["snapshots"],
      age: flags.age ?? DEFAULT_AGE,
      bytes: flags.size === undefined ? await cacheBudget() : flags.size * MIB,
    });
    for (const { id, bytes } of removed) {
      writeLine(`${id.slice(id.indexOf("/") + 1)}  ${formatBytes(bytes)}`);
    }
  },
});

/** The commands below `cloudlet snapshot`. */
export const snapshotRoutes = buildRouteMap({
  routes: { ls, rm, gc, verify },
  docs: { brief: "See and remove snapshots of microVMs" },
});
