import { deepEqual, equal, throws } from "node:assert/strict";
import { join } from "node:path";
import { OutputWriter, parseOutput, parseSent } from "./output_files.ts";

const piece = (path: string, text = "x", offset = 0, mode = 0o644) => ({
  path,
  mode,
  offset,
  data: new TextEncoder().encode(text),
});

async function inDirectory(test: (path: (name: string) => string) => void): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    test((name) => join(directory, name));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const names = (path: string) => Array.from(Deno.readDirSync(path), ({ name }) => name).sort();

Deno.test("nothing is seen before the end, and nothing stays of what did not end", () =>
  inDirectory((path) => {
    {
      using writer = new OutputWriter([{ path: "a", goal: path("new/a") }]);
      writer.write(piece("a", "one "));
      writer.write(piece("a", "two", 4));
      throws(() => Deno.lstatSync(path("new/a")), Deno.errors.NotFound);
      deepEqual(writer.finish(), []);
      equal(Deno.readTextFileSync(path("new/a")), "one two");
    }
    using writer = new OutputWriter([{ path: "a", goal: path("new/b") }]);
    writer.write(piece("a"));
    writer[Symbol.dispose]();
    deepEqual(names(path("new")), ["a"]);
  }));

Deno.test("a guest's names and modes do no harm", () =>
  inDirectory((path) => {
    {
      using writer = new OutputWriter([{ path: "out/", goal: path("out") }]);
      writer.write(piece("out/a", "x", 0, 0));
      const message = /^Cannot write the output/;
      throws(() => writer.write(piece("out/a/b")), { code: "host", message });
      writer.finish();
    }
    equal((Deno.statSync(path("out/a")).mode ?? 0) & 0o777, 0o600);
    Deno.mkdirSync(path("out/\x1b[2Jb"), { recursive: true });
    using writer = new OutputWriter([{ path: "out/", goal: path("out") }]);
    writer.write(piece("out/\x1b[2Jb"));
    throws(() => writer.finish(), (error: Error) => !/\p{Cc}/u.test(error.message));
  }));

Deno.test("where files go is read from the end that is the host's", () => {
  deepEqual(parseOutput("a"), { path: "a", goal: "a" });
  deepEqual(parseOutput("a:b:c"), { path: "a", goal: "b:c" });
  deepEqual(parseOutput("a/b:c/"), { path: "a/b", goal: "c/b" });
  deepEqual(parseOutput("../a:a"), { path: "../a", goal: "a" });
  for (const text of ["", ":a", "a:", "../a", "a/../../b"]) {
    throws(() => parseOutput(text), Error, text);
  }
  deepEqual(parseSent("a:b:c"), ["c", "a:b"]);
  deepEqual(parseSent("x/a:b/"), ["b/a", "x/a"]);
  for (const text of ["", "a", ":a", "a:"]) throws(() => parseSent(text), Error, text);
});
