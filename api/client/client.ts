/**
 * A client of the HTTP API: what `cloudlet ps`, `logs`, `stop` and `shutdown` ask a server.
 *
 * @module
 */
import { CloudletError, type ErrorCode, messageOf } from "../../base/errors.ts";
import { z } from "zod";
import type { ServerAddress } from "../library/options.ts";
import {
  logEnd,
  type LogEndBody,
  logEntry,
  type LogEntryBody,
  type RunInfo,
  runInfo,
  runPage,
} from "../schemas.ts";
import { eventData } from "../sse.ts";

const problem = z.object({
  type: z.string(),
  detail: z.string(),
  remedy: z.string().optional(),
});
const CODES: ReadonlySet<string> = new Set<ErrorCode>([
  "invalid-input",
  "not-found",
  "untrusted",
  "unavailable",
  "host",
  "guest",
  "conflict",
  "exhausted",
  "denied",
  "cancelled",
]);

/** Most runs of a page. */
const PAGE = 1000;

/** Asks a server. */
export class ApiClient {
  readonly #server: ServerAddress;

  /** @param server which one */
  constructor(server: ServerAddress) {
    this.#server = server;
  }

  /**
   * Runs, as many pages of them as it takes: those under way first, then the others, the newest first.
   *
   * @param options `limit`: most runs; 100 when absent
   */
  async runs(
    options: { readonly state?: string; readonly name?: string; readonly limit?: number } = {},
  ): Promise<RunInfo[]> {
    const { state, name, limit = 100 } = options;
    const found = new Map<string, RunInfo>(); // one that ends between two pages is on both
    const asked = new Set<string>();
    for (let after: string | undefined; found.size < limit;) {
      const query = new URLSearchParams({ limit: String(Math.min(limit - found.size, PAGE)) });
      if (state !== undefined) query.set("state", state);
      if (name !== undefined) query.set("name", name);
      if (after !== undefined) query.set("after", after);
      const { runs, next } = await this.#json("GET", `runs?${query}`, runPage);
      for (const run of runs) found.set(run.id, run);
      if (next === null) break;
      if (asked.has(next)) {
        throw new CloudletError(
          `Cannot list the runs of ${this.#server.url}: it gives the same page twice`,
          { code: "unavailable", remedy: "check that it is a cloudlet server of the same version" },
        );
      }
      asked.add(after = next);
    }
    return [...found.values()];
  }

  /** A run by its whole id; undefined when there is none. */
  async run(id: string): Promise<RunInfo | undefined> {
    try {
      return await this.#json("GET", `runs/${encodeURIComponent(id)}`, runInfo);
    } catch (error) {
      if (error instanceof CloudletError && error.code === "not-found") return undefined;
      throw error;
    }
  }

  /**
   * What a run wrote, piece by piece, and how it stands after that.
   *
   * @param options whether to go on until the run ends
   */
  async *logs(
    id: string,
    options: { readonly follow?: boolean } = {},
  ): AsyncGenerator<LogEntryBody | LogEndBody> {
    const query = options.follow ? "?follow=true" : "";
    const response = await this.#ask("GET", `logs/${encodeURIComponent(id)}${query}`, {
      accept: "text/event-stream",
    });
    try {
      for await (const data of eventData(response.body ?? ReadableStream.from([]))) {
        const event = this.#understood(z.union([logEntry, logEnd]), parsed(data));
        yield event;
        if ("run" in event) return;
      }
    } catch (cause) {
      if (cause instanceof CloudletError) throw cause;
      throw this.#left(cause);
    }
    throw this.#left();
  }

  #left(cause?: unknown): CloudletError {
    return new CloudletError(`Cannot go on: the server ${this.#server.url} has left`, {
      code: "unavailable",
      remedy: "ask again when it is back",
      cause,
    });
  }

  /** Ends a run, and tells how it ended. */
  async stop(id: string): Promise<RunInfo> {
    return await this.#json("DELETE", `runs/${encodeURIComponent(id)}`, runInfo);
  }

  /** Ends all runs; false when there was none. */
  async shutdown(): Promise<boolean> {
    const body = await this.#json("POST", "shutdown", z.object({ success: z.boolean() }));
    return body.success;
  }

  async #json<T extends z.ZodType>(method: string, path: string, schema: T): Promise<z.output<T>> {
    const response = await this.#ask(method, path);
    return this.#understood(schema, await response.json().catch(() => undefined));
  }

  #understood<T extends z.ZodType>(schema: T, data: unknown): z.output<T> {
    const checked = schema.safeParse(data);
    if (checked.success) return checked.data;
    throw new CloudletError(`Cannot understand the server ${this.#server.url}`, {
      code: "unavailable",
      remedy: "check that it is a cloudlet server of the same version",
    });
  }

  async #ask(
    method: string,
    path: string,
    headers: Record<string, string> = {},
  ): Promise<Response> {
    const { url, key } = this.#server;
    let response: Response;
    try {
      response = await fetch(new URL(path, url.endsWith("/") ? url : `${url}/`), {
        method,
        redirect: "error", // the key goes where it was told to go
        headers: { ...headers, ...(key !== undefined && { authorization: `Bearer ${key}` }) },
      });
    } catch (cause) {
      throw new CloudletError(`Cannot reach the server ${url}: ${messageOf(cause)}`, {
        code: "unavailable",
        remedy: "start it with `cloudlet serve`, or give --server its address",
        cause,
      });
    }
    if (response.ok) return response;
    const told = problem.safeParse(await response.json().catch(() => undefined));
    if (!told.success) {
      throw new CloudletError(`Cannot ask the server ${url}: it answers ${response.status}`, {
        code: "unavailable",
        remedy: "check that it is a cloudlet server",
      });
    }
    const code = told.data.type.replace(/^urn:cloudlet:problem:/, "");
    throw new CloudletError(told.data.detail, {
      code: CODES.has(code) ? code as ErrorCode : "unavailable",
      ...(told.data.remedy !== undefined && { remedy: told.data.remedy }),
    });
  }
}

/** A value out of JSON; undefined when it is none. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
