/**
 * The description of the API (OpenAPI 3.1) and its page.
 *
 * @module
 */
import type { Hono } from "hono";
import { z } from "zod";
import { DOCS_HTML, DOCS_SCRIPT } from "./docs_page.ts";
import {
  forkRequest,
  logEnd,
  logEntry,
  logsQuery,
  runEvent,
  runInfo,
  runLogs,
  runMetrics,
  runPage,
  runRequest,
  runsQuery,
} from "../schemas.ts";

type Json = Record<string, unknown>;

/** OpenAPI 3.1 schemas are JSON Schema 2020-12; bytes and transforms show as what is sent. */
function schemaOf(schema: z.ZodType, io: "input" | "output" = "output"): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return rest;
}

function ref(name: string): Json {
  return { $ref: `#/components/schemas/${name}` };
}

function answer(description: string, schema: Json, type = "application/json"): Json {
  return { description, content: { [type]: { schema } } };
}

function problems(...statuses: readonly number[]): Json {
  return Object.fromEntries(
    [401, ...statuses].map((status) => [
      String(status),
      answer(STATUS[status]!, ref("Problem"), "application/problem+json"),
    ]),
  );
}

const STATUS: Readonly<Record<number, string>> = {
  400: "The body is not JSON",
  401: "The key is missing or wrong",
  404: "There is no such run, or nothing was prepared under this name",
  409: "There is a run with this id, or this one cannot be copied now",
  413: "The body is too large",
  415: "The content type is not application/json",
  422: "The request asks for something that cannot be",
  429: "Too many microVMs and too long a queue; see Retry-After",
  503: "The service is about to end; see Retry-After",
};

const NOTHING_LEFT = { description: "Nothing follows the event of the Last-Event-ID" };
const LAST_EVENT_ID = {
  name: "Last-Event-ID",
  in: "header",
  description: "Id of the last event that the client has had; an EventSource sends it by itself",
  schema: { type: "string" },
};
const ID = { name: "id", in: "path", required: true, schema: { type: "string" } };

function query(schema: z.ZodObject): Json[] {
  const { properties } = schemaOf(schema, "input") as { properties: Record<string, Json> };
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: "query",
    schema: property,
  }));
}

const text: Json = { type: "string" };
const object = (properties: Json): Json => ({ type: "object", properties });
const status = object({ status: text });

