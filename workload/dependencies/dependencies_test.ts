import assert from "node:assert/strict";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { madeFile } from "./dependencies.ts";
import { type DependencyQuery, findDependencies } from "./find.ts";

function query(
  language: string,
  files: Record<string, string>,
  more: Partial<DependencyQuery> = {},
) {
  return {
    ...{ language, code: "", groups: [] },
    files: Object.entries(files).map(([path, text]) => madeFile(path, text)),
    ...more,
  };
}

async function found(...args: Parameters<typeof query>) {
  const dependencies = await findDependencies(query(...args));
  return dependencies && {
    ...{ manifest: dependencies.manifest, names: dependencies.names, args: dependencies.args },
    files: dependencies.files.map(({ path }) => path),
  };
}

async function contentOf(path: string, ...args: Parameters<typeof query>) {
  const dependencies = await findDependencies(query(...args));
  const file = dependencies?.files.find((file) => file.path === path);
  return new TextDecoder().decode(file?.content);
}

Deno.test("requirements.txt is read with what it includes, and nothing else of the project", async () => {
  const files = {
    "main.py": "",
    "requirements.txt": "# all\n-r more/base.txt\nnumpy>=1.2 ; python_version > '3'  # why\n" +
      "requests[socks]==2.0 \\\n  --hash=sha256:00\n--index-url https://example.com/\n-c limits.txt\n",
    "more/base.txt": "Flask\n-r ../requirements.txt\n",
    "limits.txt": "werkzeug<3\n",
  };
  assert.deepEqual(await found("python", files), {
    manifest: "requirements.txt",
    names: ["Flask", "numpy", "requests"],
    args: ["-r", "requirements.txt"],
    files: ["requirements.txt", "more/base.txt", "limits.txt"],
  });
  assert.equal(await found("python", { "requirements.txt": "# none\n\n" }), undefined);
  assert.equal(await found("bash", files), undefined);
  await assert.rejects(
    () => found("python", { "requirements.txt": "-r missing.txt" }),
    /Cannot read missing.txt: the project has no such file/,
  );
});

Deno.test("what is of the project itself is copied, not linked, and needs all of it", async () => {
  for (const line of ["./lib", "lib/", "-e .", "own @ file:lib", "lib/own-1.0-py3-none-any.whl"]) {
    const files = { "main.py": "", "requirements.txt": `six\n${line}\n`, "lib/setup.py": "" };
    const dependencies = await found("python", files);
    assert.deepEqual(dependencies?.files, Object.keys(files), line);
  }
  const text = await contentOf("requirements.txt", "python", {
    "requirements.txt": "-e ./lib\nsix\n",
  });
  assert.equal(text, "./lib\nsix\n");
  const remote = {
    "requirements.txt": "https://example.com/a-1.0.tar.gz\ngit+https://example.com/b\n",
    "x.py": "",
  };
  assert.deepEqual((await found("python", remote))?.files, ["requirements.txt"]);
});

Deno.test("pyproject.toml: its dependencies, the groups that are asked for, or what only its build knows", async () => {
  const text = `[project]\nname = "x"\ndependencies = ["rich>=10", "attrs"]\n` +
    `[dependency-groups]\ntest = ["pytest", { include-group = "Lint_It" }]\nlint-it = ["ruff"]\n` +
    `loop = [{ include-group = "loop" }]\n`;
  const files = { "pyproject.toml": text, "main.py": "" };
  assert.deepEqual(await found("python", files), {
    manifest: "pyproject.toml",
    names: ["rich", "attrs"],
    args: ["-r", "dependencies.txt"],
    files: ["dependencies.txt"],
  });
  const groups = { groups: ["test"] };
  assert.deepEqual((await found("python", files, groups))?.names, [
    "rich",
    "attrs",
    "pytest",
    "ruff",
  ]);
  assert.equal(
    await contentOf("dependencies.txt", "python", files, groups),
    "rich>=10\nattrs\npytest\nruff\n",
  );
  await assert.rejects(
    () => found("python", files, { groups: ["docs"] }),
    /no dependency group "docs"/,
  );
  await assert.rejects(() => found("python", files, { groups: ["loop"] }), /include one another/);
  await assert.rejects(
    () => found("python", { "pyproject.toml": "x =" }),
    /Cannot read pyproject.toml/,
  );
  const dynamic = { "pyproject.toml": `[project]\ndynamic = ["dependencies"]\n`, "setup.py": "" };
  assert.deepEqual((await found("python", dynamic))?.args, [".", "-r", "dependencies.txt"]);
  assert.equal(await found("python", { "pyproject.toml": "[tool.ruff]\n" }), undefined);
});

Deno.test("a script's own block counts before all others", async () => {
  const script = "#!/usr/bin/env python3\n# /// script\n# requires-python = '>=3.11'\n" +
    '# dependencies = [\n#   "rich",\n# ]\n# ///\nimport rich\n';
  assert.deepEqual((await found("python", {}, { code: script }))?.names, ["rich"]);
  const files = { "tool.py": script, "requirements.txt": "six\n" };
  assert.deepEqual((await found("python", files, { entryPoint: "tool.py" }))?.names, ["rich"]);
  assert.deepEqual((await found("python", files))?.names, ["six"]);
});

