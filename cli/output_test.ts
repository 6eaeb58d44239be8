/** Commands whose reader has gone, and commands that write to a full disk. */
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { denoDir } from "../test/paths.ts";
import { testService } from "../test/service.ts";

const MOD = fileURLToPath(new URL("../mod.ts", import.meta.url));
const CLOUDLET = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", MOD];

/** Each writes something to standard output; SERVER is a server's address. */
const COMMANDS: readonly (readonly string[])[] = [
  ["--version"],
  ["run", "--help"],
  ["key", "alice"],
  ["help"],
  ["help", "config"],
  ["completions", "bash"],
  ["init", "--force", "--language", "bash", "DIRECTORY"],
  ["image", "ls"],
  ["image", "ls", "--available"],
  ["snapshot", "ls"],
  ["doctor"],
  ["ps", "--all", "--server", "SERVER"],
  ["logs", "old", "--server", "SERVER"],
  ["stop", "old", "--server", "SERVER"],
  ["shutdown", "--server", "SERVER"],
  ["run", "--code", "SERVER"],
  ["run", "--dry-run", "DIRECTORY/a.sh"],
];

async function withServer(test: (url: string, env: Record<string, string>) => Promise<void>) {
  await using server = await testService();
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/a.sh`, "echo a; echo b >&2");
    const body = { language: "bash", code: "echo hello", id: "old" };
    const run = await fetch(`${server.url}/run`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    await run.text();
    const env = { XDG_CACHE_HOME: directory, HOME: directory, NO_COLOR: "1", DENO_DIR: denoDir() };
    await test(server.url, env);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** The arguments of a command of the table, with a run of a program in place of `--code`. */
function argumentsOf(command: readonly string[], url: string, directory: string): string[] {
  if (command[1] === "--code") return ["run", "--server", url, "-q", `${directory}/a.sh`];
  return command.map((word) => word === "SERVER" ? url : word.replace(/^DIRECTORY/, directory));
}

Deno.test("a command whose reader has gone ends as SIGPIPE would end it, and says nothing", () =>
  withServer(async (url, env) => {
    for (const command of COMMANDS) {
      const [program, ...args] = CLOUDLET;
      const child = new Deno.Command(program!, {
        args: [...args, ...argumentsOf(command, url, env["HOME"]!)],
        ...{ env, stdin: "null", stdout: "piped", stderr: "piped" },
      }).spawn();
      await child.stdout.cancel(); // long before it has started
      const stderr = await new Response(child.stderr).text();
      const { code } = await child.status;
      const own = command[0] === "key" ? /^The key of alice: \S+\n$/ : /^(b\n)?$/;
      match(stderr, own, command.join(" "));
      equal(code, 141, command.join(" "));
    }
  }));

/** A command under a shell's redirections. */
async function redirected(args: readonly string[], to: string, env: Record<string, string>) {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", `exec "$@" ${to}`, "sh", ...CLOUDLET, ...args],
    env,
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("output that does not fit is an error in one line", () =>
  withServer(async (url, env) => {
    for (const command of COMMANDS) {
      const args = argumentsOf(command, url, env["HOME"]!);
      const { code, stderr } = await redirected(args, ">/dev/full", env);
      const why = "cloudlet: Cannot write the output: no space left on device\n";
      ok(stderr.includes(why), `${command.join(" ")}: ${stderr}`);
      doesNotMatch(stderr, /^ +at |os error/m, command.join(" "));
      equal(code, command[0] === "run" ? 125 : 1, command.join(" "));
    }
  }));

Deno.test("what only accompanies the output may be lost, and what a program writes may not", () =>
  withServer(async (url, env) => {
    const key = await redirected(["key", "alice"], "2>/dev/full", env);
    match(key.stdout, /^alice: sha256:/);
    equal(key.code, 0);
    const wrong = await redirected(["ps", "--nope"], "2>/dev/full", env);
    deepEqual(wrong, { code: 2, stdout: "", stderr: "" });
    const file = `${env["HOME"]}/a.sh`;
    const run = await redirected(["run", "--server", url, file], "2>/dev/full", env);
    equal(run.code, 125);
    const closed = await redirected(["key", "alice"], "2>&-", env);
    equal(closed.code, 0);
  }));

Deno.test("Ctrl-C ends a command that waits, and nothing is said", () =>
  withServer(async (_url, env) => {
    await using silent = Deno.serve({ port: 0, hostname: "localhost", onListen() {} }, async () => {
      asked.resolve();
      await over.promise;
      return new Response();
    });
    const over = Promise.withResolvers<void>();
    let asked = Promise.withResolvers<void>();
    const nobody = `http://localhost:${silent.addr.port}`;
    try {
      for (
        const command of [
          ["ps", "--server", nobody],
          ["stop", "x", "--server", nobody],
          ["logs", "x", "--server", nobody],
          ["fork", "--server", nobody, "x"],
          ["run", "--server", nobody, `${env["HOME"]}/a.sh`],
        ]
      ) {
        asked = Promise.withResolvers();
        const [program, ...args] = CLOUDLET;
        const child = new Deno.Command(program!, {
          args: [...args, ...command],
          ...{ env, stdin: "null", stdout: "piped", stderr: "piped" },
        }).spawn();
        await asked.promise;
        child.kill("SIGINT");
        const { code, stdout, stderr } = await child.output();
        const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
        deepEqual([code, text], [130, ""], command.join(" "));
      }
    } finally {
      over.resolve();
    }
  }));
