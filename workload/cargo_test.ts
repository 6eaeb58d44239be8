import { equal, ok, throws } from "node:assert/strict";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { cargoProgram } from "./cargo.ts";

const listed = (files: Readonly<Record<string, string>>) => ({
  files: Object.keys(files),
  read: (path: string) => files[path],
});
const program = (files: Readonly<Record<string, string>>, entryPoint?: string) =>
  cargoProgram(listed(files), entryPoint);
const refused = (pattern: RegExp) => ({ code: "invalid-input", message: pattern });

const PACKAGE = '[package]\nname = "app"\nedition = "2021"\n';
const TWO = { "src/main.rs": "", "src/bin/tool.rs": "", "src/bin/server/main.rs": "" };

Deno.test("default-run names the program; without it, several are refused", () => {
  equal(program({ "Cargo.toml": `${PACKAGE}default-run = "tool"`, ...TWO }), "tool");
  throws(
    () => program({ "Cargo.toml": PACKAGE, ...TWO }),
    refused(/it has several programs: app, tool, server$/),
  );
  throws(
    () => program({ "Cargo.toml": `${PACKAGE}default-run = "x"`, ...TWO }),
    refused(/its default-run is "x", and it has app, tool, server/),
  );
  throws(() => program({ "Cargo.toml": PACKAGE, "src/lib.rs": "" }), refused(/has no program: /));
  equal(program({ "Cargo.toml": PACKAGE, "src/main.rs": "" }), undefined);
});

Deno.test("an entry point is a program's name, or its main file", () => {
  const files = { "Cargo.toml": PACKAGE, ...TWO, "tools/gen.rs": "" };
  equal(program(files, "server"), "server");
  equal(program(files, "src/bin/server/main.rs"), "server");
  equal(program(files, "src/main.rs"), "app");
  equal(program(files, "tools/gen.rs"), "tools/gen.rs"); // for rustc
  throws(() => program(files, "serve"), refused(/no program "serve"; it has app, tool, server/));
});

Deno.test("a program that needs a feature does not make others unclear", () => {
  const bins = '[[bin]]\nname = "extra"\npath = "extra.rs"\nrequired-features = ["x"]\n';
  equal(program({ "Cargo.toml": PACKAGE + bins, "src/main.rs": "", "extra.rs": "" }), undefined);
});

Deno.test("the members of a workspace have its programs", () => {
  const member = (name: string, more = "") => ({
    [`crates/${name}/Cargo.toml`]: `[package]\nname = "${name}"\nedition.workspace = true\n${more}`,
    [`crates/${name}/src/main.rs`]: "",
  });
  const workspace = '[workspace]\nmembers = ["crates/*"]\n';
  const both = { "Cargo.toml": workspace, ...member("a"), ...member("b") };
  throws(() => program(both), refused(/several programs: a, b/));
  equal(program({ ...both, ...member("b", 'default-run = "b"') }), "b");
  equal(program({ ...both, "Cargo.toml": `${workspace}exclude = ["crates/a"]` }), undefined);
  const defaults = `${workspace}default-members = ["crates/b"]`;
  equal(program({ ...both, "Cargo.toml": defaults }), undefined);
  equal(program({ ...both, "Cargo.toml": defaults }, "crates/b/src/main.rs"), "b");
});

Deno.test("what is not understood is left to cargo", () => {
  for (
    const manifest of [
      "",
      "[",
      "[package]\n",
      '[package]\nname = "a"\n[[bin]]\n',
      "[bin]\n",
      '[workspace]\nmembers = ["src/**"]\n',
      '[workspace]\nmembers = ["*s*r*c*"]\n',
      '[workspace]\nmembers = ["missing"]\n',
      `${PACKAGE}#${"x".repeat(1 << 20)}`,
    ]
  ) equal(program({ "Cargo.toml": manifest, ...TWO }, "x"), "x", manifest.slice(0, 40));
});

