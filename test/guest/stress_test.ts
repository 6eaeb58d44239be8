import assert from "node:assert/strict";
import { join } from "node:path";
import { compile, hasKvm, littleMemory, runScript, type ScriptResult } from "./fixtures.ts";
import { LONG } from "../long.ts";

const ignore = !hasKvm();
/** A processor may have AVX2 without the XSAVE that makes it of use: an emulated one does. */
const flags = /^flags\s*: (.*)$/m.exec(Deno.readTextFileSync("/proc/cpuinfo"))?.[1]?.split(" ") ??
  [];
const withoutAvx = !["avx2", "xsave"].every((flag) => flags.includes(flag));

/** Forks, pipes, signals and /proc; prints what it found. */
const SHELL_STRESS = String.raw`
set -e
# Forks, and exit codes that come back.
for i in 1 2 3 4 5 6 7 8; do (exit $i) & eval "p$i=$!"; done
codes=
for i in 1 2 3 4 5 6 7 8; do eval "wait \$p$i" && c=0 || c=$?; codes="$codes $c"; done
echo "codes$codes"
# A pipeline whose every byte counts.
seq 1 2000 | sort -rn | sed 's/$/x/' | awk '{ s += $1 } END { print "sum", s, NR }'
# Large data through pipes.
dd if=/dev/zero bs=64k count=8 2>/dev/null | tr '\000' 'a' | md5sum
# Signals: a handler runs as often as it is called.
n=0
trap 'n=$((n + 1))' USR1
for i in 1 2 3 4 5; do kill -USR1 $$; done
echo "signals $n"
{ sleep 100 & kill -TERM $!; wait $! && c=0 || c=$?; } 2>/dev/null # the shell tells of it
echo "killed $c"
# /proc agrees with itself.
read -r pid rest </proc/self/stat
[ -n "$pid" ] && [ -d /proc/$$ ] && [ "$(cat /proc/$$/comm)" != "" ] && echo "proc ok"
grep -q MemTotal /proc/meminfo && echo "meminfo ok"
# Files, and copies of them.
seq 1 500 >/tmp/a; cp /tmp/a /tmp/b; cmp /tmp/a /tmp/b && echo "files equal"
`;

Deno.test({
  name: "forks, pipes, signals, files and /proc work under stress",
  ignore,
  async fn() {
    const result = await runScript(SHELL_STRESS);
    assert.deepEqual(result.output.trimEnd().split("\n"), [
      "codes 1 2 3 4 5 6 7 8",
      "sum 2001000 2000",
      "30c2557e8302a5beb290c71520d87f42  -",
      "signals 5",
      "killed 143",
      "proc ok",
      "meminfo ok",
      "files equal",
    ], result.console);
    assert.equal(result.code, 0);
  },
});

Deno.test({
  name: "vector registers survive context switches, system calls and signals",
  ignore: ignore || withoutAvx,
  async fn() {
    const checksum = await compile("vector_checksum.c");
    const native = await runNatively(checksum, ["4", "60"]);
    const result = await runScript("/cloudlet/checksum 4 60", { programs: { checksum } });
    assert.equal(result.output, native, result.console);
    assert.equal(result.code, 0);
  },
});

Deno.test({
  name: "two vCPUs run programs at once, and their vector registers stay their own",
  ignore: ignore || withoutAvx,
  async fn() {
    const checksum = await compile("vector_checksum.c");
    const native = await runNatively(checksum, ["4", "60"]);
    const result = await runScript("nproc; /cloudlet/checksum 4 60", {
      programs: { checksum },
      vcpus: 2,
    });
    assert.equal(result.output, `2\n${native}`, result.console);
    assert.equal(result.code, 0);
  },
});

async function runNatively(program: Uint8Array, args: string[]): Promise<string> {
  const directory = await Deno.makeTempDir();
  try {
    const path = join(directory, "program");
    await Deno.writeFile(path, program, { mode: 0o755 });
    const { success, stdout } = await new Deno.Command(path, { args }).output();
    assert.ok(success);
    return new TextDecoder().decode(stdout);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Descriptors, threads and mappings of guest memory that this process has. */
function footprint(): { fds: number; threads: number; kvm: number; mappings: number } {
  const maps = Deno.readTextFileSync("/proc/self/maps").split("\n");
  return {
    fds: [...Deno.readDirSync("/proc/self/fd")].length,
    threads: [...Deno.readDirSync("/proc/self/task")].length,
    kvm: maps.filter((line) => line.includes("kvm-vcpu")).length,
    // Guest memory is the only thing here that is mapped in one piece of this size.
    mappings: maps.filter((line) => {
      const [start, end] = line.split(" ")[0]!.split("-").map((text) => Number.parseInt(text, 16));
      return end! - start! === MEMORY;
    }).length,
  };
}

/** A boot takes half a minute where kernels are emulated; a leak of one shows after few. */
const BOOTS = LONG ? 10 : 4;
const AT_ONCE = LONG ? 8 : 4;

const MEMORY = (96 << 20) + 4096 * 7; // an odd size, to be told from other mappings

Deno.test({
  name: `${BOOTS} boots in a row are right, and leave nothing behind`,
  ignore,
  async fn() {
    const results: ScriptResult[] = [];
    let first: ReturnType<typeof footprint> | undefined;
    for (let i = 0; i < BOOTS; i++) {
      results.push(await runScript(`echo boot ${i}`, { memory: MEMORY }));
      first ??= footprint(); // the runtime has started its own threads by now
    }
    assert.deepEqual(results.map(({ output }) => output), results.map((_, i) => `boot ${i}\n`));
    // The runtime ends a worker's thread a moment after the worker.
    let last = footprint();
    for (let i = 0; i < 100 && last.threads > first!.threads; i++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      last = footprint();
    }
    assert.ok(last.threads <= first!.threads, `${last.threads} threads, not ${first!.threads}`);
    assert.ok(last.fds <= first!.fds, `${last.fds} descriptors, not ${first!.fds}`);
    assert.equal(last.kvm, 0);
    assert.equal(last.mappings, 0);
  },
});

Deno.test({
  name: `${AT_ONCE} VMs at once are right`,
  ignore,
  async fn() {
    const numbers = Array.from({ length: AT_ONCE }, (_, i) => i);
    const results = await Promise.all(
      numbers.map((i) =>
        runScript(`seq 1 ${100 + i} | awk '{ s += $1 } END { print s }'`, {
          memory: Math.max(littleMemory(), 64 << 20),
        })
      ),
    );
    assert.deepEqual(
      results.map(({ output }) => output),
      numbers.map((i) => `${(100 + i) * (101 + i) / 2}\n`),
    );
  },
});
