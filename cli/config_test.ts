import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { join } from "node:path";
import { CloudletError } from "../base/errors.ts";
import { formatReference, parseReference } from "../builder/oci/reference.ts";
import { loadConfig, parseConfig } from "./config.ts";
import { parseCount, parseDuration, parseMemory } from "./units.ts";

async function inDirectory(test: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(join(directory, "main.py"), "print(1)\n");
    await test(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function messageFor(content: string): Promise<string> {
  let message = "";
  await inDirectory(async (directory) => {
    try {
      await parseConfig(content, join(directory, "config.toml"));
    } catch (error) {
      ok(error instanceof CloudletError, String(error));
      equal(error.code, "invalid-input");
      ok(error.remedy);
      message = error.message.replaceAll(directory + "/", "");
    }
  });
  return message;
}

Deno.test("a config file with every field is read as written", () =>
  inDirectory(async (directory) => {
    await Deno.writeTextFile(join(directory, "input.txt"), "");
    const file = join(directory, "config.toml");
    await Deno.writeTextFile(
      file,
      `workload-name = "fibonacci"
language = "python"
action = "prepare"
server = { address = "10.0.0.1", port = 50052 }
[build]
source-code-path = "main.py"
release = true
env = { RUSTFLAGS = "-g" }
network = { allow = ["pypi.org"] }
install = true
groups = ["test"]
host-config = true
[run]
args = ["a", "b c"]
env = { A = "1", B = "x=y" }
stdin = "input.txt"
timeout = "1m30s"
[vm]
vcpus = 2
memory = "1G"
[network]
access = "public"
allow = ["host:8080"]
deny = ["198.51.100.0/24"]
publish = ["8080:80"]
bandwidth = "10Mbit"
[image]
from = "alpine:3"
packages = ["python3-numpy"]
files = { "/etc/input" = "input.txt" }
run = ["touch /etc/made"]
`,
    );
    deepEqual(await loadConfig(file), {
      path: file,
      workloadName: "fibonacci",
      language: "python",
      action: "prepare",
      server: { address: "10.0.0.1", port: 50052 },
      source: join(directory, "main.py"),
      entryPoint: undefined,
      release: true,
      buildEnv: { RUSTFLAGS: "-g" },
      buildNetwork: { allow: ["pypi.org"], deny: [], secrets: {} },
      install: true,
      groups: ["test"],
      hostConfig: true,
      run: {
        args: ["a", "b c"],
        env: { A: "1", B: "x=y" },
        stdin: join(directory, "input.txt"),
        timeout: 90_000,
      },
      vm: { vcpus: 2, memory: 1024, kernel: undefined },
      network: {
        access: "public",
        allow: ["host:8080"],
        deny: ["198.51.100.0/24"],
        publish: ["8080:80"],
        secrets: {},
        bandwidth: "10Mbit",
      },
      image: {
        from: formatReference(parseReference("alpine:3")),
        packages: ["python3-numpy"],
        files: { "/etc/input": join(directory, "input.txt") },
        run: ["touch /etc/made"],
      },
    });
  }));

Deno.test("an image needs no source, and a directory of images is found from the config file", () =>
  inDirectory(async (directory) => {
    const content = `[image]\nfrom = "oci:images:a"\n`;
    const config = await parseConfig(content, join(directory, "config.toml"));
    equal(config.source, undefined);
    equal(config.language, undefined);
    equal(config.image.from, `oci:${join(directory, "images")}:a`);
  }));

Deno.test("a kernel is one of the known names, or a file that has to be there", () =>
  inDirectory(async (directory) => {
    const kernel = async (value: string) => {
      const content = `[build]\nsource-code-path = "main.py"\n[vm]\nkernel = "${value}"\n`;
      return (await parseConfig(content, join(directory, "config.toml"))).vm.kernel;
    };
    equal(await kernel("debian"), "debian");
    equal(await kernel("built"), "built");
    equal(await kernel("main.py"), join(directory, "main.py"));
    await rejects(kernel("vmlinux"), /config\.toml:4:\d+: vm\.kernel: .* does not exist/);
  }));

Deno.test("only the source is needed; the rest has defaults", () =>
  inDirectory(async (directory) => {
    const content = '[build]\nsource-code-path = "main.py"\n';
    const config = await parseConfig(content, join(directory, "config.toml"));
    equal(config.language, "python");
    equal(config.workloadName, "main.py");
    equal(config.action, "prepare-and-run");
    deepEqual(config.server, { address: "localhost", port: 3000 });
    equal(config.run.timeout, undefined);
  }));

Deno.test("an entry point is a file of the project, and tells its language", () =>
  inDirectory(async (directory) => {
    const parse = (content: string) => parseConfig(content, join(directory, "config.toml"));
    await Deno.writeTextFile(join(directory, "package.json"), "{}");
    const build = '[build]\nsource-code-path = "."\n';
    const { entryPoint, language } = await parse(`${build}entry-point = "main.py"`);
    deepEqual([entryPoint, language], ["main.py", "python"]);
    const cargo = await parse(`language = "rust"\n${build}entry-point = "server"`);
    equal(cargo.entryPoint, "server");
  }));

Deno.test("a language may have a version, or the beginning of one", () =>
  inDirectory(async (directory) => {
    const file = join(directory, "config.toml");
    for (const [text, language] of [["python@3.11", "python@3.11"], ["node@2", undefined]]) {
      const content = `language = "${text}"\n${BUILD}`;
      if (language === undefined) {
        await rejects(parseConfig(content, file), { code: "invalid-input" });
      } else equal((await parseConfig(content, file)).language, language);
    }
    equal((await parseConfig(`language = "rust@1"\n${BUILD}`, file)).language, "rust@1.85");
  }));

const BUILD = '[build]\nsource-code-path = "main.py"\n';
const WRONG: readonly (readonly [what: string, content: string, expected: RegExp])[] = [
  ["a mistyped language", 'language = "pyhton@3.11"\n' + BUILD, /:1:1: language: .*is none of/],
  ["an unknown version", 'language = "python@2"\n' + BUILD, /:1:1: language: .*python@3\.13, /],
  ["a mistyped key", 'languge = "python"\n' + BUILD, /config\.toml:1:1: languge: .*"language"\?/],
  ["a mistyped nested key", BUILD + "relase = true", /:3:1: build\.relase: .*"release"\?/],
  ["a key with the wrong case", BUILD + "Release = true", /:3:1: build\.Release: .*"release"\?/],
  ["a key in the wrong table", "timeout = 3\n" + BUILD, /:1:1: timeout: .*table \[run\]/],
  [
    "a top key in a table",
    BUILD + 'language = "python"',
    /:3:1: build\.language: .*top of the file/,
  ],
  ["an unknown table", BUILD + "[nonsense]\na = 1", /:3:2: nonsense: unknown key$/m],
  ["a wrong type", BUILD + "release = 1", /:3:1: build\.release: expected a boolean, .*number 1/],
  ["a table's wrong type", 'build = "x"', /:1:1: build: expected a table, found the string "x"/],
  [
    "an array's wrong element",
    BUILD + '[run]\nargs = ["a",\n 1]',
    /:5:2: run\.args\.1: expected a str/,
  ],
  [
    "a value in an inline table",
    BUILD + "[run]\nenv = { A = 1 }",
    /:4:9: run\.env\.A: expected a string/,
  ],
  ["a dotted key", BUILD + "[run]\nenv.A = 1", /:4:5: run\.env\.A: expected a string/],
  ["an unknown language", 'language = "pyton"\n' + BUILD, /:1:1: language: "pyton".*"python"\?/],
  [
    "an unknown action",
    'action = "prepare_and_run"\n' + BUILD,
    /:1:1: action: .*"prepare-and-run"\?/,
  ],
  [
    "a port out of range",
    BUILD + "[server]\nport = 70000",
    /:4:1: server\.port: must be at most 65535/,
  ],
  [
    "a bad timeout",
    BUILD + '[run]\ntimeout = "soon"',
    /:4:1: run\.timeout: .*"soon" as a duration/,
  ],
  ["a bad memory size", BUILD + '[vm]\nmemory = "1 elephant"', /:4:1: vm\.memory: .*memory size/],
  [
    "an entry point that is missing",
    '[build]\nsource-code-path = "."\nentry-point = "no.py"',
    /:3:1: build\.entry-point: no\.py is no file; it starts from source-code-path/,
  ],
  [
    "an entry point of a file",
    BUILD + 'entry-point = "main.py"',
    /:3:1: build\.entry-point: belongs to a project, and source-code-path is a file/,
  ],
  [
    "an entry point of nothing",
    '[build]\nentry-point = "x"\n[image]\nfrom = "x"',
    /:2:1: build\.entry-point: belongs to a project, and there is no source-code-path/,
  ],
  ["no source", 'language = "python"', /config\.toml: build\.source-code-path: is missing/],
  ["a wrong image", '[image]\nfrom = "UPPER"', /:2:1: image\.from: .*lower case/],
  ["a relative place", BUILD + '[image.files]\n"etc/x" = "main.py"', /absolute path/],
  ["an empty build table", "[build]", /:1:2: build\.source-code-path: is missing/],
  [
    "a missing source",
    '[build]\nsource-code-path = "no.py"',
    /:2:1: build\.source-code-path: no\.py does/,
  ],
  [
    "a missing stdin",
    BUILD + '[run]\nstdin = "no.txt"',
    /:4:1: run\.stdin: no\.txt does not exist/,
  ],
  ["a directory as stdin", BUILD + '[run]\nstdin = "."', /:4:1: run\.stdin: .* is a directory/],
  ["text that is not TOML", "a = [1,\n\n", /config\.toml:\d+:\d+: /],
  ["a key written twice", "a = 1\na = 2", /config\.toml:2:\d+: /],
  [
    "a bad package name",
    BUILD + '[image]\npackages = ["../x"]',
    /:4:13: image\.packages\.0: is no name/,
  ],
  [
    "a variable with =",
    BUILD + '[run]\nenv = { "A=B" = "1" }',
    /:4:9: run\.env\.A=B: a variable's name/,
  ],
];
for (const [what, content, expected] of WRONG) {
  Deno.test(`${what} is refused with file, line and key`, async () => {
    match(await messageFor(content), expected);
  });
}

Deno.test("everything that is wrong is told at once, in the order of the lines", async () => {
  const message = await messageFor(`languge = "x"\n${BUILD}relase = 1\n[vm]\nvcpus = 0\n`);
  deepEqual(message.match(/:(\d+):/g), [":1:", ":4:", ":6:"]);
});

Deno.test("a key of very many parts is refused by its first, in no time", async () => {
  const message = await messageFor(`${"a.".repeat(50_000)}b = 1\n${BUILD}`);
  match(message, /:1:1: a: unknown key/); // took more memory than there is
});

Deno.test("a config file that is missing or not UTF-8 is refused", () =>
  inDirectory(async (directory) => {
    await rejects(loadConfig(join(directory, "config.toml")), { code: "not-found" });
    await Deno.writeFile(join(directory, "config.toml"), new Uint8Array([0x61, 0xff]));
    await rejects(loadConfig(join(directory, "config.toml")), /not UTF-8/);
  }));

Deno.test("durations and memory sizes are read with their units", () => {
  equal(parseDuration(2), 2000);
  equal(parseDuration("0.5"), 500);
  equal(parseDuration("500ms"), 500);
  equal(parseDuration("1h2m3s"), 3_723_000);
  for (const bad of ["", "0", "-1", "1x", "1e9h", "s", "99999h"]) {
    match(messageOfThrown(() => parseDuration(bad)), /duration/);
  }
  equal(parseMemory(512), 512);
  equal(parseMemory("512m"), 512);
  equal(parseMemory("2 GiB"), 2048);
  equal(parseMemory("1.5G"), 1536);
  for (const bad of ["", "0", "-1", "1.3", "1T", "G", "9999999999999"]) {
    match(messageOfThrown(() => parseMemory(bad)), /memory size/);
  }
});

function messageOfThrown(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return error instanceof CloudletError ? error.message : `not a CloudletError: ${error}`;
  }
  return "";
}

Deno.test("counts are whole numbers, with a least one", () => {
  equal(parseCount("0"), 0);
  equal(parseCount("12", 1), 12);
  for (
    const [text, least] of [["0", 1], ["-1", 0], ["1.5", 0], ["1e3", 0], ["", 0], ["x", 0]] as const
  ) {
    throws(() => parseCount(text, least), { code: "invalid-input", remedy: /or more/ });
  }
  throws(() => parseCount("9".repeat(10)), { code: "invalid-input" });
});

Deno.test("what cannot be read of a network is told with its line", () =>
  inDirectory(async (directory) => {
    const content = `[build]\nsource-code-path = "main.py"\n[network]\npublish = ["80", "x:80"]\n` +
      `bandwidth = "10MB"\n`;
    await rejects(
      parseConfig(content, join(directory, "config.toml")),
      (error: Error) =>
        /config\.toml:4:\d+: network\.publish\.1: Cannot publish "x:80"/.test(error.message) &&
        /config\.toml:5:\d+: network\.bandwidth: Cannot read "10MB" as a bandwidth/.test(
          error.message,
        ),
    );
    await rejects(
      parseConfig(content.replace("publish", "publsh"), join(directory, "config.toml")),
      /did you mean "publish"/,
    );
  }));