/** What cargo itself says of the packages that it builds at the top. */
async function metadataOf(directory: string) {
  const { success, stdout } = await new Deno.Command("cargo", {
    args: ["metadata", "--offline", "--no-deps", "--format-version", "1"],
    cwd: directory,
    stderr: "null",
  }).output();
  if (!success) return undefined;
  const metadata = JSON.parse(new TextDecoder().decode(stdout));
  const members: readonly string[] = metadata.workspace_default_members;
  return metadata.packages.filter(({ id }: { id: string }) => members.includes(id)) as readonly {
    readonly default_run: string | null;
    readonly targets: readonly { readonly kind: readonly string[]; readonly name: string }[];
  }[];
}

async function cargoIsHere(): Promise<boolean> {
  try {
    return (await new Deno.Command("cargo", { args: ["--version"], stdout: "null" }).output())
      .success;
  } catch {
    console.log("skipped: cargo does not run here");
    return false;
  }
}

Deno.test("cargo finds the same programs", async () => {
  if (!await cargoIsHere()) return;
  const name = fc.constantFrom("app", "one", "two");
  const bin = fc.record({
    name,
    path: fc.option(fc.constantFrom("src/main.rs", "src/bin/one.rs", "other.rs")),
  });
  const crate = fc.record({
    edition: fc.constantFrom("", 'edition = "2015"\n', 'edition = "2021"\n'),
    autobins: fc.constantFrom("", "autobins = false\n", "autobins = true\n"),
    defaultRun: fc.option(name),
    bins: fc.uniqueArray(bin, { maxLength: 2, selector: ({ name }) => name }),
    files: fc.subarray([
      "src/main.rs",
      "src/bin/one.rs",
      "src/bin/two/main.rs",
      "src/bin/two/x.rs",
      "src/bin/.hid.rs",
    ]),
  });
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(crate, { minLength: 1, maxLength: 2 }), async (crates) => {
      const files: Record<string, string> = {};
      crates.forEach(({ edition, autobins, defaultRun, bins, files: own }, i) => {
        const below = crates.length === 1 ? "" : `crates/${i}/`;
        files[`${below}Cargo.toml`] = `[package]\nname = "app${i || ""}"\nversion = "1.0.0"\n` +
          edition + autobins + (defaultRun === null ? "" : `default-run = "${defaultRun}"\n`) +
          bins.map(({ name, path }) =>
            `[[bin]]\nname = "${name}"\n${path === null ? "" : `path = "${path}"\n`}`
          ).join("");
        for (const path of ["src/lib.rs", "other.rs", ...own]) files[below + path] = "";
      });
      if (crates.length > 1) files["Cargo.toml"] = '[workspace]\nmembers = ["crates/*"]\n';
      const directory = await Deno.makeTempDir();
      try {
        for (const [path, text] of Object.entries(files)) {
          await Deno.mkdir(join(directory, dirname(path)), { recursive: true });
          await Deno.writeTextFile(join(directory, path), text);
        }
        const packages = await metadataOf(directory);
        if (packages === undefined) return; // cargo refuses it
        compared++;
        const names = packages.flatMap(({ targets }) =>
          targets.filter(({ kind }) => kind.includes("bin")).map(({ name }) => name)
        );
        const defaults = packages.map(({ default_run }) => default_run).filter((run) =>
          run !== null
        );
        for (const name of ["app", "app1", "one", "two", ".hid", "x"]) {
          const found = names.includes(name);
          const ours = () => program(files, name);
          if (found) equal(ours(), name);
          else throws(ours, refused(/no program/));
        }
        if (defaults.length === 1) equal(program(files), defaults[0]);
        else if (names.length === 1) equal(program(files), undefined);
        else throws(() => program(files), refused(/several programs|no program/));
      } finally {
        await Deno.remove(directory, { recursive: true });
      }
    }),
    { numRuns: 60 },
  );
  ok(compared > 10, `${compared}`);
});
