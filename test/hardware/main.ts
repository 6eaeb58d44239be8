/**
 * `deno task test:hardware [part[:name,...]...]`: runs tests in a host with hardware KVM, which QEMU
 * emulates. Parts are `examples`, `guest`, `network`, `packages`, `cpython` and `built`; the first two and the
 * last when none is named, and `examples:bash` or `guest:boot,snapshot` are some of one. Needs qemu-system-x86_64. CLOUDLET_TEST_MINUTES bounds the
 * life of the emulated hosts, of which there may be two side by side.
 *
 * @module
 */
import { join } from "node:path";
import { LineProgress } from "../../cli/progress.ts";
import { cacheDir } from "../../base/dirs.ts";
import { removeAtEnd } from "../../base/files.ts";
import { exitOnSignals } from "../../base/signals.ts";
import type { InstallerName } from "../../workload/dependencies/dependencies.ts";
import { INSTALLERS } from "../../workload/dependencies/installers.ts";
import type { LanguageName } from "../../workload/languages.ts";
import { GUEST_PACKAGES } from "../net/guest_packages.ts";
import { examples } from "../examples.ts";
import { printLines, seconds } from "../lines.ts";
import { CPYTHON_MODULES, CPYTHON_PACKAGES } from "./cpython.ts";
import { HOST, type HostImage, makeHost, type WantedImage } from "./image.ts";
import { runInHost } from "./machine.ts";

/** How long an emulated host may live. */
const LIMIT_SECONDS = Number(Deno.env.get("CLOUDLET_TEST_MINUTES") ?? 14) * 60;
/** How long before that the tests in it are ended, so that it can still tell how they went. */
const LAST_WORDS_SECONDS = 20;

/** Some of the tests that there are. */
interface Part {
  /** What can be chosen of it. */
  readonly names: readonly string[];
  /** Files of the tests that are chosen, as paths in the checkout. */
  files(chosen: readonly string[]): readonly string[];
  /** Variables that they get. */
  env(chosen: readonly string[]): Readonly<Record<string, string>>;
  /** Parts of one lane have a host and its cache in common; lanes run side by side. */
  readonly lane: string;
}

const GUEST = ["boot", "outcome", "stress", "snapshot", "agent"];
const guestTests = (names: readonly string[]) =>
  names.map((name) => name === "state" ? STATE : `test/guest/${name}_test.ts`);
/** Needs no guest, but a KVM that gives guests a TSC of their own. */
const STATE = "vmm/snapshot/machine_state_test.ts";

const PARTS: Readonly<Record<string, Part>> = {
  /** From an empty cache with Debian's kernel. */
  examples: {
    names: examples().map(({ name }) => name),
    files: () => ["test/hardware/inside_test.ts"],
    env: (chosen) => ({ CLOUDLET_TEST_HARDWARE: "1", CLOUDLET_TEST_EXAMPLES: chosen.join(",") }),
    lane: "examples",
  },
  /** The guest tests with Debian's kernel. */
  guest: {
    names: ["state", ...GUEST, "many_runs"],
    files: guestTests,
    env: () => ({ CLOUDLET_TEST_RUNS: "8" }),
    lane: "guests",
  },
  /** The network of guests. */
  network: {
    names: ["network"],
    files: guestTests,
    env: () => ({ CI: "true" }),
    lane: "network",
  },
  /** Projects with packages, from registries of the tests. */
  packages: {
    names: ["pip", "npm", "cargo", "deno", "broken"],
    files: () => ["test/guest/packages_test.ts"],
    env: (chosen) => ({ CLOUDLET_TEST_PACKAGES: chosen.join(",") }),
    lane: "packages",
  },
  /** The tests that CPython has of the system it runs on. They take an hour or two. */
  cpython: {
    names: CPYTHON_MODULES,
    files: () => ["test/hardware/cpython_test.ts"],
    env: (chosen) => ({ CLOUDLET_TEST_CPYTHON: chosen.join(",") }),
    lane: "cpython",
  },
  /** And with the kernel that cloudlet compiles, which has been brought along. */
  built: {
    names: [...GUEST, "devices"],
    files: guestTests,
    env: () => ({
      CLOUDLET_TEST_KERNEL: `/${HOST.kernels}/up`,
      CLOUDLET_TEST_KERNEL_SMP: `/${HOST.kernels}/smp`,
    }),
    lane: "guests",
  },
};

/** What is run when nothing is asked for. */
const USUAL: readonly string[] = ["examples", "guest", "built"];

/** What the tests of packages need images of. */
const OF_PACKAGES: Readonly<Record<string, readonly [language: LanguageName, InstallerName]>> = {
  pip: ["python", "pip"],
  npm: ["node", "npm"],
  cargo: ["rust", "cargo"],
  deno: ["deno", "deno"],
  broken: ["python", "pip"],
};

