/**
 * What a schema refuses, in words for whoever wrote the data.
 *
 * @module
 */
import type { z } from "zod";
import { nearest } from "./nearest.ts";

/** One thing that is wrong. */
export interface SchemaProblem {
  /** Where. */
  readonly path: readonly (string | number)[];
  /** What, without the place. */
  readonly message: string;
}

/** How the language that the data is written in is spoken of. */
export interface SchemaWords {
  /** What holds named values: `a table` or `an object`. */
  readonly object: string;
  /** Says of a key that the schema does not know what may have been meant. */
  hint(table: readonly (string | number)[], key: string): string;
}

/**
 * Everything that is wrong.
 *
 * @param error of the schema
 * @param data what was checked
 */
export function schemaProblems(
  error: z.ZodError,
  data: unknown,
  words: SchemaWords,
): SchemaProblem[] {
  return error.issues.flatMap((issue): SchemaProblem[] => {
    const path = issue.path.filter((part) => typeof part !== "symbol");
    const value = valueAt(data, path);
    switch (issue.code) {
      case "unrecognized_keys":
        return issue.keys.map((key) => ({
          path: [...path, key],
          message: `unknown key${words.hint(path, key)}`,
        }));
      case "invalid_type":
        if (value === undefined) return [{ path, message: "is missing" }];
        return [{
          path,
          message: `expected ${typeName(issue.expected, words)}, found ${kindOf(value, words)}`,
        }];
      case "invalid_value": {
        if (value === undefined) return [{ path, message: "is missing" }];
        const near = typeof value === "string"
          ? nearest(value, issue.values.map(String))
          : undefined;
        const hint = near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
        const known = issue.values.map((v) => JSON.stringify(v)).join(", ");
        const shown = typeof value === "string" ? JSON.stringify(value) : kindOf(value, words);
        return [{ path, message: `${shown} is none of ${known}${hint}` }];
      }
      case "too_big":
      case "too_small": {
        const limit = issue.code === "too_big" ? issue.maximum : issue.minimum;
        const least = issue.inclusive === false ? "more than" : "at least";
        const side = issue.code === "too_big" ? "at most" : least;
        return issue.origin === "string"
          ? [{ path, message: issue.message }]
          : [{ path, message: `must be ${side} ${limit}` }];
      }
      case "invalid_key":
        return issue.issues.map((inner) => ({ path, message: inner.message }));
      default:
        return [{ path, message: issue.message }];
    }
  });
}

function valueAt(data: unknown, path: readonly (string | number)[]): unknown {
  let value = data;
  for (const part of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

function typeName(expected: string, { object }: SchemaWords): string {
  const names: Record<string, string> = {
    int: "an integer",
    string: "a string",
    record: object,
    object,
    array: "an array",
    boolean: "a boolean",
  };
  return names[expected] ?? `a ${expected}`;
}

function kindOf(value: unknown, { object }: SchemaWords): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (value instanceof Date) return "a date";
  if (typeof value === "object") return object;
  if (typeof value === "string") return `the string ${JSON.stringify(value.slice(0, 100))}`;
  return typeof value === "boolean" ? `${value}` : `the number ${value}`;
}
