import { deepEqual, equal, match } from "node:assert/strict";
import { dirname, join } from "node:path";
import type { LanguageName } from "../../workload/languages.ts";
import { readSource } from "./source.ts";

/** A home directory with files in it, and how a file of it is read from a directory of it. */
async function withHome(
  files: readonly string[],
  test: (
    home: string,
    read: (path: string, from?: string, language?: LanguageName) => Promise<Found>,
  ) => Promise<void>,
): Promise<void> {
  const home = await Deno.realPath(await Deno.makeTempDir());
  try {
    for (const path of files) {
      await Deno.mkdir(join(home, dirname(path)), { recursive: true });
      await Deno.writeTextFile(join(home, path), "");
    }
    await test(home, async (path, from = "project", language = "python") => {
      const caller = { directory: join(home, from), home, temporary: [join(home, "tmp")] };
      const source = await readSource(join(home, path), { language, caller });
      return {
        files: source.files.map(({ path }) => path).join(" "),
        run: source.entryPoint!,
        in: source.workingDirectory,
        remarks: source.remarks,
      };
    });
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

interface Found {
  readonly files: string;
  readonly run: string;
  readonly in: string;
  readonly remarks: readonly string[];
}

const ALL = ["project/cli.py", "project/helper.py", "project/data/x", "project/.env", "other.py"];

Deno.test("a file is sent with its directory when that is small, but for hidden files", () =>
  withHome(ALL, async (_home, read) => {
    const remarks: string[] = [];
    const files = "cli.py data/x helper.py";
    deepEqual(await read("project/cli.py"), { files, run: "cli.py", in: "", remarks });
    // from a directory that has nothing to do with it
    deepEqual(await read("project/cli.py", "."), {
      files: "project/cli.py project/data/x project/helper.py",
      run: "project/cli.py",
      in: "",
      remarks,
    });
    deepEqual(await read("project/cli.py", "project/data"), {
      files,
      run: "cli.py",
      in: "data",
      remarks,
    });
  }));

Deno.test("the program's directory is the project's top when the caller's is elsewhere", () =>
  withHome([...ALL, "elsewhere/x"], async (_home, read) => {
    const { run, in: directory } = await read("project/cli.py", "elsewhere");
    deepEqual([run, directory], ["cli.py", ""]);
  }));

Deno.test("a marked project is sent whole, from its nearest mark", () =>
  withHome([
    "project/pyproject.toml",
    "project/.env",
    "project/package.json",
    "project/.git/config",
    "project/src/deep/cli.py",
    "project/src/deep/cli.js",
    "project/src/deep/run.sh",
    "pyproject.toml",
  ], async (_home, read) => {
    const all = ".env package.json pyproject.toml src/deep/cli.js src/deep/cli.py src/deep/run.sh";
    for (const [name, language] of [["cli.py", "python"], ["cli.js", "node"]] as const) {
      const path = `src/deep/${name}`;
      const found = await read(`project/${path}`, "project/src", language);
      deepEqual(found, { files: all, run: path, in: "src", remarks: [] });
    }
    const script = await read("project/src/deep/run.sh", "project", "bash");
    equal(script.files, "src/deep/cli.js src/deep/cli.py src/deep/run.sh");
  }));

Deno.test("a workspace is sent as a whole, up to the top of its repository", () =>
  withHome([
    "mono/package.json",
    "mono/.git/config",
    "mono/packages/a/package.json",
    "mono/packages/a/index.js",
    "mono/packages/b/index.js",
  ], async (home, read) => {
    const index = "mono/packages/a/index.js";
    const a = "packages/a/index.js packages/a/package.json";
    const mark = (path: string) =>
      Deno.writeTextFile(join(home, path), '{"workspaces": ["packages/*"]}');
    equal((await read(index, "mono", "node")).files, a);
    await mark("mono/package.json");
    const { files, run } = await read(index, "mono", "node");
    deepEqual([files, run], [`package.json ${a} packages/b/index.js`, "packages/a/index.js"]);
    await Deno.writeTextFile(join(home, "mono/package.json"), "{}");
    await mark("package.json"); // of the home directory
    await Deno.mkdir(join(home, "mono/packages/.git"));
    await mark("mono/package.json"); // of another repository
    equal((await read(index, "mono", "node")).files, a);
  }));

Deno.test("a home directory, what is above it and directories for temporary files are not sent", () =>
  withHome(
    ["a.py", "b.py", "package.json", "setup.py", "tmp/a.py", "tmp/b.py"],
    async (_, read) => {
      for (const path of ["a.py", "tmp/a.py"]) {
        deepEqual(await read(path, "."), { files: "a.py", run: "a.py", in: "", remarks: [] });
      }
    },
  ));

Deno.test("a file in a large directory is sent alone, with a remark when it names what is there", () =>
  withHome(["project/cli.py", "project/helper.py"], async (home, read) => {
    const data = join(home, "project/photos.tar");
    await Deno.writeFile(data, new Uint8Array((1 << 20) + 1));
    deepEqual(await read("project/cli.py"), {
      files: "cli.py",
      run: "cli.py",
      in: "",
      remarks: [],
    });
    await Deno.writeTextFile(join(home, "project/cli.py"), "import helper");
    const { files, remarks } = await read("project/cli.py");
    equal(files, "cli.py");
    match(remarks.join(), /cli\.py is sent without what is beside it: .*--entry cli\.py$/);
    await Deno.writeTextFile(join(home, "project/.cloudletignore"), "*.tar");
    equal((await read("project/cli.py")).files, ".cloudletignore cli.py helper.py");
  }));

Deno.test("a marked project that is too large gives way to the file's directory", () =>
  withHome(["project/setup.py", "project/src/cli.py", "project/src/x"], async (home, read) => {
    await Deno.writeFile(join(home, "project/data"), new Uint8Array(1));
    await Deno.truncate(join(home, "project/data"), 2 ** 40);
    const { files, remarks } = await read("project/src/cli.py");
    equal(files, "src/cli.py src/x");
    match(remarks.join(), /more than 64.0 MiB \(data /);
  }));

Deno.test("the directory of a link's target is what is around it", () =>
  withHome(["project/cli.py", "project/helper.py", "bin/x"], async (home, read) => {
    await Deno.symlink("../project/cli.py", join(home, "bin/cli.py"));
    equal((await read("bin/cli.py", "bin")).files, "cli.py helper.py");
  }));

Deno.test("a file of Rust has its directory with it only when it reads more", () =>
  withHome(["src/main.rs", "src/helper.rs"], async (home, read) => {
    equal((await read("src/main.rs", "src", "rust")).files, "main.rs");
    await Deno.writeTextFile(join(home, "src/main.rs"), "mod helper;\nfn main() {}");
    equal((await read("src/main.rs", "src", "rust")).files, "helper.rs main.rs");
  }));
