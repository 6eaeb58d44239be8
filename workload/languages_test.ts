import assert from "node:assert/strict";
import { entryPoint, languageNamed, languageOfFile, languages, type Project } from "./languages.ts";

function project(files: Record<string, string>, options: Partial<Project> = {}): Project {
  return {
    directory: "/work/p",
    output: "/work/o",
    files: Object.keys(files),
    entryPoint: undefined,
    release: false,
    read: (path) => files[path],
    executables: () => [],
    ...options,
  };
}

const refused = (pattern: RegExp) => (error: unknown) => {
  assert.equal((error as { code?: string }).code, "invalid-input");
  assert.match((error as Error).message, pattern);
  return true;
};

Deno.test("each language is found by its name and by each of its extensions", () => {
  for (const language of Object.values(languages)) {
    assert.equal(languageNamed(language.name), language);
    for (const extension of language.extensions) {
      assert.equal(languageOfFile(`dir/x${extension}`), language);
    }
    assert(language.extensions.some((extension) => language.sourceFile.endsWith(extension)));
  }
  assert.equal(languageOfFile("README"), undefined);
});

Deno.test("an unknown language is refused with the known ones", () => {
  for (const name of ["cobol", "", "constructor", "__proto__", "Python"]) {
    assert.throws(() => languageNamed(name), refused(/unknown/));
  }
});

Deno.test("the entry point is the named file, the usual one, or the only source", () => {
  const { python } = languages;
  assert.equal(entryPoint(python, project({ "main.py": "", "a.py": "" })), "main.py");
  assert.equal(entryPoint(python, project({ "hello.py": "", "data.txt": "" })), "hello.py");
  assert.equal(
    entryPoint(python, project({ "main.py": "", "a.py": "" }, { entryPoint: "a.py" })),
    "a.py",
  );
  assert.throws(
    () => entryPoint(python, project({ "a.py": "", "b.py": "" })),
    refused(/2 source files/),
  );
  assert.throws(() => entryPoint(python, project({ "a.txt": "" })), refused(/no source file/));
  assert.throws(
    () => entryPoint(python, project({ "a.py": "" }, { entryPoint: "../a.py" })),
    refused(/no such file/),
  );
});

Deno.test("node runs the main of package.json before its usual entry points", () => {
  const { node } = languages;
  const files = { "index.js": "", "lib/start.js": "", "package.json": '{"main":"./lib/start"}' };
  assert.equal(node.run(project(files)).at(-1), "/work/p/lib/start.js");
  assert.equal(
    node.run(project(files, { entryPoint: "index.js" })).at(-1),
    "/work/p/index.js",
  );
  assert.equal(
    node.run(project({ ...files, "package.json": "null" })).at(-1),
    "/work/p/index.js",
  );
  assert.throws(() => node.run(project({ ...files, "package.json": "{" })), refused(/package/));
});

Deno.test("rust compiles one file by rustc and a package by cargo", () => {
  const { rust } = languages;
  assert.deepEqual(rust.build?.(project({ "main.rs": "" }, { release: true })), [
    "rustc",
    "--edition=2021",
    "--crate-name=workload",
    "-O",
    "-Cstrip=debuginfo",
    "-o",
    "/work/o/workload",
    "/work/p/main.rs",
  ]);
  const cargo = project({ "Cargo.toml": "", "src/main.rs": "" }, {
    executables: (directory) => [`${directory}/one`, `${directory}/two`],
  });
  assert.equal(rust.build?.(cargo)?.[0], "cargo");
  assert.deepEqual(rust.build?.({ ...cargo, entryPoint: "two" })?.slice(-2), ["--bin", "two"]);
  assert.equal(rust.build?.({ ...cargo, entryPoint: "src/main.rs" })?.[0], "rustc");
  assert.throws(() => rust.run(cargo), refused(/one, two/));
  assert.deepEqual(rust.run({ ...cargo, entryPoint: "two" }), ["/work/o/debug/two"]);
  assert.throws(() => rust.run({ ...cargo, entryPoint: "three" }), refused(/no such program/));
});