/** The paths; a test compares them with the application's routes. */
function paths(): Json {
  const body = {
    required: true,
    content: {
      "application/json": {
        schema: ref("RunRequest"),
        example: { workload_name: "hello", language: "python", code: "print('hello')" },
      },
    },
  };
  return {
    "/run": {
      post: {
        summary: "Run a workload in a microVM of its own and stream what happens",
        description: "The last event has the stage Done or Failed. A client that leaves ends the " +
          "run; one that reads slowly slows the program down. A request with the Last-Event-ID of an " +
          "earlier stream starts nothing and gets 204.",
        requestBody: body,
        responses: {
          200: answer("Server-sent events, each a RunEvent", ref("RunEvent"), "text/event-stream"),
          204: NOTHING_LEFT,
          ...problems(400, 404, 409, 413, 415, 422, 429, 503),
        },
      },
    },
    "/configuration": {
      post: {
        summary: "Check a request and tell how it is understood, without running it",
        requestBody: body,
        responses: {
          200: answer("The request as it is understood", object({})),
          ...problems(400, 413, 415, 422),
        },
      },
    },
    "/shutdown": {
      post: {
        summary: "End all microVMs",
        responses: {
          200: answer("Whether there were any", object({ success: { type: "boolean" } })),
          ...problems(),
        },
      },
    },
    "/runs": {
      get: {
        summary: "List runs page by page: those under way first, then the others, the newest first",
        description:
          "`next` of a page is `after` of the next one. With `before`, the runs are in " +
          "the order of their age alone.",
        parameters: query(runsQuery),
        responses: {
          200: answer("Some of the runs", ref("RunPage")),
          ...problems(422),
        },
      },
    },
    "/runs/{id}": {
      get: {
        summary: "Tell the state of a run",
        parameters: [ID],
        responses: { 200: answer("The run", ref("RunInfo")), ...problems(404) },
      },
      delete: {
        summary: "End a run and its microVM",
        parameters: [ID],
        responses: { 200: answer("The run as it ended", ref("RunInfo")), ...problems(404) },
      },
    },
    "/runs/{id}/fork": {
      post: {
        summary: "Copy a run with its microVM and stream what the copy does",
        description:
          "Both go on from the same point; the copy is a run of its own. 409 where the " +
          "program does not run yet.",
        parameters: [ID],
        requestBody: {
          required: true,
          content: { "application/json": { schema: ref("ForkRequest"), example: {} } },
        },
        responses: {
          200: answer("Server-sent events, each a RunEvent", ref("RunEvent"), "text/event-stream"),
          204: NOTHING_LEFT,
          ...problems(400, 404, 409, 415, 422, 429, 503),
        },
      },
    },
    "/logs/{id}": {
      get: {
        summary: "Tell the output of a run",
        description: "With Accept: application/octet-stream the bytes alone; with Accept: " +
          "text/event-stream, or when following, server-sent events: each a LogEntry, the last one " +
          "a LogEnd. A client that comes back with a Last-Event-ID gets what follows that event.",
        parameters: [ID, ...query(logsQuery), LAST_EVENT_ID],
        responses: {
          200: {
            description: "The output",
            content: {
              "application/json": { schema: ref("RunLogs") },
              "text/event-stream": { schema: { anyOf: [ref("LogEntry"), ref("LogEnd")] } },
              "application/octet-stream": { schema: text },
            },
          },
          204: NOTHING_LEFT,
          ...problems(404, 422),
        },
      },
    },
    "/metrics/{id}": {
      get: {
        summary: "Tell the times and the memory of a run",
        parameters: [ID],
        responses: { 200: answer("The figures", ref("RunMetrics")), ...problems(404) },
      },
    },
    "/metrics": {
      get: {
        summary: "Tell the figures of the service, for Prometheus",
        responses: { 200: answer("Text format 0.0.4", text, "text/plain"), ...problems() },
      },
    },
    "/healthz": {
      get: {
        summary: "Tell that the service lives",
        security: [],
        responses: { 200: answer("It does", status) },
      },
    },
    "/readyz": {
      get: {
        summary: "Tell whether the service takes runs",
        security: [],
        responses: {
          200: answer("It does", status),
          503: answer("It does not", ref("Problem"), "application/problem+json"),
        },
      },
    },
    "/openapi.json": {
      get: {
        summary: "This document",
        security: [],
        responses: { 200: answer("OpenAPI 3.1", object({})) },
      },
    },
  };
}

/**
 * The OpenAPI document.
 *
 * @param version of cloudlet
 */
export function openApiDocument(version: string): Json {
  return {
    openapi: "3.1.0",
    info: {
      title: "cloudlet",
      version,
      description: "Runs any program in a Linux microVM of its own.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    security: [{ key: [] }, {}],
    paths: paths(),
    components: {
      securitySchemes: {
        key: { type: "http", scheme: "bearer", description: "An API key, when the server has any" },
      },
      schemas: {
        RunRequest: schemaOf(runRequest, "input"),
        ForkRequest: schemaOf(forkRequest, "input"),
        RunEvent: schemaOf(runEvent),
        RunInfo: schemaOf(runInfo),
        RunPage: schemaOf(runPage),
        RunLogs: schemaOf(runLogs),
        LogEntry: schemaOf(logEntry),
        LogEnd: schemaOf(logEnd),
        RunMetrics: schemaOf(runMetrics),
        Problem: {
          type: "object",
          description: "RFC 9457",
          required: ["type", "title", "status", "detail"],
          properties: {
            type: text,
            title: text,
            status: { type: "integer" },
            detail: text,
            remedy: text,
            errors: {
              type: "array",
              items: object({ pointer: text, detail: text }),
            },
          },
        },
      },
    },
  };
}

/** Adds the page of the API: it comes from this server alone, script and all. */
export function docsPage(app: Hono): void {
  const policy = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; " +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
  app.get("/docs", (c) => c.html(DOCS_HTML, 200, { "content-security-policy": policy }));
  app.get("/docs.js", (c) => c.body(DOCS_SCRIPT, 200, { "content-type": "text/javascript" }));
}
