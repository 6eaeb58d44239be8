import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { Hono } from "hono";
import { HostProcessMachines } from "../../test/host_process_machine.ts";
import { OWN_NETWORK } from "../../service/network.ts";
import { Orchestrator } from "../../service/orchestrator.ts";
import { vmmRoutes } from "../../service/routes.ts";
import { RunStore } from "../../service/run_store.ts";
import { eventData } from "../sse.ts";
import { createApp } from "./app.ts";
import { Metrics } from "./metrics.ts";
import { openApiDocument } from "./openapi.ts";
import type { Problem } from "./problem.ts";
import { testNode } from "../../test/test_node.ts";

const MAX_BODY = 100_000;

async function withApp(
  test: (app: Hono, orchestrator: Orchestrator) => Promise<void>,
): Promise<void> {
  await using machines = new HostProcessMachines();
  using store = RunStore.inMemory();
  const metrics = new Metrics();
  await using orchestrator = new Orchestrator({
    node: testNode(machines.factory, { machines: 1, memory: 1024, queue: 0 }),
    prepared: machines.prepared,
    store,
    limits: {
      ...{ defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000 },
      network: OWN_NETWORK,
    },
    onEnd: (run) => metrics.ended(run),
  });
  metrics.watch(orchestrator);
  const app = createApp({
    routes: vmmRoutes(orchestrator),
    store,
    check: (request) => orchestrator.check(request),
    metrics,
    ready: () => orchestrator.open,
    hosts: new Set(["localhost"]),
    maxBody: MAX_BODY,
    version: "0.0.0-test",
  });
  await test(app, orchestrator);
}

function post(app: Hono, path: string, body: unknown, headers: Record<string, string> = {}) {
  return app.request(path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" || body instanceof Uint8Array
      ? body as Uint8Array<ArrayBuffer>
      : JSON.stringify(body),
  });
}

async function eventsOf(response: Response) {
  equal(response.status, 200, response.status === 200 ? "" : await response.clone().text());
  match(response.headers.get("content-type") ?? "", /^text\/event-stream/);
  return await Array.fromAsync(eventData(response.body!), (text) => JSON.parse(text));
}

const BASH = { language: "bash", code: "true" };
const MALFORMED: readonly (readonly [string, unknown, number, RegExp])[] = [
  ["text that is not JSON", "{", 400, /not JSON/],
  ["no body", "", 400, /not JSON/],
  ["bytes that are not UTF-8", new Uint8Array([0x22, 0xff, 0x22]), 400, /not UTF-8/],
  ["an array", [], 422, /the request: expected an object, found an array/],
  ["null", null, 422, /the request: expected an object, found null/],
  ["no language", { code: "x" }, 422, /\/language: is missing/],
  ["an unknown language", { ...BASH, language: "pyton" }, 422, /\/language: .*"python"\?$/],
  ["an unknown version", { ...BASH, language: "python@2" }, 422, /python in the version "2"/],
  ["an unknown language with a version", { ...BASH, language: "pyton@3" }, 422, /is none of/],
  ["a number as language", { ...BASH, language: 1 }, 422, /\/language/],
  ["neither code nor files", { language: "bash" }, 422, /one of code and files/],
  ["nothing to prepare", { language: "bash", action: "prepare" }, 422, /one of code and files/],
  [
    "code and files",
    { ...BASH, files: [{ path: "a", content: "" }] },
    422,
    /one of code and files/,
  ],
  ["no files", { language: "bash", files: [] }, 422, /\/files: must have at least one file/],
  ["no files to prepare", { language: "bash", action: "prepare", files: [] }, 422, /\/files: must/],
  ["a number as code", { ...BASH, code: 1 }, 422, /\/code: expected a string, found the number 1$/],
  ["an unknown action", { ...BASH, action: "fly" }, 422, /\/action/],
  ["an unknown member", { ...BASH, timout: 1 }, 422, /\/timout.*"timeout"/],
  ["a negative timeout", { ...BASH, timeout: -1 }, 422, /\/timeout/],
  ["an endless timeout", { ...BASH, timeout: 1e300 }, 422, /\/timeout/],
  ["a fraction as memory", { ...BASH, memory: 1.5 }, 422, /\/memory/],
  ["too much memory", { ...BASH, memory: 4096 }, 422, /4096 MiB/],
  ["too little memory", { ...BASH, memory: 1 }, 422, /too little/],
  ["too many processors", { ...BASH, vcpus: 64 }, 422, /64 virtual CPUs/],
  ["a bad id", { ...BASH, id: "../x" }, 422, /\/id/],
  ["a NUL in an argument", { ...BASH, args: ["a\0b"] }, 422, /\/args\/0/],
  ["a bad variable", { ...BASH, env: { "A=B": "1" } }, 422, /\/env/],
  ["bad base64", { ...BASH, stdin_base64: "***" }, 422, /\/stdin_base64/],
  ["two inputs", { ...BASH, stdin: "", stdin_base64: "" }, 422, /both stdin/],
  [
    "a file that leads out",
    { language: "bash", files: [{ path: "../x", content: "" }] },
    422,
    /"\.\."/,
  ],
  ["an absolute file", { language: "bash", files: [{ path: "/x", content: "" }] }, 422, /absolute/],
  ["a file without content", { language: "bash", files: [{ path: "x" }] }, 422, /\/files\/0/],
  [
    "a link with content",
    { language: "bash", files: [{ path: "x", content: "", target: "y" }] },
    422,
    /one of content, content_base64, target and directory/,
  ],
  [
    "a directory with a mode",
    { language: "bash", files: [{ path: "x", directory: true, mode: 0o755 }] },
    422,
    /must not have a mode/,
  ],
  [
    "a file below a link",
    { language: "bash", files: [{ path: "x", target: "/etc" }, { path: "x/y", content: "" }] },
    422,
    /the link x has files below it/,
  ],
  ["a body that is too large", { ...BASH, code: "x".repeat(MAX_BODY) }, 413, /more than 100000 by/],
];

