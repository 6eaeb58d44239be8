/**
 * Durations, memory sizes and counts as people write them, in the config file and on the command line.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { RUN_NAME, RUN_NAME_RULE } from "../base/run_names.ts";

const MILLISECONDS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const MEBIBYTES: Record<string, number> = { m: 1, g: 1024 };

/** Longest duration: what a 32-bit timer holds, some 24 days. */
export const MAX_DURATION = 2 ** 31 - 1;
/** Most memory in MiB: more than any machine has, and what the requests' 32 bits hold. */
export const MAX_MEMORY = 2 ** 31;

/**
 * Milliseconds of a duration: a number of seconds, or text such as `90`, `500ms`, `30s`, `1m30s`.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function parseDuration(value: string | number): number {
  const text = String(value).trim();
  let total = NaN;
  if (/^\d+(\.\d+)?$/.test(text)) {
    total = Math.round(Number(text) * 1000);
  } else if (/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) {
    total = 0;
    for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
      total += Number(amount) * MILLISECONDS[unit!]!;
    }
    total = Math.round(total);
  }
  if (!(total > 0 && total <= MAX_DURATION)) {
    throw new CloudletError(`Cannot read ${JSON.stringify(text)} as a duration`, {
      code: "invalid-input",
      remedy: "write a number of seconds, or a text such as 500ms, 30s or 1m30s",
    });
  }
  return total;
}

/**
 * Mebibytes of a memory size: a number of MiB, or text such as `512M`, `512MiB`, `2G`.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function parseMemory(value: string | number): number {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([mg])(?:i?b)?)?$/i.exec(String(value).trim());
  const size = match === null
    ? NaN
    : Number(match[1]) * MEBIBYTES[(match[2] ?? "m").toLowerCase()]!;
  if (!Number.isInteger(size) || size <= 0 || size > MAX_MEMORY) {
    throw new CloudletError(`Cannot read ${JSON.stringify(String(value))} as a memory size`, {
      code: "invalid-input",
      remedy: "write a number of MiB, or a text such as 512M or 2G",
    });
  }
  return size;
}

/**
 * A run's name as a server takes it.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function parseRunName(text: string): string {
  if (RUN_NAME.test(text)) return text;
  throw new CloudletError(`${JSON.stringify(text)} is no name of a run`, {
    code: "invalid-input",
    remedy: `use ${RUN_NAME_RULE}`,
  });
}

/**
 * A whole number as a command line has it.
 *
 * @param least the smallest that will do
 * @throws {CloudletError} `invalid-input`
 */
export function parseCount(text: string, least: number = 0): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
  if (count >= least) return count;
  throw new CloudletError(`Cannot read ${JSON.stringify(text)} as a number`, {
    code: "invalid-input",
    remedy: `write a whole number, ${least} or more`,
  });
}
