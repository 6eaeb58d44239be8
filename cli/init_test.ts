import { deepEqual, equal, match } from "node:assert/strict";
import { join } from "node:path";
import { Cloudlet, withServer } from "../test/cli_process.ts";
import { languages } from "../workload/languages.ts";
import { loadConfig } from "./config.ts";

const init = (directory: string, ...args: string[]) =>
  new Cloudlet(["init", ...args], { directory }).ended();

Deno.test("what init writes is a config that runs, for every language", async (t) => {
  for (const language of Object.keys(languages)) {
    const program = ({ python: "python3", rust: "rustc" } as Record<string, string>)[language] ??
      language;
    const here = await new Deno.Command(program, { args: ["--version"] }).output()
      .then(({ success }) => success, () => false); // rustup has one that may have no toolchain
    await t.step({
      name: language,
      ignore: !here,
      fn: () =>
        withServer({}, async (cloudlet, path) => {
          const made = await init(path("."), "--language", language, "first/one");
          const [hello, config] = made.stdout.trimEnd().split("\n");
          deepEqual([made.code, config], [0, "first/one/config.toml"]);
          match(hello!, /^first\/one\/hello\.[a-z]+$/);
          equal((await loadConfig(path(config!))).workloadName, "one");
          const run = await cloudlet(["run", "-q", path(config!)]).ended();
          deepEqual(run, { code: 0, stdout: "Hello from a microVM\n", stderr: "" });
        }),
    });
  }
});

Deno.test("init takes the program that is there, and overwrites nothing", () =>
  withServer({
    "one/tool.py": "print('tool')",
    "many/b.sh": "echo b",
    "many/a.sh": "echo a",
    "project/main.sh": "echo main",
    "both/a.py": "",
    "both/b.sh": "",
    "mine/config.toml": "mine",
    "mine/hello.py": "print('mine')",
  }, async (cloudlet, path) => {
    const output = async (name: string, ...args: string[]) => {
      const made = await init(path(name), ...args);
      equal(made.code, 0, made.stderr);
      const { code, stdout, stderr } = await cloudlet(["run", "-q", path(`${name}/config.toml`)])
        .ended();
      return code === 0 ? stdout : stderr;
    };
    equal(await output("one"), "tool\n");
    equal(await output("many"), "a\n");
    equal(await output("project"), "main\n");
    equal(await output("both", "--language", "bash@5"), "");
    match(await Deno.readTextFile(path("both/config.toml")), /^language = "bash@5\.2"/m);
    const both = await init(path("both"), "--force", "--language", "nope");
    equal(both.code, 2);
    const mine = await init(path("mine"));
    deepEqual([mine.code, mine.stdout], [1, ""]);
    match(mine.stderr, /Cannot write config\.toml: there is one already\n {2}-> give --force/);
    equal(await Deno.readTextFile(path("mine/config.toml")), "mine");
    equal(await output("mine", "--force"), "mine\n");
    equal(await Deno.readTextFile(path("mine/hello.py")), "print('mine')");
    await Deno.remove(path("both/config.toml"));
    const unclear = await init(path("both"));
    equal(unclear.code, 2);
    match(unclear.stderr, /do not tell a language\n.*--language: /);
    await Deno.symlink("/nowhere/at/all", join(path("both"), "config.toml"));
    equal((await init(path("both"), "--language", "bash")).code, 1); // no link is written through
  }));