Deno.test("bad requests get the right status and a problem, and the service lives on", () =>
  withApp(async (app) => {
    for (const [what, body, status, detail] of MALFORMED) {
      const response = await post(app, "/run", body);
      equal(response.status, status, what);
      equal(response.headers.get("content-type"), "application/problem+json", what);
      const problem: Problem = await response.json();
      equal(problem.status, status, what);
      match(problem.detail, detail, what);
      ok(problem.title && problem.type.startsWith("urn:"), what);
    }
    equal((await eventsOf(await post(app, "/run", BASH))).at(-1).stage, "Done");
  }));

Deno.test("what only the agent can refuse is the last event of the run", () =>
  withApp(async (app) => {
    const body = { language: "bash", files: [{ path: "data.txt", content: "" }] };
    const last = (await eventsOf(await post(app, "/run", body))).at(-1);
    equal(last.stage, "Failed");
    equal(last.problem.status, 422);
    match(last.problem.detail, /no source file/);
  }));

Deno.test("files may be links, directories and executable", () =>
  withApp(async (app) => {
    const files = [
      { path: "main.sh", content: "current/tool && ls -d empty" },
      { path: "v1/tool", content: "#!/bin/sh\necho tool", mode: 0o755 },
      { path: "current", target: "v1" },
      { path: "empty", directory: true },
    ];
    const events = await eventsOf(await post(app, "/run", { language: "bash", files }));
    equal(events.map(({ stdout }) => stdout ?? "").join(""), "tool\nempty\n");
  }));

Deno.test("a prepared workload is run by its name", () =>
  withApp(async (app) => {
    const named = { language: "bash", workload_name: "w" };
    const unknown = await post(app, "/run", { ...named, action: "run" });
    equal(unknown.status, 404);
    match((await unknown.json()).remedy, /prepare it/);
    const prepared = await post(app, "/run", { ...named, code: "echo $1", action: "prepare" });
    equal((await eventsOf(prepared)).at(-1).outcome, "prepared");
    const run = await post(app, "/run", { ...named, args: ["a"], action: "run" });
    ok((await eventsOf(run)).some(({ stdout }) => stdout === "a\n"));
  }));

Deno.test("a request of another content type, method, path or host is refused", () =>
  withApp(async (app) => {
    const form = await post(app, "/run", BASH, { "content-type": "text/plain" });
    equal(form.status, 415);
    const get = await app.request("/run");
    equal(get.status, 405);
    equal(get.headers.get("allow"), "POST");
    equal((await app.request("/nowhere")).status, 404);
    for (
      const [method, path, allow] of [
        ["PUT", "/runs/x", "GET, HEAD, DELETE"],
        ["POST", "/runs", "GET, HEAD"],
        ["GET", "/runs/x/fork", "POST"],
        ["PATCH", "/logs/a%2Fb", "GET, HEAD"],
        ["DELETE", "/metrics/x", "GET, HEAD"],
        ["DELETE", "/metrics", "GET, HEAD"],
        ["GET", "/shutdown", "POST"],
        ["GET", "/configuration", "POST"],
        ["OPTIONS", "/run", "POST"],
        ["PUT", "/healthz", "GET, HEAD"],
        ["POST", "/docs", "GET, HEAD"],
        ["GET", "/vmmorchestrator.VmmService/Run", "POST"],
      ] as const
    ) {
      const response = await app.request(path, { method });
      equal(response.status, 405, `${method} ${path}`);
      equal(response.headers.get("allow"), allow, `${method} ${path}`);
      match((await response.json()).detail, new RegExp(`it takes ${allow}$`));
    }
    for (
      const path of ["/runs/", "/runs/x/y", "/logs", "/run/x", "/vmmorchestrator.VmmService/Fly"]
    ) {
      equal((await app.request(path, { method: "PUT" })).status, 404, path);
    }
    equal((await app.request("/runs", { method: "HEAD" })).status, 200);
    const rebound = await app.request("/runs", { headers: { host: "evil.example:3000" } });
    equal(rebound.status, 421);
    for (const path of ["/runs/x", "/logs/x", "/metrics/x"]) {
      equal((await app.request(path)).status, 404, path);
    }
    equal((await app.request("/runs/x", { method: "DELETE" })).status, 404);
    equal((await app.request("/runs?limit=0")).status, 422);
    equal((await app.request("/runs?state=happy")).status, 422);
  }));

