/**
 * What has to hold on a host with hardware KVM. `deno task test:hardware` runs it in such a host, in
 * which nothing has been built and there is no network; elsewhere these tests are left out.
 *
 * CLOUDLET_TEST_EXAMPLES names the examples, separated by commas; all when absent.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { kernelStore } from "../../builder/kernel/kernel.ts";
import { hostKind } from "../../vmm/kvm/host_probe.ts";
import { defaultKernel } from "../../vmm/host_traits.ts";
import { Kvm } from "../../vmm/kvm/kvm.ts";
import { examples } from "../examples.ts";
import { runScript } from "../guest/fixtures.ts";
import { checkoutPath } from "../paths.ts";
import { HOST } from "./image.ts";

const ignore = Deno.env.get("CLOUDLET_TEST_HARDWARE") !== "1";
const wanted = Deno.env.get("CLOUDLET_TEST_EXAMPLES")?.split(",");

async function cloudlet(...args: readonly string[]) {
  const { stdout, stderr, code } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", checkoutPath("../mod.ts"), ...args],
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { out: text.decode(stdout), said: text.decode(stderr), code };
}

const UNITS: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20 };

/** Bytes that progress lines say were fetched. */
function fetched(said: string): number {
  const lines = said.matchAll(/^Fetch .*: done \(.*, ([\d.]+) (B|KiB|MiB)\)$/gm);
  return Array.from(lines, ([, amount, unit]) => Number(amount) * UNITS[unit!]!)
    .reduce((sum, bytes) => sum + bytes, 0);
}

Deno.test({
  name: "the host is of the hardware kind, and guests boot Debian's kernel",
  ignore,
  fn() {
    using kvm = Kvm.open();
    assert.equal(hostKind(kvm), "hardware");
    assert.equal(defaultKernel(), "debian");
  },
});

Deno.test({
  name: "doctor says so, and what follows",
  ignore,
  async fn() {
    const { out } = await cloudlet("doctor");
    assert.match(out, /^ok +processor: .* with AMD-V$/m);
    assert.match(
      out,
      /^ok +KVM: .* hardware virtualization: guests boot Debian's own kernel, .*nothing .*compiled/m,
    );
    assert.doesNotMatch(out, /^FAIL/m);
  },
});

for (const { name, config } of examples()) {
  if (wanted !== undefined && !wanted.includes(name)) continue;
  Deno.test({
    name: `the example ${name} runs from an empty cache, and then from a snapshot`,
    ignore,
    async fn() {
      const expected = join("/", HOST.expected, name);
      const [out, code] = await Promise.all([
        Deno.readTextFile(expected).catch(() => undefined), // was not to be had there
        Deno.readTextFile(`${expected}.code`).catch(() => "0"),
      ]);
      const times: string[] = [];
      for (const first of [true, false]) {
        const start = performance.now();
        const result = await cloudlet("run", config);
        times.push(((performance.now() - start) / 1000).toFixed(1));
        assert.equal(result.code, Number(code), result.said);
        assert.equal(result.out, out ?? result.out, result.said);
        assert.notEqual(result.out, "");
        // The lists of packages, some 10 MB, came along; builder/image has a test with them.
        if (first && name === "bash") assert(fetched(result.said) < 90_000_000, result.said);
        if (!first) assert.doesNotMatch(result.said, /Boot the microVM|Write the|Fetch/);
      }
      console.log(`${name}: ${times.join(" s, then ")} s`);
    },
  });
}

Deno.test({
  name: "nothing was compiled for that",
  ignore: ignore || wanted?.length === 0,
  async fn() {
    for await (const { name } of Deno.readDir(kernelStore().root)) {
      if (name.startsWith(".")) continue;
      const files = Array.from(Deno.readDirSync(join(kernelStore().root, name)), (f) => f.name);
      assert.deepEqual(files.sort(), ["manifest.json", "modules.cpio", "vmlinux"]);
    }
  },
});

for (const vcpus of [1, 4]) {
  Deno.test({
    name: `a guest with ${vcpus} vCPUs needs no instruction of cloudlet's`,
    ignore,
    async fn() {
      const script = "nproc; grep -c hypervisor /proc/cpuinfo; cat /sys/devices/system/" +
        "clocksource/clocksource0/available_clocksource; seq 1 200 | sort -rn | awk '{ s += $1 } " +
        "END { print s }'";
      const result = await runScript(script, { vcpus, memory: 256 << 20 });
      // Which one Linux takes depends on whether the host's TSC ever stops.
      assert.match(
        result.output,
        new RegExp(`^${vcpus}\n${vcpus}\n.*\\bkvm-clock\\b.*\n20100\n$`),
        result.console,
      );
      assert.equal(result.assists, 0);
    },
  });
}
