import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { IgnoreRules, type Matches } from "./ignore_rules.ts";

/** What is left out of a tree: each path with what is above it. */
function ignoredOf(rules: IgnoreRules, path: string): boolean {
  let matches: Matches | undefined;
  let ignored = false;
  for (let end = 0; end >= 0 && end < path.length;) {
    end = path.indexOf("/", end + 1);
    ({ ignored, matches } = rules.look(end < 0 ? path : path.slice(0, end), matches));
  }
  return ignored;
}

// Patterns and what they do, as the tests of docker's own matcher have them.
const CASES: readonly (readonly [pattern: string, path: string, ignored: boolean])[] = [
  ["**", "dir/file", true],
  ["**/", "file", true],
  ["**/**", "dir/file", true],
  ["dir/**", "dir/dir2/file", true],
  ["abc/**", "abc", false],
  ["**/dir", "dir", true],
  ["**/dir", "dir/file", true],
  ["**/dir2/*", "dir/dir2/file", true],
  ["**/dir2/**", "dir/dir2/dir3/file", true],
  ["**file", "file", true],
  ["**file", "dir/dir/file", true],
  ["**file", "dir/afile", true],
  ["**/file", "dir/afile", false],
  ["**/file*txt", "dir/dir/file.txt", true],
  ["**/**/*.txt2", "dir/dir/file.txt", false],
  ["a**/*.txt", "a/dir/dir/file.txt", true],
  ["a/*.txt", "a/dir/file.txt", false],
  ["a/*.txt**", "a/file.txt", true],
  ["a[b-d]e", "ae", false],
  ["a[b-d]e", "ace", true],
  ["a[^b-d]e", "aze", true],
  [".*", "foo", false],
  ["abc.def", "abcZdef", false],
  ["abc?def", "abcZdef", true],
  ["**/foo/bar", "dir/dir2/foo/bar", true],
  ["**/.foo", "bar.foo", false],
  ["a(b)c/def", "a(b)c/def", true],
  ["a.|)$(}+{bc", "a.|)$(}+{bc", true],
  ["dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", true],
  ["a\\*b", "a*b", true],
  ["a\\*b", "ab", false],
  ["a\\\\", "a\\", true],
  ["a*/b", "a/c/b", false],
  ["a*b*c*d*e*/f", "axbxcxdxexxx/f", true],
  ["a?b", "a☺b", true],
  ["a?b", "a😀b", true],
  ["a???b", "a☺b", false],
  ["[a-ζ]*", "α", true],
  ["*[a-ζ]", "A", false],
  ["a?b", "a/b", false],
  ["[\\]a]", "]", true],
  ["[x\\-]", "-", true],
  ["[\\-x]", "a", false],
  ["/foo/", "foo", true],
  ["./foo/../bar", "bar", true],
  ["  foo  ", "foo", true],
  ["#foo", "#foo", false],
  ["foo", "dir/foo", false],
];

Deno.test("a rule means what it means in a .dockerignore", () => {
  for (const [pattern, path, ignored] of CASES) {
    equal(ignoredOf(new IgnoreRules(pattern), path), ignored, `${pattern} for ${path}`);
  }
});