Deno.test("a run's state, logs and figures can be asked for", () =>
  withApp(async (app) => {
    const response = await post(app, "/run", {
      language: "Bash",
      code: 'echo "$1 $X"; cat; printf "\\377"; echo bad >&2; exit 3',
      args: ["a b"],
      env: { X: "é" },
      stdin: "input\n",
      output: "base64",
      id: "mine",
      log_level: "DEBUG",
      workload_name: "w",
    });
    const events = await eventsOf(response);
    equal(events[0].id, "mine");
    const bytes = events.flatMap((e) => [...Uint8Array.fromBase64(e.stdout_base64 ?? "")]);
    deepEqual(bytes, [...new TextEncoder().encode("a b é\ninput\n"), 0xff]);
    ok(events.some(({ stage }) => stage === "Debug"));
    const last = events.at(-1);
    equal(last.exit_code, 3);
    equal(last.outcome, "exited");
    ok(last.usage.wall_ms > 0);

    equal((await post(app, "/run", { ...BASH, id: "mine" })).status, 409);
    const { runs } = await (await app.request("/runs?state=done")).json();
    deepEqual(runs.map(({ id }: { id: string }) => id), ["mine"]);
    const run = await (await app.request("/runs/mine")).json();
    equal(run.exit_code, 3);
    equal(run.workload_name, "w");
    const raw = await app.request("/logs/mine?stream=stdout", {
      headers: { accept: "application/octet-stream" },
    });
    deepEqual([...new Uint8Array(await raw.arrayBuffer())], bytes);
    const logs = await (await app.request("/logs/mine")).json();
    equal(logs.truncated, false);
    ok(logs.entries.some((e: { text?: string }) => e.text === "bad\n"));
    const figures = await (await app.request("/metrics/mine")).json();
    equal(figures.stdout_bytes, bytes.length);
    ok(figures.start_ms >= 0 && figures.total_ms >= figures.start_ms);
    const prometheus = await (await app.request("/metrics")).text();
    match(prometheus, /cloudlet_runs_total\{language="bash",outcome="exited"\} 1/);
    match(prometheus, /cloudlet_vms 0/);
  }));

Deno.test("a run's output is followed until it ends, by as many as like", () =>
  withApp(async (app) => {
    const code = "echo one; sleep 0.2; echo two >&2; sleep 0.2; printf '\\377'";
    const body = { ...BASH, code, id: "r", output: "base64" };
    const run = eventsOf(await post(app, "/run", body));
    const parts = Array.from({ length: 3 }, async () => {
      const events = await eventsOf(await app.request("/logs/r?follow=true"));
      const end = events.pop();
      deepEqual([end.truncated, end.run.outcome], [false, "exited"]);
      return events.map(({ stream, text, base64 }) => [stream, text ?? base64]);
    });
    const bytes = await app.request("/logs/r?follow=true&stream=stdout", {
      headers: { accept: "application/octet-stream" },
    });
    deepEqual([...await bytes.bytes()], [...new TextEncoder().encode("one\n"), 0xff]);
    await run;
    for (const entries of await Promise.all(parts)) {
      deepEqual(entries.filter(([stream]) => stream !== "service"), [
        ["stdout", "one\n"],
        ["stderr", "two\n"],
        ["stdout", "/w=="],
      ]);
    }
    equal((await app.request("/logs/r?follow=maybe")).status, 422);
    // Whoever leaves is no longer waited for.
    const long = eventsOf(await post(app, "/run", { ...BASH, code: "sleep 1000", id: "long" }));
    const leaving = (await app.request("/logs/long?follow=true")).body!.getReader();
    await leaving.cancel();
    await (await app.request("/runs/long", { method: "DELETE" })).body?.cancel();
    await long;
  }));

