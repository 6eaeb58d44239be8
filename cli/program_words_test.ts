/** Which words of a command line are cloudlet's, and which the program's. */
import { deepEqual, equal, match } from "node:assert/strict";
import { withServer } from "../test/cli_process.ts";
import { splitAtProgram } from "./program_words.ts";
import { runCommand } from "./run_command.ts";

const FILES = {
  "a.sh": 'printf "[%s]" "$@"',
  "b.py": "import sys\nprint(sys.argv[1:], end='')",
  "project/main.sh": 'printf "project [%s]" "$@"',
  "config.toml": '[build]\nsource-code-path = "a.sh"\n[run]\nargs = ["config"]\n',
};

Deno.test("what follows the script is the script's, flags of our own names included", () =>
  withServer(FILES, async (cloudlet, path) => {
    const output = async (...args: string[]) => {
      const { code, stdout, stderr } = await cloudlet(["run", "-q", ...args]).ended();
      return code === 0 ? stdout : stderr;
    };
    equal(await output(path("a.sh"), "--name", "bob", "-e", "X"), "[--name][bob][-e][X]");
    equal(await output(path("b.py"), "--help", "--version"), "['--help', '--version']");
    equal(await output(path("a.sh"), "--", "--name"), "[--name]");
    equal(await output(path("a.sh"), "--", "--", "a"), "[--][a]");
    equal(await output(path("a.sh"), "a", "--", "b"), "[a][--][b]");
    equal(await output("-e", "X=1", "--timeout=50", "--", path("a.sh"), "-v"), "[-v]");
    equal(await output(path("config.toml")), "[config]");
    equal(await output(path("config.toml"), "--timeout", "x"), "[--timeout][x]");
    match(await output("--nope", path("a.sh")), /--nope/);
    match(await output("--timeout", "x", path("a.sh")), /Cannot use timeout/);
  }));

Deno.test("with an image, a command needs no dashes, and a source is told from one", () =>
  withServer(FILES, async (cloudlet, path) => {
    const output = async (...args: string[]) => {
      const { code, stdout, stderr } = await cloudlet(["run", "-q", "--image", "x:1", ...args], {
        directory: path("."),
      }).ended();
      return code === 0 ? stdout : stderr;
    };
    equal(await output("printf", "[%s]", "--name", "-q"), "[--name][-q]");
    equal(await output("/bin/sh", "-c", 'printf "$0"', "a"), "a");
    equal(await output("a.sh", "-e"), "[-e]");
    equal(await output("./project", "-e"), "project [-e]");
    equal(await output("project/", "-e"), "project [-e]");
    equal(await output("project", "--", "-e"), "project [-e]"); // as it always was
    equal(await output("--language", "bash", "project"), "project []");
    equal(await output("--", "printf", "[%s]", "--", "a"), "[--][a]");
    match(await output("project"), /Cannot start "project"/);
    match(await output("/cloudlet-entrypoint.sh"), /Cannot start "\/cloudlet-entrypoint\.sh"/);
    match(await output("missing.sh"), /missing\.sh: there is no such file/);
  }));

Deno.test("help and version of a command come before its program", () =>
  withServer({}, async (cloudlet) => {
    const help = await cloudlet(["run", "--help", "x.py"]).ended();
    deepEqual([help.code, help.stderr], [0, ""]);
    match(help.stdout, /USAGE/);
  }));

Deno.test("the first word that is neither a flag nor its value is the program", () => {
  const { parameters } = runCommand;
  for (
    const [line, own, words, dashes] of [
      ["", "", "", undefined],
      ["-q", "-q", "", undefined],
      ["a -q", "", "a -q", undefined],
      ["-e A a -q", "-e A", "a -q", undefined],
      ["-e=A a -q", "-e=A", "a -q", undefined],
      ["--env A --env=B -qv a", "--env A --env=B -qv", "a", undefined],
      ["--build-env A --buildEnv B a", "--build-env A --buildEnv B", "a", undefined],
      ["--no-stdin --no-snapshot a", "--no-stdin --no-snapshot", "a", undefined],
      ["--stdin - a", "--stdin -", "a", undefined],
      ["--unknown a b", "--unknown", "a b", undefined],
      ["--constructor a", "--constructor", "a", undefined],
      ["- -q", "", "- -q", undefined],
      ["-1 a", "", "-1 a", undefined],
      ["-- a -q", "", "a -q", "before"],
      ["-q -- -q", "-q", "-q", "before"],
      ["--env -- a", "--env", "a", "before"],
      ["a -- -q", "", "a -q", "after"],
      ["a -- -- b", "", "a -- b", "after"],
      ["a b -- c", "", "a b -- c", undefined],
    ] as const
  ) {
    const split = splitAtProgram(line.split(" ").filter((word) => word !== ""), parameters);
    deepEqual([split.own.join(" "), split.words.join(" "), split.dashes], [own, words, dashes]);
  }
});
