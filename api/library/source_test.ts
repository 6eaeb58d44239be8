import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import fc from "fast-check";
import { create } from "@bufbuild/protobuf";
import { Workspace } from "../../agent/workspace.ts";
import { FileSchema } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { checkRequest, LIMITS } from "../../workload/request.ts";
import { ExecuteRequestSchema } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { listProject } from "./project_files.ts";
import { languageOfSource, readAddedFiles, readSource, type SourceFile } from "./source.ts";

/** A directory named `proj` in one of its own, with files; a value that is "-> x" makes a link. */
async function withProject(
  files: Readonly<Record<string, string>>,
  test: (project: string) => Promise<void>,
): Promise<void> {
  const parent = await Deno.realPath(await Deno.makeTempDir());
  try {
    const project = join(parent, "proj");
    await Deno.mkdir(project);
    for (const [path, text] of Object.entries(files)) {
      const place = join(project, path);
      await Deno.mkdir(path.endsWith("/") ? place : dirname(place), { recursive: true });
      if (text.startsWith("-> ")) await Deno.symlink(text.slice(3), place);
      else if (!path.endsWith("/")) await Deno.writeTextFile(place, text);
    }
    await test(project);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}

/** A file as one line: its path, and what it is. */
function shown({ path, target, directory, mode }: SourceFile): string {
  if (target !== undefined) return `${path} -> ${target}`;
  return directory ? `${path}/` : (mode & 0o100) !== 0 ? `${path}*` : path;
}

const sent = async (path: string) => (await readSource(path)).files.map(shown);

Deno.test("links in a project travel as links, made relative where they must be", () =>
  withProject({
    "packages/lib/index.js": "",
    "node_modules/lib": "-> ../packages/lib",
    "releases/2/x": "",
    "current": "-> releases/2",
    "by-name": "-> ../proj/releases/2/x",
    "self": "-> .",
    "a/up": "-> ..",
    "a/twice": "-> up/current/x",
  }, async (project) => {
    await Deno.symlink(join(project, "releases/2"), join(project, "a/absolute"));
    await Deno.symlink("absolute/x", join(project, "a/by-absolute"));
    deepEqual(await sent(project), [
      "a/absolute -> ../releases/2",
      "a/by-absolute -> ../releases/2/x",
      "a/twice -> up/current/x",
      "a/up -> ..",
      "by-name -> releases/2/x",
      "current -> releases/2",
      "node_modules/lib -> ../packages/lib",
      "packages/lib/index.js",
      "releases/2/x",
      "self -> .",
    ]);
  }));

Deno.test("links that lead nowhere or out are left out, with one remark", () =>
  withProject({
    "main.py": "",
    ".#main.py": "-> ada@host.1234:5678",
    ".venv/bin/python": "-> /usr/bin/env",
    "loop": "-> pool",
    "pool": "-> loop",
    "sideways": "-> ../other",
  }, async (project) => {
    await Deno.writeTextFile(join(project, "../other"), "");
    const { files, remarks } = await readSource(project);
    deepEqual(files.map(shown), [".venv/bin/", "main.py"]);
    deepEqual(remarks, [
      `Left out of ${project}: 3 links that lead nowhere (.#main.py, loop, pool); ` +
      "2 links that lead out of it (.venv/bin/python, sideways)",
    ]);
  }));

Deno.test("empty directories and executable bits arrive, sockets and pipes do not", () =>
  withProject({ "main.sh": "", "log/": "", "var/run/": "", "bin/tool": "" }, async (project) => {
    await Deno.chmod(join(project, "bin/tool"), 0o755);
    using _socket = Deno.listen({ transport: "unix", path: join(project, "var/run/socket") });
    await new Deno.Command("mkfifo", { args: [join(project, "pipe")] }).output();
    const { files, remarks } = await readSource(project);
    deepEqual(files.map(shown), ["bin/tool*", "log/", "main.sh", "var/run/"]);
    deepEqual(remarks, [
      `Left out of ${project}: 2 sockets, pipes or devices (pipe, var/run/socket)`,
    ]);
  }));

Deno.test("a name that is not UTF-8 is an error that says which", () =>
  withProject({ "main.py": "", "data/x": "" }, async (project) => {
    const script = `printf x > "$0/data/$(printf 'caf\\351 \\377.txt')"`;
    await new Deno.Command("bash", { args: ["-c", script, project] }).output();
    await rejects(readSource(project), {
      code: "invalid-input",
      message: `Cannot read the source ${project}/data/caf\\351\\ \\377.txt: its name is not UTF-8`,
    });
    await Deno.writeTextFile(join(project, ".cloudletignore"), "data/caf*");
    deepEqual(await sent(project), [".cloudletignore", "data/x", "main.py"]);
    const around = await readSource(join(project, "main.py"), { language: "python" });
    deepEqual(around.remarks, []);
  }));

Deno.test("history, caches and what .cloudletignore names are not sent", () =>
  withProject({
    "Cargo.toml": "",
    "target/debug/x": "",
    "src/target/x": "",
    ".git/config": "",
    "sub/.git": "gitdir: elsewhere",
    "pkg/__pycache__/x.pyc": "",
    "node_modules/m/index.js": "",
    "data/large": "",
    "data/keep": "",
    ".cloudletignore": "# large\ndata/*\n!data/keep\n",
  }, async (project) => {
    deepEqual(await sent(project), [
      ".cloudletignore",
      "Cargo.toml",
      "data/keep",
      "node_modules/m/index.js",
      "pkg/", // as Docker: the directory is not named
      "src/target/x",
      "sub/",
    ]);
    await Deno.writeTextFile(join(project, ".cloudletignore"), "*\n!target/**/x\n!.git/**\n");
    deepEqual(await sent(project), [".git/config", "target/debug/x"]);
    await Deno.writeTextFile(join(project, ".cloudletignore"), "\n[");
    await rejects(readSource(project), { message: /\.cloudletignore: line 2: / });
  }));

Deno.test("the size of a large project is told, and one that is too large is refused", () =>
  withProject({ "main.py": "", "node_modules/": "", "data/": "" }, async (project) => {
    const grow = (path: string, bytes: number) =>
      Deno.writeFile(join(project, path), new Uint8Array(bytes));
    await grow("node_modules/x", 14 << 20);
    await grow("data/x", 3 << 20);
    deepEqual((await readSource(project)).remarks, [
      `Sending 17.0 MiB of ${project}: node_modules 14.0 MiB, data 3.0 MiB, main.py 0.0 MiB; ` +
      `list what is not needed in ${project}/.cloudletignore`,
    ]);
    await Deno.truncate(join(project, "data/x"), 2 ** 40); // sparse; it must not be read
    await rejects(readSource(project), {
      code: "invalid-input",
      message: /more than 64.0 MiB \(data 1048576.0 MiB, node_modules 14.0 MiB, /,
      remedy: `list what is not needed in ${project}/.cloudletignore, or put data into the image`,
    });
  }));

Deno.test("more entries, depth or path than a guest's agent takes is an error that says so", () =>
  withProject({ "main.py": "" }, async (project) => {
    const deep = "d/".repeat(LIMITS.depth + 1);
    await Deno.mkdir(join(project, deep), { recursive: true });
    await rejects(readSource(project), { message: /it is more than 128 directories deep/ });
    const around = await readSource(join(project, "main.py"), { language: "python" });
    equal(around.entryPoint, "main.py"); // which was all that was asked for
    match(around.remarks.join(), /^Left out of .*: a path that is too long /);
    await Deno.remove(join(project, "d"), { recursive: true });
    const long = Array(13).fill("n".repeat(250)).join("/");
    await Deno.mkdir(join(project, long), { recursive: true });
    await rejects(readSource(project), { message: /its path has more than 3072 bytes/ });
    await Deno.remove(join(project, "n".repeat(250)), { recursive: true });
    for (const path of ["a/b/x", "a/l", "a/d"]) {
      await Deno.mkdir(join(project, path), { recursive: true });
    }
    const list = (entries: number) => listProject(project, { limits: { entries, bytes: 1 << 20 } });
    equal((await list(6)).entries.length, 4); // in two directories
    await rejects(list(5), {
      message: /more than 5 files, links and directories \(a 3, main.py 1\)/,
    });
  }));

Deno.test("what cannot be read is an error when it was asked for", () =>
  withProject({ "main.py": "", "secret": "" }, async (project) => {
    if (Deno.uid() === 0) return console.log("skipped: root may read everything");
    await Deno.chmod(join(project, "secret"), 0);
    await rejects(readSource(project), { message: /secret: you may not read it/ });
  }));

Deno.test("an entry point is a file of the project; its name tells the language", () =>
  withProject({ "package.json": "", "tools/cli.py": "", "t": "-> tools" }, async (project) => {
    for (const entryPoint of ["tools/cli.py", "./tools/cli.py", "t/cli.py"]) {
      const source = await readSource(project, { entryPoint });
      equal(source.entryPoint, entryPoint.replace("./", ""));
      equal(await languageOfSource(project, entryPoint), "python");
    }
    const absolute = await readSource(project, { entryPoint: join(project, "tools/cli.py") });
    equal(absolute.entryPoint, "tools/cli.py");
    equal(await languageOfSource(project), "node");
    await rejects(readSource(project, { entryPoint: "tools/cly.py" }), {
      code: "invalid-input",
      message: `Cannot run "tools/cly.py": the project ${project} has no such file`,
      remedy: "did you mean tools/cli.py?",
    });
    await rejects(readSource(project, { entryPoint: "../x" }), { code: "invalid-input" });
    await rejects(readSource(join(project, "tools/cli.py"), { entryPoint: "x.py" }), {
      message: /is one file/,
    });
  }));

Deno.test("what is added to an image has its links and directories", () =>
  withProject({ "etc/a": "", "etc/b": "-> a", "etc/d/": "" }, async (project) => {
    const added = await readAddedFiles({ "/opt/x": join(project, "etc") });
    deepEqual(added.map(shown), ["opt/x/a", "opt/x/b -> a", "opt/x/d/"]);
  }));

/** All paths of a tree that lead to something in it, each with where it leads to. */
function waysOf(root: string): Map<string, string> {
  const ways = new Map<string, string>();
  const visit = (below: string, depth: number) => {
    for (const { name } of Deno.readDirSync(join(root, below))) {
      const path = join(below, name);
      let real: string;
      try {
        real = Deno.realPathSync(join(root, path));
      } catch {
        continue; // it leads nowhere
      }
      const way = relative(root, real);
      if (way.startsWith("..")) continue;
      ways.set(path, way);
      if (depth < 3 && Deno.statSync(real).isDirectory) visit(path, depth + 1);
    }
  };
  visit("", 0);
  return ways;
}

Deno.test("every way through a project's links leads to the same in its copy, and none out of it", async () => {
  const names = ["a", "b", "c", "a/x", "b/x", "b/y", "a/x/z"];
  const target = fc.oneof(
    fc.array(fc.constantFrom("..", "a", "b", "c", "x", "y", "."), { minLength: 1, maxLength: 4 })
      .map((parts) => parts.join("/")),
    fc.constantFrom(
      "PROJECT/a",
      "PROJECT/b/x",
      "PROJECT",
      "../proj/b",
      "/",
      "/usr",
      "../other",
      "..",
    ),
  );
  const kind = fc.oneof(fc.constant("file"), fc.constant("directory"), target);
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.tuple(fc.constantFrom(...names), kind), { selector: ([name]) => name }),
      (made) =>
        withProject({ "main": "" }, async (project) => {
          for (const [path, kind] of made.sort(([a], [b]) => a < b ? -1 : 1)) {
            const place = join(project, path);
            try {
              Deno.mkdirSync(dirname(place), { recursive: true });
              if (Deno.realPathSync(dirname(place)) !== dirname(place)) continue;
            } catch {
              continue; // something else is there
            }
            if (kind === "file") Deno.writeTextFileSync(place, path);
            else if (kind === "directory") Deno.mkdirSync(place);
            else Deno.symlinkSync(kind.replace("PROJECT", project), place);
          }
          const { files } = await readSource(project);
          const messages = files.map((file) => create(FileSchema, file));
          checkRequest(
            create(ExecuteRequestSchema, { language: "python", options: { files: messages } }),
          );
          // In a directory of another name, below which nothing is what it was.
          const workspace = Workspace.create(join(project, "../elsewhere"), messages);
          deepEqual(waysOf(workspace.project), waysOf(project));
          for (const { path, target } of files) {
            if (target === undefined) continue;
            ok(!target.startsWith("/"));
            const real = Deno.realPathSync(join(workspace.project, path));
            match(relative(workspace.project, real), /^(?!\.\.)/);
          }
        }),
    ),
    { numRuns: 100 },
  );
});