Deno.test("a full house answers 429, and DELETE ends the run that fills it", () =>
  withApp(async (app, orchestrator) => {
    const first = await post(app, "/run", { ...BASH, code: "sleep 1000", id: "long" });
    const rest = eventsOf(first);
    const refused = await post(app, "/run", BASH);
    equal(refused.status, 429);
    ok(refused.headers.get("retry-after"));
    const stopped = await (await app.request("/runs/long", { method: "DELETE" })).json();
    equal(stopped.outcome, "stopped");
    const last = (await rest).at(-1);
    deepEqual([last.stage, last.exit_code, last.outcome], ["Failed", 137, "killed"]);
    deepEqual(await (await post(app, "/shutdown", {})).json(), { success: false });
    equal((await app.request("/readyz")).status, 200);
    await orchestrator.close(0);
    equal((await app.request("/readyz")).status, 503);
    equal((await post(app, "/run", BASH)).status, 503);
    equal((await app.request("/healthz")).status, 200);
  }));

Deno.test("POST /configuration tells how a request is understood and runs nothing", () =>
  withApp(async (app) => {
    const response = await post(app, "/configuration", { ...BASH, action: "PrepareAndRun" });
    equal(response.status, 200);
    const body = await response.json();
    equal(body.action, "prepare-and-run");
    equal(body.code_bytes, 4);
    const versioned = { language: "Python@3.11", code: "" };
    equal((await (await post(app, "/configuration", versioned)).json()).language, "python@3.11");
    equal((await post(app, "/configuration", { language: "x" })).status, 422);
    const secrets = { KEY: { value: "never told", hosts: ["a.example"] } };
    const told = await (await post(app, "/configuration", { ...BASH, network: { secrets } }))
      .text();
    ok(told.includes("a.example") && !told.includes("never told"), told);
    // What POST /run refuses by itself is refused here, with the same words.
    for (
      const [what, more, detail] of [
        ["too little memory", { memory: 1 }, /1 MiB of memory are too little: .* 64 MiB/],
        ["too much memory", { memory: 4096 }, /4096 MiB of memory, and all .* 1024 MiB/],
        ["too many processors", { vcpus: 64 }, /64 virtual CPUs are too many: .* up to 4/],
        ["a bad package", { packages: ["../x"] }, /no name of a Debian package/],
        ["a file that leads out", { code: null, files: [{ path: "../x", content: "" }] }, /"\.\."/],
        ["a bad image", { image: "not an image" }, /Cannot use the image/],
        ["an image on the server's disk", { image: "oci:/etc" }, /server's own disk/],
        ["nothing to run", { language: "command", code: null }, /neither a program nor an image/],
      ] as const
    ) {
      const wanted = { ...BASH, ...more };
      const [checked, run] = await Promise.all(
        ["/configuration", "/run"].map((path) => post(app, path, wanted)),
      );
      deepEqual([checked!.status, run!.status], [422, 422], what);
      const problem = await checked!.json();
      match(problem.detail, detail, what);
      deepEqual(problem, await run!.json(), what);
    }
    deepEqual(await (await app.request("/runs")).json(), { runs: [], next: null });
  }));

Deno.test("GET /runs gives its runs page by page", () =>
  withApp(async (app) => {
    for (const id of ["a", "b", "c", "d", "e"]) {
      await eventsOf(await post(app, "/run", { ...BASH, id }));
    }
    const seen: string[][] = [];
    for (let after = ""; after !== null;) {
      const query = after === "" ? "" : `&after=${encodeURIComponent(after)}`;
      const page = await (await app.request(`/runs?limit=2&state=done${query}`)).json();
      seen.push(page.runs.map(({ id }: { id: string }) => id));
      after = page.next;
    }
    deepEqual(seen, [["e", "d"], ["c", "b"], ["a"]]);
    const wrong = await app.request("/runs?after=nowhere");
    equal(wrong.status, 422);
    match((await wrong.json()).detail, /no page ended there/);
  }));

Deno.test("the OpenAPI document has every route, and every route is in it", () =>
  withApp(async (app) => {
    const document = await (await app.request("/openapi.json")).json();
    deepEqual(document, JSON.parse(JSON.stringify(openApiDocument("0.0.0-test"))));
    const described = Object.entries(document.paths as Record<string, object>).flatMap(
      ([path, methods]) => Object.keys(methods).map((m) => `${m.toUpperCase()} ${path}`),
    );
    const served = app.routes
      .filter(({ method, path }) => method !== "ALL" && !/^\/(docs|vmmorch)/.test(path))
      .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`);
    deepEqual([...new Set(served)].sort(), described.sort());
    const page = await app.request("/docs");
    match(page.headers.get("content-security-policy") ?? "", /script-src 'self'/);
    ok(!/https?:/.test(await page.text()), "the page loads nothing from elsewhere");
    match((await app.request("/docs.js")).headers.get("content-type") ?? "", /javascript/);
  }));
