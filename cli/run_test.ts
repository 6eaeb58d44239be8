/** `cloudlet run` as a process of its own, on a server whose agents are processes of this host. */
import { deepEqual, equal, match } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Cloudlet, withServer } from "../test/cli_process.ts";

Deno.test("output goes to the same streams, and the exit code is the program's", () =>
  withServer({ "a.sh": 'printf "out $1 $X\\n"; echo err >&2; exit 9' }, async (cloudlet, path) => {
    const ended = await cloudlet(["run", "-q", "-e", "X=1", path("a.sh"), "--", "--flag"]).ended();
    deepEqual(ended, { code: 9, stdout: "out --flag 1\n", stderr: "err\n" });
  }));

Deno.test("a config file tells what to run, and flags go before it", () =>
  withServer({
    "project/main.py": "import sys, os\nfrom lib.a import f\nprint(f(sys.argv), os.environ['A'])",
    "project/lib/a.py": "def f(x): return x[1:]",
    "config.toml": 'workload-name = "w"\n[build]\nsource-code-path = "project"\n' +
      '[run]\nargs = ["from", "config"]\nenv = { A = "config" }\n',
  }, async (cloudlet, path) => {
    const plain = await cloudlet(["run", path("config.toml")]).ended();
    equal(plain.stdout, "['from', 'config'] config\n", plain.stderr);
    const flags = await cloudlet(["run", "-e", "A=flag", path("config.toml"), "x"]).ended();
    equal(flags.stdout, "['x'] flag\n", flags.stderr);
  }));

const PROJECT = {
  "project/cli.py": "import os, helper\nprint(helper.word, sorted(os.listdir()))",
  "project/helper.py": 'word = "hi"',
  "project/.hidden": "",
};

Deno.test("a file runs with the modules beside it, in the directory of the command", () =>
  withServer(PROJECT, async (cloudlet, path) => {
    const from = async (directory: string, ...args: string[]) => {
      const { code, stdout, stderr } = await cloudlet(["run", "-q", ...args], {
        directory: path(directory),
      }).ended();
      return code === 0 ? stdout : stderr.split("\n").at(-2);
    };
    equal(await from(".", "project/cli.py"), "hi ['project']\n");
    equal(await from("project", "cli.py"), "hi ['cli.py', 'helper.py']\n");
    const lonely = await from("project", "--alone", "cli.py");
    equal(lonely, "ModuleNotFoundError: No module named 'helper'");
  }));

Deno.test("a flag or the config names the file of a project that is run", () =>
  withServer({
    ...PROJECT,
    "project/main.py": "print('main')",
    "config.toml": '[build]\nsource-code-path = "project"\nentry-point = "cli.py"\n',
  }, async (cloudlet, path) => {
    const all = "['.hidden', 'cli.py', 'helper.py', 'main.py']";
    const flag = await cloudlet(["run", "--entry", "cli.py", path("project")]).ended();
    deepEqual(flag, { code: 0, stdout: `hi ${all}\n`, stderr: "" });
    const config = await cloudlet(["run", path("config.toml")]).ended();
    deepEqual(config, { code: 0, stdout: `hi ${all}\n`, stderr: "" });
    const both = await cloudlet(["run", "--entry", "main.py", path("config.toml")]).ended();
    deepEqual(both, { code: 0, stdout: "main\n", stderr: "" });
    const missing = await cloudlet(["run", "--entry", "clu.py", path("project")]).ended();
    equal(missing.code, 125);
    match(missing.stderr, /Cannot run "clu\.py".*\n.*did you mean cli\.py/);
  }));

