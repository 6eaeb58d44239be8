import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { join } from "node:path";
import { isHere } from "../../agent/harness_test.ts";
import { checkoutPath } from "../../test/paths.ts";
import { withProcessRuns } from "../../test/process_runs.ts";
import { type Run, run, type RunOptions, runOver } from "./run.ts";

/** Runs over the same calls as in production; the machines are processes of this host. */
async function withRuns(
  test: (start: (options: RunOptions) => Run, active: () => number) => Promise<void>,
): Promise<void> {
  await withProcessRuns(async (transport, service) => {
    await test((options) => runOver(transport, options), () => service.active.length);
  });
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("output() gives all that was written and how it ended", () =>
  withRuns(async (start) => {
    const code = "cat; echo err >&2; exit 3";
    const output = await start({ language: "bash", code, stdin: "in" }).output();
    equal(text(output.stdout), "in");
    equal(text(output.stderr), "err\n");
    deepEqual([output.exitCode, output.ok, output.outcome], [3, true, "exited"]);
    ok(output.usage !== undefined && output.usage.wallTime > 0);
  }));

Deno.test("iterating shows events in their order, and the result with the last", () =>
  withRuns(async (start) => {
    const types: string[] = [];
    const program = start({ language: "bash", code: "echo a", stdin: new Uint8Array() });
    const { result } = program; // read before the iteration begins, as destructuring does
    for await (const event of program) {
      if (event.type !== "log") types.push(event.type === "stage" ? event.stage : event.type);
    }
    deepEqual(types, ["pending", "running", "stdout", "exit"]);
    equal((await result).exitCode, 0);
    throws(() => program[Symbol.asyncIterator](), { code: "conflict" });
  }));

Deno.test("the result comes when nobody iterates", () =>
  withRuns(async (start) => {
    equal(
      (await start({ language: "bash", code: "yes | head -c 3000000; exit 2" }).result).exitCode,
      2,
    );
  }));

Deno.test("an endless standard input ends with the program", () =>
  withRuns(async (start) => {
    async function* endless() {
      for (;;) {
        yield new Uint8Array(1000).fill(0x61);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
    const { stdout } = await start({
      language: "bash",
      code: "head -c 5000 | wc -c",
      stdin: endless(),
    })
      .output();
    equal(text(stdout).trim(), "5000");
  }));

Deno.test("an aborted, disposed or left run ends", () =>
  withRuns(async (start, active) => {
    const options = { language: "bash", code: "echo go; sleep 1000" } as const;
    const abort = new AbortController();
    const aborted = start({ ...options, signal: abort.signal });
    await rejects(async () => {
      for await (const event of aborted) if (event.type === "stdout") abort.abort();
    }, { code: "cancelled" });
    await rejects(aborted.result, { code: "cancelled" });
    {
      await using disposed = start(options);
      void disposed.result.catch(() => {});
    }
    const left = start(options);
    for await (const event of left) if (event.type === "stdout") break;
    await rejects(left.result, { code: "cancelled" });
    while (active() > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }));

Deno.test("kill() sends a signal to the program", () =>
  withRuns(async (start) => {
    const program = start({
      language: "bash",
      code: "trap 'exit 4' TERM; echo go; while :; do sleep 0.01; done",
    });
    for await (const event of program) if (event.type === "stdout") await program.kill("TERM");
    equal((await program.result).exitCode, 4);
  }));

Deno.test("options that do not fit together, and sources that are not there, are refused", () =>
  withRuns(async (start) => {
    throws(() => run({}), { code: "invalid-input" });
    throws(() => run({ source: "a.py", code: "" }), { code: "invalid-input" });
    await rejects(start({ source: "/nowhere/x.py" }).result, { code: "not-found" });
    await rejects(start({ code: "x" }).result, { code: "invalid-input" });
  }));

Deno.test("cargo's default-run is run, and several programs are refused before they are built", () =>
  withRuns(async (start) => {
    if (!await isHere("cargo")) return;
    const source = await Deno.makeTempDir();
    try {
      const write = (path: string, text: string) => Deno.writeTextFile(join(source, path), text);
      const manifest = '[package]\nname = "app"\nversion = "1.0.0"\nedition = "2021"\n';
      await Deno.mkdir(join(source, "src/bin"), { recursive: true });
      for (const path of ["src/bin/one.rs", "src/bin/two.rs"]) {
        await write(path, `fn main() { println!("${path}") }`);
      }
      await write("Cargo.toml", manifest);
      const stages: string[] = [];
      await rejects(async () => {
        for await (const event of start({ source })) {
          if (event.type === "stage") stages.push(event.stage);
        }
      }, { code: "invalid-input", message: /several programs: one, two/ });
      deepEqual(stages, []);
      const named = await start({ source, entryPoint: "one" }).output();
      equal(text(named.stdout), "src/bin/one.rs\n", text(named.stderr));
      await write("Cargo.toml", `${manifest}default-run = "two"\n`);
      const output = await start({ source }).output();
      equal(text(output.stdout), "src/bin/two.rs\n", text(output.stderr));
    } finally {
      await Deno.remove(source, { recursive: true });
    }
  }));

Deno.test("importing the library needs no permission, and nothing is left running", async () => {
  const module = new URL("../../mod.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--config", checkoutPath("../deno.json"), "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(
    `import { run } from ${JSON.stringify(module)};
     const program = run({ language: "bash", code: "never started" });
     console.log(typeof program.kill);`,
  ));
  await writer.close();
  const { stdout, stderr, code } = await child.output(); // which waits for its end
  equal(text(stderr), "");
  deepEqual([text(stdout), code], ["function\n", 0]);
});
