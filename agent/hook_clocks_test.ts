/**
 * What an interpreter read of the wall clock when it started is corrected when its program comes: as in
 * a clone, where the clock was put right meanwhile (test/guest/clocks_test.ts has the same in one).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { oracle } from "../test/oracle.ts";
import { encodeProgramStart } from "./hook_protocol.ts";
import { hookOf } from "./interpreter_hooks.ts";
import { languages } from "../workload/languages.ts";

/** The C library's wall clock, two hours behind for as long as a file is not there. */
const BEHIND = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long offset(void) { return access(getenv("CLOCK_IS_RIGHT"), F_OK) == 0 ? 0 : 7200; }
int clock_gettime(clockid_t id, struct timespec *t) {
  static int (*next)(clockid_t, struct timespec *);
  if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
  int result = next(id, t);
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec -= offset();
  return result;
}
int gettimeofday(struct timeval *t, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec;
  t->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *t) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (t) *t = now.tv_sec;
  return now.tv_sec;
}
`;

/** Programs that write seconds since 1970, one a line. */
const PROGRAMS: Readonly<Record<string, { readonly file: string; readonly code: string }>> = {
  python: {
    file: "main.py",
    code: "import logging, time\nprint(time.time())\n" +
      "print(logging.LogRecord('x', 10, 'x', 1, 'x', (), None).created)\n",
  },
  node: {
    file: "main.js",
    code: `const { performance } = require("perf_hooks");
console.log((performance.timeOrigin + performance.now()) / 1000);
console.log((performance.toJSON().timeOrigin + performance.now()) / 1000);
console.log((globalThis.performance.timeOrigin + performance.mark("a").startTime) / 1000);
try { Object.create(performance).timeOrigin; } catch { console.log(Date.now() / 1000); }
const { Worker } = require("worker_threads");
new Worker("const { performance: p } = require('perf_hooks');" +
  "console.log((p.timeOrigin + p.now()) / 1000)", { eval: true });`,
  },
  deno: {
    file: "main.ts",
    code: `import { performance as hooks } from "node:perf_hooks";
console.log((performance.timeOrigin + performance.now()) / 1000);
console.log((performance.toJSON().timeOrigin + performance.now()) / 1000);
console.log((hooks.timeOrigin + hooks.now()) / 1000);`,
  },
  bash: {
    file: "main.sh",
    code: `echo $EPOCHREALTIME
echo $EPOCHSECONDS
printf '%(%s)T\\n' -1
printf '%(%s)T\\n' -2
echo $((EPOCHSECONDS - SECONDS))`,
  },
};

for (const [name, { file, code }] of Object.entries(PROGRAMS)) {
  Deno.test(`a ${name} program is told the time that it is, not that of its interpreter's start`, async () => {
    const language = languages[name as keyof typeof languages];
    const command = (directory: string) =>
      language.run({
        directory,
        output: "",
        files: [file],
        entryPoint: file,
        release: false,
        read: () => undefined,
        executables: () => [],
      });
    const program = command("")[0]!;
    if (!await oracle(program) || !await oracle("gcc")) return;
    const directory = await Deno.makeTempDir({ prefix: "hooks-test-" });
    try {
      const at = (path: string) => join(directory, path);
      await Deno.writeTextFile(at("clock.c"), BEHIND);
      const gcc = await new Deno.Command("gcc", {
        args: ["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", at("clock.so"), at("clock.c")],
      }).output();
      assert(gcc.success, new TextDecoder().decode(gcc.stderr));
      const hook = hookOf(language)!;
      await Deno.mkdir(at("hook"));
      await Deno.mkdir(at("project"));
      await Deno.writeTextFile(at(`hook/${hook.fileName}`), hook.text);
      const main = at(`project/${file}`);
      const start = hook.start(command(at("project")), at(`hook/${hook.fileName}`));
      const [first, ...args] = start.command;
      const child = new Deno.Command(first!, {
        args,
        cwd: at("project"),
        env: {
          ...language.environment,
          ...start.environment,
          LD_PRELOAD: at("clock.so"),
          CLOCK_IS_RIGHT: at("right"),
        },
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const [dot, rest] = child.stdout.tee();
      const reader = dot.getReader();
      assert.equal(new TextDecoder().decode((await reader.read()).value), ".");
      void reader.cancel();
      await Deno.writeTextFile(main, code);
      await Deno.writeTextFile(at("right"), "");
      const writer = child.stdin.getWriter();
      await writer.write(
        encodeProgramStart({ directory: at("project"), file: main, args: [], environment: {} }),
      );
      await writer.close();
      const [out, err] = await Promise.all([
        new Response(rest).text(),
        new Response(child.stderr).text(),
      ]);
      assert.equal((await child.status).code, 0, err);
      const times = out.slice(1).trimEnd().split("\n").map(Number);
      assert(times.length >= 2, out + err);
      const now = Date.now() / 1000;
      for (const time of times) {
        assert(Math.abs(time - now) < 60, `${now - time} s behind in ${out}`);
      }
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}
