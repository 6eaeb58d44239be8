/**
 * Reading what a client sent, with everything that is wrong in it told.
 *
 * @module
 */
import type { z } from "zod";
import { nearest } from "../../base/nearest.ts";
import { CloudletError } from "../../base/errors.ts";
import { schemaProblems } from "../../base/schema_problems.ts";
import { HttpError, type Problem } from "./problem.ts";

/** A request that a schema refuses. */
export class SchemaError extends CloudletError {
  /** @param errors what is wrong */
  constructor(readonly errors: NonNullable<Problem["errors"]>) {
    const list = errors.map(({ pointer, detail }) => `${pointer || "the request"}: ${detail}`);
    super(`Cannot take the request: ${list.join("; ")}`, {
      code: "invalid-input",
      remedy: "see /docs",
    });
  }
}

/** JSON Pointer of a path (RFC 6901 section 3). */
function pointer(path: readonly PropertyKey[]): string {
  return path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join(
    "",
  );
}

function check<T extends z.ZodType>(data: unknown, schema: T): z.output<T> {
  const result = schema.safeParse(data);
  if (result.success) return result.data;
  const known = "shape" in schema ? Object.keys(schema.shape as object) : [];
  const problems = schemaProblems(result.error, data, {
    object: "an object",
    hint(table, key) {
      const near = table.length === 0 ? nearest(key, known) : undefined;
      return near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`;
    },
  });
  throw new SchemaError(
    problems.map(({ path, message }) => ({ pointer: pointer(path), detail: message })),
  );
}

/**
 * The JSON body of a request, checked.
 *
 * @throws {HttpError} 415 for another content type, 400 for what is not JSON
 * @throws {SchemaError} what the schema refuses
 */
export async function readJson<T extends z.ZodType>(
  request: Request,
  schema: T,
): Promise<z.output<T>> {
  // A page of another site may post text/plain without asking (CORS), but not application/json.
  const type = (request.headers.get("content-type") ?? "").split(";")[0]!.trim().toLowerCase();
  if (type !== "application/json") {
    throw new HttpError(
      415,
      `Cannot take the request: its content type is ${JSON.stringify(type)}`,
      "send application/json",
    );
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await request.arrayBuffer());
  } catch (error) {
    if (error instanceof CloudletError) throw error;
    throw new HttpError(400, "Cannot take the request: its body is not UTF-8 text");
  }
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HttpError(400, `Cannot take the request: its body is not JSON: ${why}`);
  }
  return check(data, schema);
}

/** The query of a request, checked. @throws {SchemaError} what the schema refuses */
export function readQuery<T extends z.ZodType>(
  query: Record<string, string>,
  schema: T,
): z.output<T> {
  return check(query, schema);
}
