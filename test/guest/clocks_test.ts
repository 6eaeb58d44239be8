/** In a clone each clock tells the time, whatever a runtime read of it before the snapshot. */
import assert from "node:assert/strict";
import { collect } from "../../agent/harness_test.ts";
import { ExecuteRequest_Action as Action } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { hasKvm, testMachine } from "./fixtures.ts";

/** CLOUDLET_TEST_CLONES names the languages; a first snapshot of each takes a boot. */
const chosen = (Deno.env.get("CLOUDLET_TEST_CLONES") ?? "node").split(",");

/** What the clocks may differ from the host's by, in seconds: a program takes some to run. */
const SECONDS = 60;

const PLACES = ["/", "/tmp", "/root", "/run", "/etc", "/usr/lib", ".", "..", "../.."];

/**
 * Programs that write lines of what, a name and a number: `now` of seconds since 1970 by the wall
 * clock, `file` of the same by what was there before, `since` of seconds since the program's start,
 * `steady` of seconds that never decrease.
 */
const PROGRAMS: Readonly<Record<string, { readonly file: string; readonly code: string }>> = {
  python: {
    file: "main.py",
    code: `
import datetime, logging, os, time, uuid
tell = lambda *words: print(*words)
tell("now", "time", time.time())
tell("now", "time_ns", time.time_ns() / 1e9)
tell("now", "datetime", datetime.datetime.now(datetime.timezone.utc).timestamp())
tell("now", "localtime", time.mktime(time.localtime()))
tell("now", "uuid1", (uuid.uuid1().time - 0x01b21dd213814000) / 1e7)
record = logging.LogRecord("x", 10, "x", 1, "x", (), None)
tell("now", "logging", record.created)
tell("since", "logging", record.relativeCreated / 1000)
open("new", "w").close()
tell("now", "new file", os.stat("new").st_mtime)
boot = next(int(line.split()[1]) for line in open("/proc/stat") if line.startswith("btime"))
tell("now", "btime", boot + float(open("/proc/uptime").read().split()[0]))
tell("steady", "monotonic", time.monotonic())
tell("steady", "monotonic", time.monotonic())
tell("since", "process_time", time.process_time())
for place in ${JSON.stringify(PLACES)}:
    if os.path.exists(place): tell("file", place, os.stat(place).st_mtime)
tell("file", "main", os.stat(__file__).st_mtime)
`,
  },
  node: {
    file: "main.mjs",
    code: `
import fs from "node:fs";
import { performance, PerformanceObserver } from "node:perf_hooks";
import { Worker } from "node:worker_threads";
const tell = (...words) => console.log(...words);
tell("now", "Date", Date.now() / 1000);
tell("now", "performance", (performance.timeOrigin + performance.now()) / 1000);
tell("now", "toJSON", (performance.toJSON().timeOrigin + performance.now()) / 1000);
tell("now", "globalThis", (globalThis.performance.timeOrigin + performance.now()) / 1000);
tell("now", "mark", (performance.mark("a").startTime + performance.timeOrigin) / 1000);
tell("now", "Event", (new Event("x").timeStamp + performance.timeOrigin) / 1000);
tell("since", "performance", performance.now() / 1000);
tell("since", "uptime", process.uptime());
fs.writeFileSync("new", "");
tell("now", "new file", fs.statSync("new").mtimeMs / 1000);
tell("steady", "hrtime", Number(process.hrtime.bigint()) / 1e9);
tell("steady", "hrtime", Number(process.hrtime.bigint()) / 1e9);
for (const place of ${JSON.stringify(PLACES)}) {
  if (fs.existsSync(place)) tell("file", place, fs.statSync(place).mtimeMs / 1000);
}
const text = "const { performance: p } = require('perf_hooks');" +
  "console.log('now', 'worker', (p.timeOrigin + p.now()) / 1000)";
new Worker(text, { eval: true });
`,
  },
  deno: {
    file: "main.ts",
    code: `
import { performance as hooks } from "node:perf_hooks";
const tell = (...words: unknown[]) => console.log(...words);
tell("now", "Date", Date.now() / 1000);
tell("now", "performance", (performance.timeOrigin + performance.now()) / 1000);
tell("now", "toJSON", (performance.toJSON().timeOrigin + performance.now()) / 1000);
tell("now", "node", (hooks.timeOrigin + hooks.now()) / 1000);
tell("now", "mark", (performance.mark("a").startTime + performance.timeOrigin) / 1000);
tell("since", "performance", performance.now() / 1000);
tell("since", "Event", new Event("x").timeStamp / 1000);
Deno.writeTextFileSync("new", "");
tell("now", "new file", Deno.statSync("new").mtime!.getTime() / 1000);
for (const place of ${JSON.stringify(PLACES)}) {
  try {
    tell("file", place, Deno.statSync(place).mtime!.getTime() / 1000);
  } catch { /* it is not there */ }
}
const text = "console.log('now', 'worker', (performance.timeOrigin + performance.now()) / 1000);close()";
new Worker("data:application/javascript," + encodeURIComponent(text), { type: "module" });
`,
  },
  bash: {
    file: "main.sh",
    code: `
echo now EPOCHSECONDS $EPOCHSECONDS
echo now EPOCHREALTIME $EPOCHREALTIME
printf 'now printf %(%s)T\\n' -1
printf 'now start %(%s)T\\n' -2
echo now date $(date +%s)
echo since SECONDS $SECONDS
: >new
echo now new $(stat -c %Y new)
read -r up _ </proc/uptime
while read -r name value _; do
  [ "$name" != btime ] || echo now btime $((value + \${up%.*}))
done </proc/stat
echo steady uptime $up
for place in ${PLACES.join(" ")}; do
  [ ! -e $place ] || echo file $place $(stat -c %Y $place)
done
`,
  },
};

for (const language of chosen) {
  Deno.test({
    name: `in a clone, ${language} programs are told the time by every clock`,
    ignore: !hasKvm(),
    async fn(t) {
      await using machine = await testMachine(language, "clocks");
      const { file, code } = PROGRAMS[language]!;
      let steady = 0;
      // The first is run by the interpreter that waited in the snapshot, the second by a new one.
      for (const cold of [false, true]) {
        await t.step(cold ? "in a new interpreter" : "in the idle interpreter", async () => {
          const files = [{ path: file, content: new TextEncoder().encode(code) }];
          const { out, err, last } = await collect(machine.agent.execute({
            language,
            action: Action.PREPARE_AND_RUN,
            options: { files, cold },
          }));
          assert.equal(last.exitCode, 0, err);
          const lines = out.trimEnd().split("\n");
          assert(lines.length >= 10, out);
          const now = Date.now() / 1000;
          for (const line of lines) {
            const [kind, ...words] = line.split(" ");
            const value = Number(words.pop());
            const plausible = () => {
              if (kind === "now") return Math.abs(value - now) < SECONDS;
              if (kind === "file") return value < now + 1;
              if (kind === "since") return value >= 0 && value < SECONDS;
              return value >= steady;
            };
            assert(plausible(), `${line} at ${now}`);
            if (kind === "steady") steady = value;
          }
        });
      }
    },
  });
}
