/** `cloudlet serve` with microVMs: however it ends, nothing of them is left. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { checkoutPath, denoDir } from "../paths.ts";
import { hasKvm } from "./fixtures.ts";

interface Server extends AsyncDisposable {
  readonly url: string;
  /** Sends a signal, and waits for the end. @returns the exit code */
  end(signal: Deno.Signal): Promise<number>;
}

async function startServer(directory: string): Promise<Server> {
  const server = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", checkoutPath("../mod.ts"), "serve", "--api", "localhost:0"],
      ...["--vmm", "localhost:0", "--state", `${directory}/state`, "--grace", "1m"],
    ],
    env: { XDG_RUNTIME_DIR: `${directory}/runtime`, DENO_DIR: denoDir() },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const reader = server.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  const read = async () => {
    const { value, done } = await reader.read();
    said += value ?? "";
    return !done;
  };
  while (!said.includes("VmmService on")) {
    if (!await read()) throw new Error(`the server ended: ${said}`);
  }
  const rest = (async () => {
    while (await read());
  })();
  const end = async (signal: Deno.Signal) => {
    server.kill(signal);
    const { code } = await server.status;
    await rest;
    return code;
  };
  let ended = false;
  return {
    url: /HTTP API on (\S+),/.exec(said)![1]!,
    end(signal) {
      ended = true;
      return end(signal);
    },
    async [Symbol.asyncDispose]() {
      if (!ended) await end("SIGKILL");
    },
  };
}

/** Starts a program and reads its events until one has the text; `rest` reads those that follow. */
async function begin(url: string, id: string, code: string, until: string) {
  const response = await fetch(`${url}/run`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ language: "bash", code, id }),
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes(until)) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`the run ended: ${text}`);
    text += value;
  }
  return {
    async rest() {
      try {
        for (let step = await reader.read(); !step.done; step = await reader.read()) {
          text += step.value;
        }
      } catch {
        // the server was killed
      }
      return text;
    },
  };
}

Deno.test({
  name: "a server that is killed, or ends while programs run, leaves nothing of their microVMs",
  ignore: !hasKvm(),
  async fn() {
    const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
    const machines = () => Array.from(Deno.readDirSync(`${directory}/runtime/cloudlet`));
    try {
      {
        await using first = await startServer(directory);
        const run = await begin(first.url, "killed", "echo go; sleep 1000", '"go\\n"');
        ok(machines().length >= 1); // and those that wait for the next runs
        equal(await first.end("SIGKILL"), 137);
        await run.rest();
      }
      ok(machines().length >= 1); // and those that wait for the next runs
      await using second = await startServer(directory);
      deepEqual(machines(), []);
      const record = await (await fetch(`${second.url}/runs/killed`)).json();
      equal(record.outcome, "interrupted");

      const code = "trap 'echo bye; exit 5' TERM; echo go; sleep 1000 & wait";
      const run = await begin(second.url, "asked", code, '"go\\n"');
      ok(machines().length >= 1); // and those that wait for the next runs
      equal(await second.end("SIGTERM"), 0);
      match(await run.rest(), /"bye\\n".*"exit_code":5.*\n\n$/s);
      deepEqual(machines(), []);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