/** What was asked for: names by part. */
function choose(args: readonly string[]): Map<string, readonly string[]> {
  const chosen = new Map<string, readonly string[]>();
  for (const argument of args.length > 0 ? args : USUAL) {
    const [part = "", list] = argument.split(":");
    const all = PARTS[part]?.names;
    const names = list?.split(",") ?? all ?? [];
    const unknown = all === undefined ? part : names.find((name) => !all.includes(name));
    if (unknown !== undefined) {
      console.error(
        `Cannot run "${argument}": there is no "${unknown}", but ` +
          (all ?? Object.keys(PARTS)).join(", "),
      );
      Deno.exit(2);
    }
    chosen.set(part, names);
  }
  return chosen;
}

const chosen = choose(Deno.args);

/** Shell commands that run a part, with its name before each line. */
function commandsOf(name: string): string {
  const part = PARTS[name]!;
  const names = chosen.get(name)!;
  const variables = Object.entries(part.env(names)).map(([name, value]) => `${name}=${value}`);
  const files = part.files(names).join(" ");
  return `part ${name} ${variables.join(" ")} deno test -A --quiet --no-check ${files}`;
}

/** What a host does for some parts. */
function scriptOf(parts: readonly string[]): string {
  return `exec /bin/bash <<'SCRIPT' 2>&1
set -e -o pipefail
busybox ip link set lo up
export HOME=/root NO_COLOR=1 DENO_NO_UPDATE_CHECK=1 DENO_DIR=/${HOST.denoDir}
export XDG_CACHE_HOME=/work XDG_RUNTIME_DIR=/work/runtime TMPDIR=/work/tmp
mkfs.ext4 -q /dev/vdb
mkdir /work
mount /dev/vdb /work
mkdir -p /work/cloudlet/debian /work/tmp /work/runtime
cp -r /${HOST.cache}/debian/release /${HOST.cache}/debian/index /work/cloudlet/debian/
ln -s /${HOST.cache}/debian/pool /work/cloudlet/debian/pool
cd /${HOST.checkout}
code=0
part() { # NAME COMMAND...
  name=$1
  shift
  left=$((${LIMIT_SECONDS - LAST_WORDS_SECONDS} - $(cut -d. -f1 /proc/uptime)))
  timeout -s KILL $((left > 0 ? left : 1)) env "$@" </dev/null 2>&1 | while IFS= read -r line; do
    echo "$name: $line"
  done || { echo "$name: ended with exit code $?"; code=1; }
}
${parts.map(commandsOf).join("\n")}
exit $code
SCRIPT
`;
}

const languages = new Set(["tiny"]);
for (const { name, language } of examples()) {
  if (chosen.get("examples")?.includes(name)) languages.add(language);
}
if (chosen.has("guest") || chosen.has("built")) languages.add("python").add("bash"); // their tests'
const images: WantedImage[] = Array.from(languages, (language) => ({ language }));
if (chosen.has("network")) images.push({ language: "python", packages: GUEST_PACKAGES });
if (chosen.has("cpython")) images.push({ language: "python", packages: CPYTHON_PACKAGES });
for (const name of chosen.get("packages") ?? []) {
  const [language, installer] = OF_PACKAGES[name]!;
  images.push({ language }, { language, packages: INSTALLERS[installer].packages });
}
exitOnSignals();

/** Runs the parts of a lane; gives their exit code. */
async function runLane(
  host: HostImage,
  lane: string,
  parts: readonly string[],
  directory: string,
): Promise<number> {
  const logPath = join(cacheDir(), `hardware-test-${lane}.log`);
  const print = printLines();
  const say = (what: string) => print(`${parts.join(", ")}: ${what}; console in ${logPath}\n`);
  say(`boot the emulated host, for ${LIMIT_SECONDS / 60} minutes at most`);
  using log = await Deno.open(logPath, { create: true, write: true, truncate: true });
  const code = await runInHost(host, {
    directory,
    script: scriptOf(parts),
    timeout: LIMIT_SECONDS * 1000,
    log,
    output: print,
  });
  say(code === undefined ? "the host ended before its tests had" : `ended with exit code ${code}`);
  return code ?? 1;
}

let codes: readonly number[];
{
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-hardware-" });
  using _ = removeAtEnd(directory);
  const kernels = chosen.has("built") ? ["up", "smp"] as const : [];
  const host = await makeHost(
    directory,
    images,
    kernels,
    new LineProgress(),
    chosen.has("network"),
  );
  const lanes = Map.groupBy(chosen.keys(), (name) => PARTS[name]!.lane);
  codes = await Promise.all(Array.from(lanes, async ([lane, parts]) => {
    const own = join(directory, lane);
    await Deno.mkdir(own);
    return await runLane(host, lane, parts, own);
  }));
}
const failed = codes.some((code) => code !== 0);
console.log(`${seconds()} s  The tests on emulated hardware ${failed ? "failed" : "passed"}.`);
Deno.exit(failed ? 1 : 0);
