/**
 * `cloudlet cache du|prune|clean|dir`
 *
 * @module
 */
import { buildCommand, buildRouteMap } from "@stricli/core";
import type { Collected } from "../base/cache/collect.ts";
import { KINDS } from "../base/cache/kinds.ts";
import { isInUse } from "../base/cache/remove.ts";
import { type Contents, type Entry, scanCache } from "../base/cache/scan.ts";
import { parseSize } from "../base/cache/size.ts";
import { readStateLeases } from "../base/cache/state_leases.ts";
import { cacheBudget, tidy } from "../base/cache/upkeep.ts";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError } from "../base/errors.ts";
import { say, writeLine } from "./output.ts";
import { formatBytes } from "./progress.ts";
import { formatSpan } from "./ps.ts";
import { formatTable } from "./table.ts";

const SHORT = 24; // characters of an entry's name that are shown
const DAY = 24 * 60 * 60 * 1000; // milliseconds
const MAX_DAYS = 36_500;

/** A size in bytes, as the settings have it. */
function parseBytes(text: string): number {
  const bytes = parseSize(text);
  if (bytes !== undefined) return bytes;
  throw new CloudletError(`Cannot read ${JSON.stringify(text)} as a size`, {
    code: "invalid-input",
    remedy: "write a size such as 20GiB or 500M",
  });
}

/** Milliseconds of `7d`, `12h` or `30m`. */
export function parseAge(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([dhms])$/.exec(text.trim());
  const units: Record<string, number> = { d: DAY, h: DAY / 24, m: 60_000, s: 1000 };
  const age = match === null ? NaN : Number(match[1]) * units[match[2]!]!;
  if (age <= MAX_DAYS * DAY) return age;
  throw new CloudletError(`Cannot read ${JSON.stringify(text)} as an age`, {
    code: "invalid-input",
    remedy: "write a number of days or hours, such as 7d or 12h",
  });
}

function parseKind(text: string): string {
  if (KINDS.some(({ name }) => name === text)) return text;
  throw new CloudletError(`Cannot find ${JSON.stringify(text)} in the cache: it is no kind`, {
    code: "invalid-input",
    remedy: `name some of ${KINDS.map(({ name }) => name).join(", ")}`,
  });
}

const kinds = {
  kind: "array",
  parameter: { brief: "a kind of entries", parse: parseKind, placeholder: "kind" },
} as const;

const json = { kind: "boolean", brief: "one JSON object a line", default: false } as const;

/** When something was used, as people say it. */
function ago(used: number): string {
  return `${formatSpan(Math.max(0, Date.now() - used))} ago`;
}

/** What an entry is called, besides its key. */
function namesOf({ names }: Contents, id: string): string {
  return [...new Set(names.filter((name) => name.id === id).map(({ name }) => name))].join(" ");
}

interface Usage {
  readonly contents: Contents;
  /** Ids of what state needs. */
  readonly state: ReadonlyMap<string, string>;
}

function rowsOf(entries: readonly Entry[], { contents, state }: Usage) {
  const filesInUse = new Map<string, boolean>(); // all of a kind together
  return entries.map((entry) => {
    const { id, kind, bytes, used, form } = entry;
    const inUse = form === "files" ? filesInUse.get(kind) ?? isInUse(entry) : isInUse(entry);
    if (form === "files") filesInUse.set(kind, inUse);
    const name = namesOf(contents, id);
    const neededBy = state.get(id);
    return {
      entry: id,
      bytes,
      used: new Date(used).toISOString(),
      ...(name !== "" && { name }),
      ...(inUse && { inUse }),
      ...(neededBy !== undefined && { neededBy }),
    };
  });
}

/** One object a line; their bytes add up to what all of the cache takes. */
function writeUsage(usage: Usage): void {
  const { entries, unknown, unfinished, overhead } = usage.contents;
  for (const row of rowsOf(entries, usage)) writeLine(JSON.stringify(row));
  for (const { path, bytes } of unknown) writeLine(JSON.stringify({ unknown: path, bytes }));
  writeLine(JSON.stringify({ unfinished: true, bytes: unfinished }));
  writeLine(JSON.stringify({ overhead: true, bytes: overhead }));
}

async function writeSummary({ contents }: Usage): Promise<void> {
  const { entries, unknown, unfinished, overhead, total, root } = contents;
  const rows = KINDS.map(({ name, what }) => {
    const own = entries.filter(({ kind }) => kind === name);
    const bytes = own.reduce((sum, { bytes }) => sum + bytes, 0);
    const used = own.reduce((last, { used }) => Math.max(last, used), 0);
    return { name, what, count: own.length, bytes, used };
  }).filter(({ count }) => count > 0).sort((a, b) => b.bytes - a.bytes);
  const cells: (string | number)[][] = rows.map(({ name, what, count, bytes, used }) => [
    ...[name, count, formatBytes(bytes), ago(used), what],
  ]);
  const others = unknown.reduce((sum, { bytes }) => sum + bytes, 0);
  if (unfinished > 0) cells.push(["", "", formatBytes(unfinished), "", "being made or removed"]);
  cells.push(["", "", formatBytes(overhead), "", "directories, names and locks"]);
  if (unknown.length > 0) {
    cells.push(["", unknown.length, formatBytes(others), "", "unknown: left alone, see --json"]);
  }
  writeLine(await formatTable(["KIND", "ENTRIES", "ON DISK", "LAST USED", ""], cells));
  const budget = await cacheBudget();
  const limit = budget === Infinity ? "without a limit" : `of ${formatBytes(budget)}`;
  writeLine(`\n${formatBytes(total)} ${limit} in ${root}`);
}