Deno.test("what is left out of a project is told on standard error", () =>
  withServer({ "project/main.sh": "echo *" }, async (cloudlet, path) => {
    await Deno.symlink("nobody@nowhere", path("project/.#main.sh"));
    const { code, stdout, stderr } = await cloudlet(["run", path("project")]).ended();
    deepEqual([code, stdout], [0, "main.sh\n"]);
    match(stderr, /^Left out of .*: a link that leads nowhere \(\.#main\.sh\)\n$/);
  }));

Deno.test("with an image, what follows -- is its command, and what stands before is a source", () =>
  withServer({
    "a.sh": 'echo "source $1"',
    "config.toml": '[image]\nfrom = "x:1"\n[run]\nargs = ["sh", "-c", "pwd"]\n',
  }, async (cloudlet, path) => {
    const image = ["run", "-q", "--image", "x:1"];
    const command = await cloudlet([...image, "--", "sh", "-c", 'echo "$0"; exit 4', "a"]).ended();
    deepEqual(command, { code: 4, stdout: "a\n", stderr: "" });
    const source = await cloudlet([...image, path("a.sh"), "--", "b"]).ended();
    deepEqual(source, { code: 0, stdout: "source b\n", stderr: "" });
    const config = await cloudlet(["run", "-q", path("config.toml")]).ended();
    deepEqual(config, { code: 0, stdout: "/\n", stderr: "" });
    const nothing = await cloudlet(["run", "-q"]).ended();
    equal(nothing.code, 125);
    match(nothing.stderr, /neither a program nor an image/);
    const local = await cloudlet(["run", "-q", "--image", "oci:/x", "--", "true"]).ended();
    equal(local.code, 125, local.stderr);
    match(local.stderr, /server's own disk/);
  }));

Deno.test("bytes pass unchanged from standard input to standard output", () =>
  withServer({ "cat.sh": "cat" }, async (cloudlet, path) => {
    const bytes = crypto.getRandomValues(new Uint8Array(65536));
    const size = bytes.length * 64; // too large to go with the request
    const input = () => ReadableStream.from(Array.from({ length: 64 }, () => bytes));
    const command = cloudlet(["run", "-q", path("cat.sh")], { stdin: "piped" });
    const [ended] = await Promise.all([
      new Response(command.output()).bytes(),
      command.feed(input()),
    ]);
    equal(ended.length, size);
    await command.stderr();
    equal(await command.code(), 0);
    const expected = new Uint8Array(size);
    for (let i = 0; i < 64; i++) expected.set(bytes, i * bytes.length);
    equal(Buffer.compare(ended, expected), 0);
  }));

Deno.test("--stdin reads a file, --timeout ends the program and says so", () =>
  withServer({ "a.sh": "wc -c; sleep 1000", "in.txt": "12345" }, async (cloudlet, path) => {
    const ended = await cloudlet(
      ["run", "--stdin", path("in.txt"), "--timeout", "500ms", path("a.sh")],
    ).ended();
    deepEqual([ended.code, ended.stdout], [137, "5\n"]);
    match(ended.stderr, /ran longer than its time limit/);
  }));

Deno.test("--json prints one event a line", () =>
  withServer({ "a.sh": "echo hi; printf '\\377'; exit 2" }, async (cloudlet, path) => {
    const { code, stdout } = await cloudlet(["run", "--json", path("a.sh")]).ended();
    equal(code, 2);
    const events = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    deepEqual(events.filter(({ type }) => type === "stage").map(({ stage }) => stage), [
      "pending",
      "running",
    ]);
    equal(events.at(-1).type, "exit");
    equal(events.at(-1).exitCode, 2);
    const bytes = events.filter(({ type }) => type === "stdout").flatMap((event) =>
      event.text === undefined
        ? [...Uint8Array.fromBase64(event.base64)]
        : [...new TextEncoder().encode(event.text)]
    );
    deepEqual(bytes, [0x68, 0x69, 0x0a, 0xff]);
  }));

Deno.test("Ctrl-C reaches the program, and the second one ends the run", async () => {
  const polite = "trap 'exit 5' INT; echo go; while :; do sleep 0.02; done";
  const deaf = "trap 'echo no' INT; echo go; while :; do sleep 0.02; done";
  await withServer({ "polite.sh": polite, "deaf.sh": deaf }, async (cloudlet, path) => {
    const first = cloudlet(["run", path("polite.sh")]);
    const stdout = await first.until("go");
    first.kill("SIGINT");
    equal(await first.code(), 5);
    await stdout.cancel();
    await first.stderr();
    const second = cloudlet(["run", path("deaf.sh")]);
    const reader = await second.until("go");
    second.kill("SIGINT");
    for (let seen = ""; !seen.includes("no");) {
      seen += new TextDecoder().decode((await reader.read()).value);
    }
    second.kill("SIGINT");
    equal(await second.code(), 130);
    await reader.cancel();
    await second.stderr();
  });
});

Deno.test("a reader that goes away ends the run, as SIGPIPE would", () =>
  withServer({ "yes.sh": "yes" }, async (cloudlet, path) => {
    const command = cloudlet(["run", path("yes.sh")]);
    const reader = await command.until("y\ny\n");
    await reader.cancel();
    equal(await command.code(), 141);
    equal(await command.stderr(), "");
  }));

Deno.test("ps, logs and stop show and end runs", () =>
  withServer({ "a.sh": "echo out; echo err >&2; sleep 1000" }, async (cloudlet, path, active) => {
    const command = cloudlet(["run", path("a.sh")]);
    const reader = await command.until("out");
    const [id] = active();
    const ps = await cloudlet(["ps"]).ended();
    match(ps.stdout, new RegExp(`${id}.*a\\.sh.*bash.*running`));
    const following = cloudlet(["logs", "--follow", id!]);
    const followed = await following.until("out\n"); // while the program runs
    const stop = await cloudlet(["stop", id!.slice(0, 8)]).ended();
    equal(stop.stdout, `${id}: stopped\n`);
    equal(await command.code(), 137);
    await reader.cancel();
    match(await command.stderr(), /err\n.*was stopped/);
    equal(await following.code(), 0);
    equal((await followed.read()).done, true);
    equal(await following.stderr(), "err\n");
    const logs = await cloudlet(["logs", id!]).ended();
    deepEqual(logs, { code: 0, stdout: "out\n", stderr: "err\n" });
    equal((await cloudlet(["ps", "--json"]).ended()).stdout, "");
    const missing = await cloudlet(["stop", "nobody"]).ended();
    equal(missing.code, 1);
    match(missing.stderr, /Cannot find the run "nobody"/);
    match((await cloudlet(["shutdown"]).ended()).stdout, /no run to end/);
  }));

Deno.test("a server that is not there is an error with a remedy", async () => {
  const ended = await new Cloudlet(["ps", "--server", "http://localhost:1"]).ended();
  equal(ended.code, 1);
  match(ended.stderr, /Cannot reach the server http:\/\/localhost:1.*\n {2}-> start it with/);
});
