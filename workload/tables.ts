/**
 * Tables of TOML and objects of JSON that somebody else wrote.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";

/** A table of TOML, or an object of JSON. */
export type Table = Readonly<Record<string, unknown>>;

/** Whether it is one. */
export function isTable(value: unknown): value is Table {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The table, or an empty one. */
export function tableOf(value: unknown): Table {
  return isTable(value) ? value : {};
}

/** The text; undefined when it is none. */
export function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** The texts of a list; none when it is no list. */
export function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((text) => typeof text === "string") : [];
}

/**
 * The object of a file of JSON, or an empty one.
 *
 * @param path for messages
 * @throws {CloudletError} `invalid-input` when it is no JSON
 */
export function jsonTable(path: string, text: string): Table {
  try {
    return tableOf(JSON.parse(text));
  } catch (cause) {
    throw new CloudletError(`Cannot read ${path}: ${messageOf(cause)}`, {
      code: "invalid-input",
      remedy: `make ${path} valid JSON`,
      cause,
    });
  }
}