const du = buildCommand({
  docs: {
    brief: "Show what the cache takes on the disk",
    fullDescription:
      "By kind, or the entries of the kinds that are named. Sizes are of allocated blocks, as du(1) " +
      "has them, and what has several names counts once.",
  },
  parameters: { flags: { json }, positional: kinds },
  async func(flags: { json: boolean }, ...named: string[]) {
    const contents = await scanCache(cacheDir());
    const usage = { contents, state: readStateLeases(cacheDir()) };
    const chosen = contents.entries.filter(({ kind }) => named.includes(kind))
      .sort((a, b) => b.bytes - a.bytes);
    if (named.length === 0) return await (flags.json ? writeUsage(usage) : writeSummary(usage));
    const rows = rowsOf(chosen, usage);
    if (flags.json) {
      for (const row of rows) writeLine(JSON.stringify(row));
      return;
    }
    const cells = rows.map(({ entry, bytes, used, name = "", inUse, neededBy }) => [
      shorten(entry),
      name,
      formatBytes(bytes),
      ago(Date.parse(used)),
      [...(inUse ? ["in use"] : []), ...(neededBy ? [`${neededBy} needs it`] : [])].join(", "),
    ]);
    writeLine(await formatTable(["ENTRY", "NAME", "ON DISK", "LAST USED", ""], cells));
  },
});

/** An id whose last part is cut. */
function shorten(id: string): string {
  const slash = id.lastIndexOf("/") + 1;
  return id.slice(0, slash) + id.slice(slash, slash + SHORT);
}

/** Shows what was removed, or would be, and why the rest stayed. */
function report({ removed, kept }: Collected, dryRun: boolean, asJson: boolean): void {
  const freed = removed.reduce((sum, { bytes }) => sum + bytes, 0);
  for (const { id, bytes } of removed) {
    writeLine(asJson ? JSON.stringify({ removed: id, bytes }) : `${id}  ${formatBytes(bytes)}`);
  }
  if (asJson) {
    for (const { entry, why } of kept) writeLine(JSON.stringify({ kept: entry.id, why }));
    return;
  }
  const reasons = new Map<string, number>();
  for (const { why } of kept) reasons.set(why, (reasons.get(why) ?? 0) + 1);
  for (const [why, count] of reasons) say(`Kept ${count} (${why})`);
  const what = `${removed.length} ${removed.length === 1 ? "entry" : "entries"}`;
  say(`${dryRun ? "Would remove" : "Removed"} ${what}, ${formatBytes(freed)}`);
}

const dryRun = {
  kind: "boolean",
  brief: "only show what would be removed",
  default: false,
  withNegated: false,
} as const;

const prune = buildCommand({
  docs: {
    brief: "Remove what was used longest ago, until the rest is small enough",
    fullDescription:
      "A server does the same from time to time, and so does whatever built something, with the size " +
      "of the settings. What a process uses stays, and what state needs.",
  },
  parameters: {
    flags: {
      size: {
        kind: "parsed",
        parse: parseBytes,
        optional: true,
        brief: "how much may stay, such as 10GiB: that of the settings unless given",
      },
      olderThan: {
        kind: "parsed",
        parse: parseAge,
        optional: true,
        brief: "remove also what was not used for this long, such as 7d",
      },
      dryRun,
      json,
    },
  },
  async func(flags: { size?: number; olderThan?: number; dryRun: boolean; json: boolean }) {
    const limits = { bytes: flags.size ?? await cacheBudget(), age: flags.olderThan };
    report(await tidy(limits, { dryRun: flags.dryRun }), flags.dryRun, flags.json);
  },
});

const clean = buildCommand({
  docs: {
    brief: "Remove everything that nobody uses, or some kinds of it",
    fullDescription:
      "The next run makes what it needs again, for which it needs the network. What a process uses " +
      "stays, and what state needs; snapshots go with the images and kernels that they need.",
  },
  parameters: { flags: { dryRun, json }, positional: kinds },
  async func(flags: { dryRun: boolean; json: boolean }, ...named: string[]) {
    const limits = named.length === 0 ? {} : { kinds: named };
    report(await tidy(limits, { all: true, dryRun: flags.dryRun }), flags.dryRun, flags.json);
  },
});

const dir = buildCommand({
  docs: { brief: "Print the directory of the cache" },
  parameters: { flags: {} },
  func() {
    writeLine(cacheDir());
  },
});

/** The commands below `cloudlet cache`. */
export const cacheRoutes = buildRouteMap({
  routes: { du, prune, clean, dir },
  docs: { brief: "See what the cache takes on the disk, and remove what is not needed" },
});
