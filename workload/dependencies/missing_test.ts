import assert from "node:assert/strict";
import fc from "fast-check";
import { missingFiles } from "./missing.ts";

Deno.test("what compilers, linkers and build tools lack is understood", () => {
  const said: readonly [words: string, name: string, path: string][] = [
    [
      "a.c:1:10: fatal error: libpq-fe.h: No such file or directory",
      "libpq-fe.h",
      "usr/include/libpq-fe.h",
    ],
    [
      "a.c:1:10: fatal error: 'openssl/ssl.h' file not found",
      "openssl/ssl.h",
      "usr/include/openssl/ssl.h",
    ],
    [
      "/usr/bin/ld: cannot find -lffi: No such file or directory",
      "libffi.so",
      "usr/lib/x86_64-linux-gnu/libffi.so",
    ],
    [
      "No package 'libxml-2.0' found",
      "libxml-2.0.pc",
      "usr/lib/x86_64-linux-gnu/pkgconfig/libxml-2.0.pc",
    ],
    [
      "Package 'cairo', required by 'virtual:world', not found",
      "cairo.pc",
      "usr/lib/x86_64-linux-gnu/pkgconfig/cairo.pc",
    ],
    ["Error: pg_config executable not found.", "pg_config", "usr/bin/pg_config"],
    ["/bin/sh: 1: mysql_config: not found", "mysql_config", "usr/bin/mysql_config"],
    ["FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", "cmake", "usr/bin/cmake"],
    ["is `cmake` not installed?", "cmake", "usr/bin/cmake"],
  ];
  for (const [words, name, path] of said) {
    const [found] = missingFiles(`building\n${words}\nerror: command failed\n`);
    assert.equal(found?.name, name, words);
    assert(found.paths.includes(path), words);
  }
  assert.deepEqual(missingFiles("ERROR: No matching distribution found for missing"), []);
  assert.deepEqual(missingFiles("fatal error: ../../etc/passwd: No such file or directory"), []);
});

Deno.test("whatever a guest says, few things are looked for, and by plain names", () => {
  const piece = fc.oneof(
    fc.string({ maxLength: 30 }),
    fc.constantFrom(
      "fatal error: ",
      ": No such file or directory",
      "cannot find -l",
      "a/../b",
      "No package '",
      "' found",
    ),
  );
  fc.assert(fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
    const found = missingFiles(pieces.join(""));
    assert(found.length <= 4);
    for (const { name, paths } of found) {
      assert.match(name, /^[A-Za-z0-9_+.\/-]{1,110}$/);
      assert(paths.every((path) => path.startsWith("usr/") && !path.includes("..")));
    }
  }));
});
