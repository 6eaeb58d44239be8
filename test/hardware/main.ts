/**
 * `deno task test:hardware [part...]`: runs tests in a host with hardware KVM, which QEMU emulates.
 * Parts are `examples`, `guest` and `built`; all when none is named. Needs qemu-system-x86_64.
 * CLOUDLET_TEST_EXAMPLES names some examples; CLOUDLET_TEST_MINUTES bounds the emulated host's life.
 *
 * @module
 */
import { join } from "node:path";
import { LineProgress } from "../../cli/progress.ts";
import { cacheDir } from "../../base/dirs.ts";
import { removeAtEnd, writeAllSync } from "../../base/files.ts";
import { exitOnSignals } from "../../base/signals.ts";
import { examples } from "../examples.ts";
import { HOST, makeHost } from "./image.ts";
import { runInHost } from "./machine.ts";

const LIMIT_MS = Number(Deno.env.get("CLOUDLET_TEST_MINUTES") ?? 14) * 60_000;
const GUEST = ["boot", "outcome", "stress", "snapshot", "agent"];

/** Files of tests, and the variables that they get. */
const PARTS: Readonly<Record<string, { env: string; files: readonly string[] }>> = {
  /** From an empty cache with Debian's kernel. */
  examples: { env: "CLOUDLET_TEST_HARDWARE=1", files: ["test/hardware/inside_test.ts"] },
  /** The guest tests with Debian's kernel. */
  guest: {
    env: "",
    files: GUEST.map((name) => `test/guest/${name}_test.ts`),
  },
  /** And with the kernel that cloudlet compiles, which has been brought along. */
  built: {
    env: `CLOUDLET_TEST_KERNEL=/${HOST.kernels}/up CLOUDLET_TEST_KERNEL_SMP=/${HOST.kernels}/smp`,
    files: ["boot", "outcome", "stress", "snapshot", "agent", "devices"]
      .map((name) => `test/guest/${name}_test.ts`),
  },
};

const chosen = Deno.args.length > 0 ? Deno.args : Object.keys(PARTS);
const unknown = chosen.find((name) => PARTS[name] === undefined);
if (unknown !== undefined) {
  console.error(`There is no part "${unknown}"; there are ${Object.keys(PARTS).join(", ")}`);
  Deno.exit(2);
}
const only = Deno.env.get("CLOUDLET_TEST_EXAMPLES");

const steps = chosen.map((name) => {
  const { env, files } = PARTS[name]!;
  return `echo "=== ${name}"
${env} deno test -A --quiet --no-check ${files.join(" ")} </dev/null || code=1
`;
});
const script = `exec /bin/bash <<'SCRIPT' 2>&1
set -e
busybox ip link set lo up
export HOME=/root NO_COLOR=1 DENO_NO_UPDATE_CHECK=1 DENO_DIR=/${HOST.denoDir}
export XDG_CACHE_HOME=/work XDG_RUNTIME_DIR=/work/runtime TMPDIR=/work/tmp
${only === undefined ? "" : `export CLOUDLET_TEST_EXAMPLES=${only}`}
mkfs.ext4 -q /dev/vdb
mkdir /work
mount /dev/vdb /work
mkdir -p /work/cloudlet/debian /work/tmp /work/runtime
cp -r /${HOST.cache}/debian/release /${HOST.cache}/debian/index /work/cloudlet/debian/
ln -s /${HOST.cache}/debian/pool /work/cloudlet/debian/pool
cd /${HOST.checkout}
deno run -A --quiet mod.ts doctor </dev/null || true
code=0
${steps.join("")}exit $code
SCRIPT
`;

const images = new Set(["tiny"]);
if (chosen.includes("examples")) {
  for (const { name, language } of examples()) {
    if (only === undefined || only.split(",").includes(name)) images.add(language);
  }
}
if (chosen.some((name) => name !== "examples")) images.add("python").add("bash"); // the guest tests'
exitOnSignals();
const directory = await Deno.makeTempDir({ prefix: "cloudlet-hardware-" });
const logPath = join(cacheDir(), "hardware-test.log");
const encoder = new TextEncoder();
const start = performance.now();
let code: number | undefined;
{
  using _ = removeAtEnd(directory);
  const kernels = chosen.includes("built") ? ["up", "smp"] as const : [];
  const host = await makeHost(directory, [...images], kernels, new LineProgress());
  using log = await Deno.open(logPath, { create: true, write: true, truncate: true });
  code = await runInHost(host, {
    directory,
    script,
    timeout: LIMIT_MS,
    log,
    output: (text) => writeAllSync(Deno.stdout, encoder.encode(text)),
  });
}
const seconds = ((performance.now() - start) / 1000).toFixed(0);
console.log(
  code === undefined
    ? `The emulated host ended, or was ended, before its tests had (${seconds} s).`
    : `The tests in the emulated host ended with exit code ${code} after ${seconds} s.`,
);
console.log(`The host's console is in ${logPath}`);
Deno.exit(code ?? 1);
