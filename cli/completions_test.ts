/** The completions of each shell, by the shell itself where it is installed. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { join } from "node:path";
import { Cloudlet, withServer } from "../test/cli_process.ts";
import { commands } from "./commands.ts";
import { completedCommands } from "./completion_model.ts";
import { completionScript, type Shell } from "./completion_scripts.ts";

/** Completes a line as a shell's user would see it, in the directory of the test. */
type Complete = (line: string) => Promise<string[]>;

/** Runs a function of the script with what is typed, and prints what it offers. */
const HARNESS: Readonly<Record<Shell, (line: string) => readonly string[]>> = {
  bash: (line) => [
    ...["bash", "--norc", "-c"],
    `source ./script; COMP_LINE=$1 COMP_POINT=\${#1}; _cloudlet; printf '%s\\n' "\${COMPREPLY[@]}"`,
    ...["bash", line],
  ],
  // Of zsh's own functions, what they are given is shown; a widget would need a terminal.
  zsh: (line) => [
    ...["zsh", "-f", "-c"],
    `compset() { cur=\${cur#*=}; }
     compadd() { shift; print -l -- $@; }
     _describe() { print -l -- \${\${(P)@[-1]}%%:*}; }
     _files() { [[ $1 == -/ ]] && print -l -- *(/) || print -l -- *; }
     source ./script; typeset -a words; words=("\${(@s: :)1}"); CURRENT=$#words; _cloudlet`,
    ...["zsh", line],
  ],
  fish: (line) => [
    ...["fish", "--no-config", "-c"],
    "source ./script; complete -C $argv[1] | string replace -r '\\t.*' ''",
    line,
  ],
};

async function run(command: readonly string[], directory: string): Promise<string> {
  const [program, ...args] = command;
  const { stdout, stderr } = await new Deno.Command(program!, {
    args,
    cwd: directory,
    env: { PATH: `${directory}/bin:${Deno.env.get("PATH")}`, HOME: directory },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  equal(text(stderr), "", command.join(" "));
  return text(stdout);
}

async function inShell(shell: Shell, test: (complete: Complete) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    const script = completionScript(shell, await completedCommands(commands));
    await Deno.writeTextFile(join(directory, "script"), script);
    await Deno.mkdir(join(directory, "bin"));
    // Stands for the command where a script asks it.
    const fake =
      '#!/bin/sh\n[ "$1 $2" = "completions --list" ] && printf "$3\\nalpine:3\\nalpine:4\\n"\n';
    await Deno.writeTextFile(join(directory, "bin/cloudlet"), fake, { mode: 0o755 });
    await Deno.writeTextFile(join(directory, "hello.py"), "");
    await Deno.mkdir(join(directory, "state"));
    await test(async (line) => {
      const cur = line.split(" ").at(-1)!.replace(/^--?[\w-]+=/, "");
      const offered = await run(HARNESS[shell](line), directory);
      // zsh itself filters by what is typed, and so does fish with what stands before.
      return offered.split("\n").filter((word) =>
        word !== "" && (shell === "bash" || word.includes(cur))
      );
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function isHere(shell: string): Promise<boolean> {
  return await new Deno.Command(shell, { args: ["-c", "true"] }).output()
    .then(({ success }) => success, () => false);
}

for (const shell of ["bash", "zsh", "fish"] as const) {
  Deno.test({
    name: `${shell} completes commands, flags and their values`,
    ignore: !await isHere(shell) && Deno.env.get("CI") !== "true",
    fn: () =>
      inShell(shell, async (complete) => {
        const plain = async (line: string) =>
          (await complete(line)).map((word) => word.replace(/^.*=/, "").replace(/\/$/, "")).sort();
        deepEqual(await plain("cloudlet sn"), ["snapshot"]);
        ok((await plain("cloudlet ")).length > 10);
        deepEqual(await plain("cloudlet image in"), ["inspect"]);
        deepEqual(await plain("cloudlet run --env-"), ["--env-file"]);
        deepEqual(await plain("cloudlet run --no-sn"), ["--no-snapshot"]);
        deepEqual(await plain("cloudlet --vers"), ["--version"]);
        deepEqual(await plain("cloudlet run --language pyth"), [
          "python",
          ...["3.10", "3.11", "3.12", "3.13", "3.14"].map((version) => `python@${version}`),
        ]);
        deepEqual(
          await plain("cloudlet run --language node@1"),
          shell === "bash" ? ["18"] : ["node@18"],
        );
        deepEqual(await plain("cloudlet run --language=ba"), ["bash", "bash@5.2"]);
        deepEqual(await plain("cloudlet run -q hel"), ["hello.py"]);
        deepEqual(await plain("cloudlet run --stdin hel"), ["hello.py"]);
        deepEqual(await plain("cloudlet run --memory 1G --env A=1 hel"), ["hello.py"]);
        deepEqual(await plain("cloudlet serve --state st"), ["state"]);
        deepEqual(await plain("cloudlet logs run"), ["runs"]);
        deepEqual(await plain("cloudlet stop -h run"), ["runs"]);
        const images = shell === "bash" ? ["3", "4"] : ["alpine:3", "alpine:4"];
        deepEqual(await plain("cloudlet run --image alpine:"), images);
        deepEqual(await plain("cloudlet run --image alpine:3 --pul"), ["--pull"]);
        // What follows the program is its own: its files, and no flag of ours.
        deepEqual(await plain("cloudlet run hello.py hel"), ["hello.py"]);
        deepEqual(await plain("cloudlet run hello.py --nam"), []);
        deepEqual(await plain("cloudlet run -- --nam"), []);
        deepEqual(await plain("cloudlet completions fi"), ["fish"]);
        deepEqual(await plain("cloudlet help confi"), ["config"]);
      }),
  });
}

Deno.test("what completes is what the commands take", async () => {
  const all = await completedCommands(commands);
  const run = all.find(({ path }) => path.join(" ") === "run")!;
  equal(run.takesProgram, true);
  equal(run.words.kind, "files");
  const help = await new Cloudlet(["run", "--help"]).ended();
  const shown = new Set(help.stdout.match(/--(no-)?[a-z]+(-[a-z]+)*/g));
  for (const { names, brief } of run.flags) {
    if (!names.includes("--help")) ok(help.stdout.includes(brief), brief);
    ok(
      names.some((name) => shown.has(name) || shown.has(name.replace("no-", ""))),
      names.join(" "),
    );
  }
  for (const { path, flags } of all) {
    const names = flags.flatMap(({ names }) => names);
    equal(new Set(names).size, names.length, path.join(" "));
    equal(names.includes("--list"), false);
  }
});

Deno.test("scripts get the names and ids of runs, and nothing of what could harm a shell", () =>
  withServer({ "a.sh": ":" }, async (cloudlet, path) => {
    equal((await cloudlet(["run", "--name", "web", path("a.sh")]).ended()).code, 0);
    const { code, stdout } = await cloudlet(["completions", "--list", "runs"]).ended();
    equal(code, 0);
    match(stdout, /^web\n[0-9a-f-]{36}\n$/);
    const wrong = await cloudlet(["completions", "tcsh"]).ended();
    equal(wrong.code, 2);
    match(wrong.stderr, /tcsh is not one of \(bash\|zsh\|fish\)/);
    equal((await cloudlet(["completions"]).ended()).code, 2);
  }));