Deno.test("npm: what decides is sent; all of it where scripts or links may look at it", async () => {
  const manifest = (more: object) => JSON.stringify({ dependencies: { a: "^1" }, ...more });
  const files = { "index.js": "", "package.json": manifest({}), ".npmrc": "" };
  assert.deepEqual(await found("node", files), {
    manifest: "package.json",
    names: ["a"],
    args: ["install"],
    files: ["package.json", ".npmrc"],
  });
  const locked = { ...files, "package-lock.json": "{}" };
  assert.deepEqual((await found("node", locked))?.args, ["ci"]);
  const scripted = { ...files, "package.json": manifest({ scripts: { postinstall: "x" } }) };
  assert.deepEqual((await found("node", scripted))?.files, Object.keys(scripted));
  const workspaces = {
    "package.json": JSON.stringify({ workspaces: ["packages/*"] }),
    "packages/b/package.json": JSON.stringify({ devDependencies: { c: "1" } }),
    "packages/b/index.js": "",
  };
  assert.deepEqual((await found("node", workspaces))?.names, ["c"]);
  assert.equal(await found("node", { ...files, "node_modules/a/index.js": "" }), undefined);
  assert.equal(await found("node", { "package.json": "{}" }), undefined);
  await assert.rejects(() => found("node", { "package.json": "{" }), /Cannot read package.json/);
});

Deno.test("cargo: crates from elsewhere, and sources only by their names", async () => {
  const toml = `[package]\nname = "x"\n[dependencies]\nserde = "1"\nown = { path = "own" }\n` +
    `[target.'cfg(unix)'.dependencies]\nlibc = { version = "0.2" }\n[dev-dependencies]\ng = { git = "http://h/g" }\n`;
  const files = { "Cargo.toml": toml, "src/main.rs": "fn main() {}", "README.md": "" };
  assert.deepEqual(await found("rust", files), {
    manifest: "Cargo.toml",
    names: ["serde", "g", "libc"],
    args: [],
    files: ["Cargo.toml", "src/main.rs"],
  });
  assert.equal(await contentOf("src/main.rs", "rust", files), "");
  const lock =
    `[[package]]\nname = "x"\n[[package]]\nname = "serde"\nsource = "registry+https://r"\n`;
  const locked = await found("rust", { ...files, "Cargo.lock": lock });
  assert.deepEqual([locked?.names, locked?.args], [["serde"], ["--locked"]]);
  const own = `[[package]]\nname = "x"\n`;
  assert.equal(await found("rust", { ...files, "Cargo.lock": own }), undefined);
  const vendored = { ...files, ".cargo/config.toml": `[source.v]\ndirectory = "vendor"\n` };
  assert.equal(await found("rust", vendored), undefined);
  assert.equal(await found("rust", { "main.rs": "" }), undefined);
});

Deno.test("deno: imports from elsewhere, wherever they are written", async () => {
  const files = {
    "main.ts": `import a from "npm:a@1";\nawait import('jsr:@b/c');\nexport * from "./own.ts";\n`,
    "deno.json": `{ // why\n  "imports": { "d": "npm:d", "e": "./e.ts" },\n}`,
    "README.md": `import "npm:not-a-source"`,
  };
  const dependencies = await found("deno", files);
  assert.deepEqual(dependencies?.names, ["npm:a@1", "jsr:@b/c", "npm:d"]);
  assert.deepEqual(dependencies?.files, ["deno.json", "dependencies.ts"]);
  assert.equal(
    await contentOf("dependencies.ts", "deno", files),
    `import "jsr:@b/c";\nimport "npm:a@1";\n`,
  );
  assert.deepEqual((await found("deno", {}, { code: `import "npm:z";` }))?.names, ["npm:z"]);
  assert.equal(await found("deno", {}, { code: `import "node:fs";` }), undefined);
});

Deno.test("whatever a manifest holds, it is read or refused in words", async () => {
  const names = [
    "requirements.txt",
    "pyproject.toml",
    "package.json",
    "Cargo.toml",
    "Cargo.lock",
    "deno.json",
    "main.ts",
  ];
  const piece = fc.oneof(
    fc.string({ maxLength: 20 }),
    fc.constantFrom(
      "[project]\n",
      "dependencies",
      " = ",
      '["a"]',
      "-r ",
      "\\\n",
      "{}",
      '"x": ',
      "[[package]]\n",
      "import '",
      "npm:",
    ),
  );
  const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(""));
  const language = fc.constantFrom("python", "node", "rust", "deno");
  const files = fc.dictionary(fc.constantFrom(...names), text, { maxKeys: 4 });
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(language, files, text, async (language, files, code) => {
      try {
        await findDependencies(query(language, files, { code }));
      } catch (error) {
        assert(error instanceof CloudletError && error.code === "invalid-input", String(error));
        refused++;
      }
    }),
    { numRuns: 2000 },
  );
  assert(refused > 0);
});
