import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { withProcessRuns } from "../../test/process_runs.ts";
import { LazyRun, lazyRun } from "./lazy_run.ts";
import { type RunOptions, runOver } from "./run.ts";

/** Runs as in production but for the machines, which are processes of this host. */
async function withRuns(
  test: (
    start: (options: RunOptions) => LazyRun,
    loads: () => number,
    active: () => number,
  ) => Promise<void>,
): Promise<void> {
  await withProcessRuns(async (transport, service) => {
    let loads = 0;
    const start = (options: RunOptions) =>
      new LazyRun(() => {
        loads++;
        return Promise.resolve(runOver(transport, options));
      });
    await test(start, () => loads, () => service.active.length);
  });
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const ECHO = { language: "bash", code: "echo a; exit 3" } as const;

Deno.test("a run is loaded once, when it begins", () =>
  withRuns(async (start, loads) => {
    const program = start(ECHO);
    equal(loads(), 0);
    const output = await program.output();
    deepEqual([text(output.stdout), output.exitCode], ["a\n", 3]);
    equal((await program.result).exitCode, 3);
    equal(loads(), 1);
  }));

Deno.test("an iteration gets the events, even after the result was asked for", () =>
  withRuns(async (start) => {
    const program = start(ECHO);
    const { result } = program;
    const types: string[] = [];
    for await (const event of program) {
      if (event.type !== "log") types.push(event.type === "stage" ? event.stage : event.type);
    }
    deepEqual(types, ["pending", "running", "stdout", "exit"]);
    equal((await result).exitCode, 3);
    throws(() => program[Symbol.asyncIterator](), { code: "conflict" });
    await rejects(program.output(), { code: "conflict" });
  }));

Deno.test("the result comes without an iteration, and no events come afterwards", () =>
  withRuns(async (start) => {
    const program = start(ECHO);
    equal((await program.result).exitCode, 3);
    throws(() => program[Symbol.asyncIterator](), { code: "conflict" });
  }));

Deno.test("a run that is left, disposed or aborted ends", () =>
  withRuns(async (start, _loads, active) => {
    const options = { language: "bash", code: "echo go; sleep 1000" } as const;
    const left = start(options);
    for await (const event of left) if (event.type === "stdout") break;
    await rejects(left.result, { code: "cancelled" });
    {
      await using disposed = start(options);
      void disposed.result.catch(() => {});
    }
    const abort = new AbortController();
    const aborted = start({ ...options, signal: abort.signal });
    await rejects(async () => {
      for await (const event of aborted) if (event.type === "stdout") abort.abort();
    }, { code: "cancelled" });
    while (active() > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }));

Deno.test("kill() reaches the program", () =>
  withRuns(async (start) => {
    const code = "trap 'exit 4' TERM; echo go; while :; do sleep 0.01; done";
    const program = start({ language: "bash", code });
    for await (const event of program) if (event.type === "stdout") await program.kill("TERM");
    equal((await program.result).exitCode, 4);
  }));

Deno.test("what cannot be loaded is the error of everything that was asked for", async () => {
  const failing = () => new LazyRun(() => Promise.reject(new Error("no such module")));
  await rejects(failing().result, /no such module/);
  await rejects(failing().output(), /no such module/);
  await rejects(failing().kill(), /no such module/);
  const program = failing();
  const { result } = program;
  await rejects(async () => {
    for await (const _ of program);
  }, /no such module/);
  await rejects(result, /no such module/);
});

Deno.test("options that do not fit together are refused at once", () => {
  throws(() => lazyRun({}), { code: "invalid-input" });
  throws(() => lazyRun({ source: "a", code: "b" }), { code: "invalid-input" });
});

Deno.test("importing the library or asking for the version loads neither the library nor the commands", async () => {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", new URL("../../mod.ts", import.meta.url).href],
  }).output();
  interface Module {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly code?: { readonly specifier?: string };
      readonly isDynamic?: boolean;
    }[];
  }
  const { modules } = JSON.parse(text(stdout)) as { modules: Module[] };
  const byName = new Map(modules.map((module) => [module.specifier, module]));
  const reached = new Set<string>();
  const follow = (name: string) => {
    if (reached.has(name)) return;
    reached.add(name);
    for (const { code, isDynamic } of byName.get(name)?.dependencies ?? []) {
      if (code?.specifier !== undefined && !isDynamic) follow(code.specifier);
    }
  };
  for (const name of ["mod.ts", "cli/main.ts"]) follow(new URL(`../${name}`, import.meta.url).href);
  const foreign = [...reached].filter((name) => /^(npm|jsr):/.test(name));
  deepEqual(foreign, []);
  const own = [...reached].filter((name) => name.startsWith("file:"));
  ok(!own.some((name) => /api\/run\.ts$|cli\/app\.ts$|run_stream/.test(name)), own.join("\n"));
});
