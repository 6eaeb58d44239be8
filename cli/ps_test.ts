import { deepEqual, equal, rejects } from "node:assert/strict";
import { ApiClient } from "../api/client/client.ts";
import type { RunInfo } from "../api/schemas.ts";
import { activeRuns, completeId } from "./ps.ts";

const run = (id: string, minute: number, state: RunInfo["state"] = "done"): RunInfo => ({
  ...{
    id,
    run_name: null,
    workload_name: "",
    language: "bash",
    action: "run",
    state,
    outcome: null,
  },
  ...{ exit_code: null, message: null, memory: 1, vcpus: 1, started_at: null, ended_at: null },
  created_at: new Date(minute * 60_000).toISOString(),
});

/** A server of the HTTP API with so many runs that a list of a thousand does not have the first. */
async function withRuns(
  runs: readonly RunInfo[],
  test: (client: ApiClient) => Promise<void>,
): Promise<void> {
  const newest = [...runs].sort((a, b) => a.created_at < b.created_at ? 1 : -1);
  await using server = Deno.serve({ port: 0, hostname: "localhost", onListen() {} }, (request) => {
    const { pathname, searchParams: query } = new URL(request.url);
    if (pathname !== "/runs") {
      const found = runs.find(({ id }) => pathname === `/runs/${id}`);
      if (found !== undefined) return Response.json(found);
      const problem = { type: "urn:cloudlet:problem:not-found", detail: "there is none" };
      return Response.json(problem, { status: 404 });
    }
    const state = query.get("state");
    const name = query.get("name");
    const found = newest.filter((run) =>
      (state === null || run.state === state) && (name === null || run.run_name === name)
    );
    const limit = Number(query.get("limit"));
    equal(limit >= 1 && limit <= 1000, true, "a page has 1 to 1000 runs");
    const end = Number(query.get("after") ?? "0") + limit;
    const next = end < found.length ? String(end) : null;
    return Response.json({ runs: found.slice(end - limit, end), next });
  });
  await test(new ApiClient({ url: `http://localhost:${server.addr.port}` }));
}

const MANY = Array.from({ length: 1200 }, (_, i) => run(`ended-${1000 + i}`, 100 + i));

Deno.test("a run that still runs is listed, however many ended since it began", () => {
  const runs = [...MANY, run("old", 1, "running"), run("older", 0, "building"), run("new", 9999)];
  return withRuns(runs, async (client) => {
    deepEqual((await activeRuns(client)).map(({ id }) => id), ["old", "older"]);
    equal(await completeId(client, "olde"), "older");
  });
});

Deno.test("the beginning of an id names one run, or is refused with those that begin so", () => {
  const runs = [run("ab1", 1), run("ab2", 2, "running"), run("ab", 3), run("c", 4), ...MANY];
  return withRuns(runs, async (client) => {
    equal(await completeId(client, "ab"), "ab"); // whole
    equal(await completeId(client, "ab2"), "ab2");
    equal(await completeId(client, "missing"), "missing");
    await rejects(completeId(client, "ended-219"), {
      code: "invalid-input",
      message: 'Cannot tell which run "ended-219" is: it can be ended-2199, ended-2198, ' +
        "ended-2197, ended-2196, ended-2195 and 5 more",
    });
    equal(await completeId(client, "a"), "ab2"); // the only one that is not as old
    await rejects(completeId(client, ""), { code: "invalid-input" });
  });
});

Deno.test("a name is that of the run under way, then of the last one; an id is no name", () => {
  const named = (id: string, minute: number, name: string) => ({
    ...run(id, minute),
    run_name: name,
  });
  const runs = [
    named("1", 1, "web"),
    named("2", 3, "web"),
    named("3", 2, "web"),
    named("4", 4, "1"),
  ];
  return withRuns([...runs, run("webcam", 5)], async (client) => {
    equal(await completeId(client, "web"), "2");
    equal(await completeId(client, "1"), "1");
    equal(await completeId(client, "webc"), "webcam");
  });
});

Deno.test("a list goes on from page to page up to its limit", () =>
  withRuns(MANY, async (client) => {
    const ids = MANY.map(({ id }) => id).reverse();
    const listed = async (limit: number) => (await client.runs({ limit })).map(({ id }) => id);
    deepEqual(await listed(1100), ids.slice(0, 1100));
    deepEqual(await listed(1), ids.slice(0, 1));
    deepEqual(await listed(5000), ids);
  }));

Deno.test("more runs under way than a page has are all listed", () => {
  const runs = Array.from({ length: 2300 }, (_, i) => run(`r${i}`, i, "pending"));
  return withRuns(runs, async (client) => equal((await activeRuns(client)).length, 2300));
});

Deno.test("a server whose pages lead in a circle is not asked for ever", async () => {
  let asked = 0;
  await using server = Deno.serve({ port: 0, hostname: "localhost", onListen() {} }, () => {
    asked++;
    return Response.json({ runs: [run(`r${asked % 2}`, 1)], next: asked % 2 === 0 ? "a" : "b" });
  });
  const client = new ApiClient({ url: `http://localhost:${server.addr.port}` });
  await rejects(client.runs({ limit: 1000 }), { code: "unavailable", message: /same page twice/ });
});
