/** Files of the host that go into a run, and files that come out of it. */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { join } from "node:path";
import { withServer } from "../test/cli_process.ts";

type Run = (...args: string[]) => Promise<{ code: number; stdout: string; stderr: string }>;

/** Has a test run programs in the directory of the files. */
function inDirectory(
  files: Readonly<Record<string, string>>,
  test: (run: Run, path: (name: string) => string) => Promise<void>,
  directory = ".",
): Promise<void> {
  return withServer(files, (cloudlet, path) => {
    const run: Run = (...args) =>
      cloudlet(["run", ...args], { directory: path(directory) }).ended();
    return test(run, path);
  });
}

Deno.test("files and directories of the host come into the program's directory", () =>
  inDirectory({
    "a.sh": "cat in.txt data/x data/sub/y deep/er/z; find . | sort | tr '\\n' ' '",
    "in:put.txt": "1",
    "dir/x": "2",
    "dir/sub/y": "3",
    "z": "4",
  }, async (run, path) => {
    await Deno.chmod(path("z"), 0o755);
    const flags = ["--file", "in:put.txt:in.txt", "--file", "dir:data", "--file", "z:deep/er/"];
    const { code, stdout, stderr } = await run("--alone", ...flags, "a.sh");
    const tree =
      ". ./a.sh ./data ./data/sub ./data/sub/y ./data/x ./deep ./deep/er ./deep/er/z ./in.txt ";
    deepEqual([code, stdout, stderr], [0, `1234${tree}`, ""]);
  }));

Deno.test("a file that is given replaces the project's, and is where the program runs", () =>
  inDirectory({
    "project/pyproject.toml": "",
    "project/sub/main.py": "print(open('conf').read(), open('../conf').read())",
    "project/sub/conf": "project's",
    "conf": "given",
  }, async (run) => {
    const flags = ["--file", "../../conf:conf", "--file", "../../conf:../conf"];
    const { code, stdout, stderr } = await run(...flags, "main.py");
    deepEqual([code, stdout, stderr], [0, "given given\n", ""]);
  }, "project/sub"));

Deno.test("a command of an image runs where its files are, and gives files back", () =>
  inDirectory({ "in.txt": "hello" }, async (run, path) => {
    const flags = ["--image", "x:1", "--file", "in.txt:a/in.txt", "--output", "out.txt"];
    const { code, stderr } = await run(...flags, "cp", "a/in.txt", "out.txt");
    deepEqual([code, stderr], [0, ""]);
    equal(await Deno.readTextFile(path("out.txt")), "hello");
    const only = await run("--image", "x:1", "--output", "b:c", "sh", "-c", "echo b > b");
    deepEqual([only.code, only.stderr], [0, ""]);
    equal(await Deno.readTextFile(path("c")), "b\n");
  }));

const MAKER = `mkdir -p out/sub; head -c 600000 /dev/zero > out/zeros; printf x > out/sub/x
  chmod 751 out/sub/x; printf r > report; ln -s /etc/passwd out/link; exit 3`;

Deno.test("files and directories come back whole, under the names that are asked for", () =>
  inDirectory({ "a.sh": MAKER }, async (run, path) => {
    const outputs = [
      "--output",
      "out:results/all",
      "--output",
      "report:results/",
      "--output",
      "none",
    ];
    const { code, stdout, stderr } = await run(...outputs, "a.sh");
    deepEqual([code, stdout], [3, ""]);
    match(stderr, /^cloudlet: the program has made no "none"\n$/);
    equal((await Deno.readFile(path("results/all/zeros"))).length, 600000);
    equal(await Deno.readTextFile(path("results/report")), "r");
    equal(((await Deno.stat(path("results/all/sub/x"))).mode ?? 0) & 0o777, 0o751 & ~Deno.umask());
    const names = await Array.fromAsync(Deno.readDir(path("results/all")), ({ name }) => name);
    deepEqual(names.sort(), ["sub", "zeros"]); // no link
    const left = await Array.fromAsync(Deno.readDir(path("results")), ({ name }) => name);
    deepEqual(left.sort(), ["all", "report"]); // nothing temporary
    const again = await run("--json", "--output", "report", "a.sh");
    equal(await Deno.readTextFile(path("report")), "r");
    const events = again.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    deepEqual(events.filter(({ type }) => type === "file"), [
      { type: "file", path: "report", mode: 0o644, offset: 0, bytes: 1 },
    ]);
  }));

Deno.test("a directory that is there gets the new files, and no link of it is followed", () =>
  inDirectory(
    { "a.sh": MAKER, "out/old": "old", "out/zeros": "old", "else/x": "safe" },
    async (run, path) => {
      equal((await run("--alone", "--output", "out", "a.sh")).code, 3);
      equal(await Deno.readTextFile(path("out/old")), "old");
      equal((await Deno.readFile(path("out/zeros"))).length, 600000);
      await Deno.remove(path("out/sub"), { recursive: true });
      await Deno.symlink(path("else"), path("out/sub"));
      const linked = await run("--alone", "--output", "out", "a.sh");
      equal(linked.code, 125);
      match(linked.stderr, /Cannot write the output .*out\/sub: it is a link/);
      equal(await Deno.readTextFile(path("else/x")), "safe");
      // A link in the place of a file is replaced, not written through.
      await Deno.symlink(path("else/x"), path("report"));
      equal((await run("--alone", "--output", "report", "a.sh")).code, 3);
      equal(await Deno.readTextFile(path("else/x")), "safe");
      equal((await Deno.lstat(path("report"))).isFile, true);
      const directory = await run("--alone", "--output", "report:else", "a.sh");
      equal(directory.code, 125);
      match(directory.stderr, /else: it is a directory\n.*else\//);
    },
  ));

Deno.test("what is no place for a file is refused before anything runs", () =>
  inDirectory({ "a.sh": "echo ran", "x": "" }, async (run, path) => {
    for (
      const [flags, why] of [
        [["--file", "x"], /write SRC:DST/],
        [["--file", "x:/etc/x"], /"\/etc\/x".*program's directory/],
        [["--file", "x:../../x"], /"..\/..\/x".*program's directory/],
        [["--file", "nowhere:x"], /nowhere: there is no such file/],
        [["--output", "/etc/passwd"], /"\/etc\/passwd".*program's directory/],
        [["--output", "../x"], /write PATH:GOAL/],
        [["--output", "../x:y"], /"..\/x".*program's directory/],
        [["--output", "a", "--output", "a/b:c"], /"a\/b" is in "a"/],
        [["--output", "a:x/b"], /Cannot write the output .*x/],
      ] as const
    ) {
      const { code, stdout, stderr } = await run(...flags, path("a.sh"));
      match(stderr, why);
      deepEqual([code, stdout], [125, ""], flags.join(" "));
    }
    await rejects(Deno.lstat(join(path("."), "a")));
  }));