Deno.test("the last rule that matches decides", () => {
  for (
    const [text, path, ignored] of [
      ["**\n!util/docker/web", "util/docker/web/foo", false],
      ["**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true],
      ["docs/\n!docs/README.md", "docs/README.md", false],
      ["!fileutils.go\n*.go", "fileutils.go", true],
      ["*.go\r\n!fileutils.go\r\n", "fileutils.go", false],
      // Docker does not try a rule that would change nothing, and so forgets it for what is below.
      ["**/*.log\n!keep", "keep/y.log", true],
      ["**/*.log\n!keep/**", "keep/y.log", false],
      ["", ".git/config", true],
      ["", "a/__pycache__/x.pyc", true],
      ["!.git", ".git/config", false],
    ] as const
  ) equal(ignoredOf(new IgnoreRules(text), path), ignored, JSON.stringify([text, path]));
});

Deno.test("a directory is entered when a rule takes back something in it", () => {
  const rules = new IgnoreRules("node_modules\nbuild\n!build/out/keep.txt\n!docs/**");
  deepEqual(["node_modules", "build", "build/out", "docs"].map((path) => rules.mayHold(path)), [
    false,
    true,
    true,
    true,
  ]);
  ok(new IgnoreRules("*\n!**/keep.txt").mayHold("any"));
  ok(!new IgnoreRules("*").mayHold("any"));
});

Deno.test("a pattern that is none is refused with its line", () => {
  for (
    const pattern of ["[", "[]a]", "[-]", "[x-]", "[a-b-c]", "[^", "a[", "a\\", "!", "! ", "[b-a]"]
  ) {
    throws(() => new IgnoreRules(`\n# x\n${pattern}`, "p/.cloudletignore"), {
      code: "invalid-input",
      message: /Cannot use p\/.cloudletignore: line 3: /,
    }, pattern);
  }
});

/** What docker's client sends of a directory: the server that it talks to is this test. */
async function sentByDocker(directory: string): Promise<Set<string> | undefined> {
  let archive: Uint8Array | undefined;
  await using server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    async (request) => {
      const body = new Uint8Array(await request.arrayBuffer());
      if (request.url.includes("/build")) archive = body;
      return new Response("{}", { headers: { "Api-Version": "1.43", "Builder-Version": "1" } });
    },
  );
  const { success, stderr } = await new Deno.Command("docker", {
    args: ["build", "."],
    cwd: directory,
    env: {
      DOCKER_HOST: `tcp://127.0.0.1:${server.addr.port}`,
      DOCKER_BUILDKIT: "0",
      HOME: directory,
    },
  }).output();
  // What the client makes of the answer is no matter.
  if (archive === undefined) throw new Error(`${success} ${new TextDecoder().decode(stderr)}`);
  const list = new Deno.Command("tar", { args: ["-t"], stdin: "piped", stdout: "piped" }).spawn();
  const writer = list.stdin.getWriter();
  const written = writer.write(archive as Uint8Array<ArrayBuffer>).then(() => writer.close());
  const { stdout } = await list.output();
  await written;
  return new Set(new TextDecoder().decode(stdout).split("\n").filter((name) => name !== ""));
}

async function isHere(program: string): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args: ["--version"], stdout: "null" }).output())
      .success;
  } catch {
    console.log(`skipped: ${program} does not run here`);
    return false;
  }
}

const FILES = ["a", "b.txt", "x/a", "x/b.txt", "x/y/a", "x/y/c.txt", "x/y/z/a", "z/a"];

Deno.test("docker's client leaves out the same files", async () => {
  if (!await isHere("docker") || !await isHere("tar")) return;
  const name = fc.constantFrom("a", "b.txt", "x", "y", "z", "*", "?", "*.txt", "[a-b]", "**", "c*");
  // Its old builder, whose archive can be seen, does not enter an ignored directory for a rule with
  // wildcards; what is sent today is as here.
  const plain = fc.constantFrom("a", "b.txt", "x", "y", "z", "c.txt");
  const path = (part: fc.Arbitrary<string>) =>
    fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
  const line = fc.oneof(path(name), path(plain), path(plain).map((text) => `!${text}`));
  await fc.assert(
    fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 4 }), async (lines) => {
      const directory = await Deno.makeTempDir();
      try {
        for (const path of FILES) {
          await Deno.mkdir(join(directory, dirname(path)), { recursive: true });
          await Deno.writeTextFile(join(directory, path), "");
        }
        await Deno.writeTextFile(join(directory, "Dockerfile"), "FROM scratch\n");
        await Deno.writeTextFile(join(directory, ".dockerignore"), lines.join("\n"));
        const sent = await sentByDocker(directory);
        const rules = new IgnoreRules(lines.join("\n"));
        const ours = FILES.filter((path) => !ignoredOf(rules, path));
        deepEqual(ours, FILES.filter((path) => sent!.has(path)));
      } finally {
        await Deno.remove(directory, { recursive: true });
      }
    }),
    { numRuns: 40, examples: [[["**/b.txt", "!x"]], [["**/b.txt", "!x/b.txt"]]] },
  );
});
