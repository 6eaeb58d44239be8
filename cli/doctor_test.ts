import assert from "node:assert/strict";
import { CloudletError } from "../base/errors.ts";
import {
  examine,
  examineOne,
  judgeDisk,
  judgeFiles,
  judgeKernel,
  judgeKvm,
  judgeMemory,
  judgeNamespaces,
  judgeProcessor,
} from "./doctor.ts";
import { apply, fixForDirectory, fixForKvm, nearestDirectory } from "./doctor_fix.ts";
import { silentProgress } from "../base/progress.ts";
import { Cloudlet } from "../test/cli_process.ts";
import { checkoutPath, denoDir } from "../test/paths.ts";

const GIB = 1024 ** 3;
const INTEL = "model name\t: Some CPU\nflags\t\t: fpu vmx sse\n";
const CLOUD = "model name\t: Some CPU\nflags\t\t: fpu sse hypervisor\n";
const NONE = { clone: undefined, max: undefined, apparmor: undefined };

Deno.test("every check of this host comes to a verdict, and every doubt has a remedy", async () => {
  const findings = await examine();
  assert.deepEqual(findings.map(({ name }) => name), [
    "processor",
    "KVM",
    "kernel",
    "memory",
    "disk",
    "open files",
    "user namespaces",
    "network",
    "Debian mirror",
  ]);
  for (const { name, ok, detail, remedy } of findings) {
    assert.notEqual(detail, "", name);
    if (ok === "warn") assert.ok(remedy, `${name}: ${detail}`);
  }
  const kvm = findings.find(({ name }) => name === "KVM")!;
  try {
    using _ = await Deno.open("/dev/kvm", { read: true, write: true });
    assert.notEqual(kvm.ok, "fail", kvm.detail);
  } catch {
    assert.equal(kvm.ok, "fail");
  }
});

Deno.test("where KVM works, the first lines are no warnings", async () => {
  const kvm = (await examine()).find(({ name }) => name === "KVM");
  const { stdout } = await new Cloudlet(["doctor"], { env: { NO_COLOR: "1" } }).ended();
  if (kvm?.ok === "ok") assert.match(stdout, /^ok {4}processor: .*\nok {4}KVM: /);
  else assert.match(stdout, /^(ok|warn|FAIL) {2,4}processor: /);
});

Deno.test("what can be done about a finding is a command, or done", () => {
  const of = (code: string, ...flags: string[]) => fixForKvm(code, new Set(flags), 107, "bob");
  assert.deepEqual(of("ENOENT", "vmx"), { by: "root", command: "sudo modprobe kvm_intel" });
  assert.deepEqual(of("ENODEV", "svm"), { by: "root", command: "sudo modprobe kvm_amd" });
  assert.deepEqual(of("ENXIO"), { by: "root", command: "sudo modprobe kvm_pvm" });
  assert.match((of("EACCES") as { command: string }).command, /usermod -aG kvm bob/);
  assert.equal(of("EPERM"), undefined);
  const self = { uid: 1000, name: "bob" };
  const own = { by: "cloudlet", what: "make the cache writable" };
  assert.deepEqual(fixForDirectory("/x", 1000, self), own);
  assert.deepEqual(fixForDirectory("/x", 0, self), { by: "root", command: "sudo chown bob /x" });
  assert.equal(judgeFiles(64).fix?.by, "root");
  const sysctl = judgeNamespaces(false, { ...NONE, max: "0" }, false).fix;
  assert.deepEqual(sysctl, {
    by: "root",
    command: "sudo sysctl -w user.max_user_namespaces=10000",
  });
  assert.equal(judgeNamespaces(false, NONE, false).fix, undefined);
  assert.deepEqual(judgeKernel("built", undefined).fix, {
    by: "cloudlet",
    what: "make the kernel",
  });
});

Deno.test("doctor --fix says what it cannot do", async () => {
  const mod = checkoutPath("../mod.ts");
  // An empty cache, and no archive: it cannot make a kernel either, and does not compile one.
  const cache = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  const { stdout } = await new Deno.Command("sh", {
    args: [
      "-c",
      'ulimit -n 300; exec "$@"',
      "sh",
      Deno.execPath(),
      "run",
      "-A",
      mod,
      "doctor",
      "--fix",
    ],
    env: {
      NO_COLOR: "1",
      XDG_CACHE_HOME: cache,
      DENO_DIR: denoDir(),
      CLOUDLET_DEBIAN_MIRROR: "http://localhost:1/debian",
    },
  }).output().finally(() => Deno.remove(cache, { recursive: true }));
  const text = new TextDecoder().decode(stdout);
  assert.match(
    text,
    /^warn {2}open files: 300 may.*\n {6}-> needs root: sudo prlimit --pid \$\$ --nofile=1024:1024$/m,
  );
});

Deno.test("the fixes of the cache change the cache", async () => {
  const directory = await Deno.makeTempDir();
  const before = Deno.env.get("XDG_CACHE_HOME");
  try {
    Deno.env.set("XDG_CACHE_HOME", directory);
    await Deno.mkdir(`${directory}/cloudlet/images/.tmp-of-0123456789ab`, { recursive: true });
    await Deno.writeTextFile(`${directory}/cloudlet/images/kept`, "");
    const options = { progress: silentProgress };
    await apply("remove what was left unfinished", options);
    const left = await Array.fromAsync(Deno.readDir(`${directory}/cloudlet/images`), (e) => e.name);
    assert.deepEqual(left, ["kept"]);
    await Deno.chmod(`${directory}/cloudlet`, 0o550);
    await apply("make the cache writable", options);
    assert.equal((await Deno.stat(`${directory}/cloudlet`)).mode! & 0o777, 0o750);
    assert.equal(nearestDirectory(`${directory}/none/at/all`), directory);
    assert.equal(
      nearestDirectory(`${directory}/cloudlet/images/kept`),
      `${directory}/cloudlet/images`,
    );
  } finally {
    if (before === undefined) Deno.env.delete("XDG_CACHE_HOME");
    else Deno.env.set("XDG_CACHE_HOME", before);
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("what a check throws is a failure with its remedy", async () => {
  const error = new CloudletError("Cannot do it: why", { code: "host", remedy: "do that" });
  assert.deepEqual(await examineOne("x", () => Promise.reject(error)), {
    name: "x",
    ok: "fail",
    detail: "Cannot do it: why",
    remedy: "do that",
  });
  const other = await examineOne("x", () => {
    throw new TypeError("odd");
  });
  assert.deepEqual(other, { name: "x", ok: "fail", detail: "odd" });
});

Deno.test("a processor is judged by architecture and virtualization", () => {
  assert.equal(judgeProcessor("x86_64", INTEL).ok, "ok");
  assert.match(judgeProcessor("x86_64", CLOUD).remedy!, /nested/);
  assert.match(judgeProcessor("x86_64", CLOUD.replace("hypervisor", "")).remedy!, /firmware/);
  assert.equal(judgeProcessor("x86_64", "").ok, "warn");
  assert.deepEqual(judgeProcessor("x86_64", CLOUD, "software"), {
    ok: "ok",
    detail: "Some CPU, without VT-x and AMD-V: guest kernels can only be emulated",
  });
  assert.equal(judgeProcessor("aarch64", "", "software").ok, "fail");
  assert.equal(judgeProcessor("aarch64", "").ok, "fail");
});

Deno.test("user namespaces: trying decides, the switches only say what to do", () => {
  assert.equal(judgeNamespaces(true, { ...NONE, clone: "0" }, false).ok, "ok");
  for (
    const [switches, remedy] of [
      [{ ...NONE, clone: "0" }, /kernel\.unprivileged_userns_clone=1$/],
      [{ ...NONE, max: "0" }, /user\.max_user_namespaces=/],
      [{ ...NONE, apparmor: "1" }, /kernel\.apparmor_restrict_unprivileged_userns=0$/],
      [NONE, /container/],
    ] as const
  ) {
    assert.equal(judgeNamespaces(false, switches, false).ok, "fail");
    assert.match(judgeNamespaces(false, switches, false).remedy!, remedy);
    assert.equal(judgeNamespaces(false, switches, true).ok, "warn");
  }
  assert.equal(judgeNamespaces(undefined, NONE, false).ok, "ok");
  assert.equal(judgeNamespaces(undefined, { ...NONE, max: "0" }, false).ok, "fail");
});

Deno.test("disk, memory and files have a limit to run and one to build", () => {
  assert.deepEqual([9, 3, 1].map((n) => judgeDisk(n * GIB, "/x").ok), ["ok", "warn", "fail"]);
  assert.deepEqual([4, 2.5, 1].map((n) => judgeDisk(n * GIB, "/x", false).ok), [
    "ok",
    "warn",
    "fail",
  ]);
  assert.deepEqual([4, 2, 0.5].map((n) => judgeMemory(n * GIB, Infinity).ok), [
    "ok",
    "warn",
    "fail",
  ]);
  const limited = judgeMemory(64 * GIB, 512 * 1024 ** 2);
  assert.equal(limited.ok, "fail");
  assert.match(limited.detail, /512 MiB/);
  assert.match(limited.remedy!, /control group/);
  assert.deepEqual([Infinity, 1024, 512, 64].map((n) => judgeFiles(n).ok), [
    "ok",
    "ok",
    "warn",
    "fail",
  ]);
});

Deno.test("the kind of KVM is named, and what follows for the kernel", () => {
  const hardware = judgeKvm("hardware");
  assert.equal(hardware.ok, "ok");
  assert.match(hardware.detail, /hardware virtualization: .*nothing has to be compiled/);
  const software = judgeKvm("software");
  assert.equal(software.ok, "ok");
  assert.match(software.detail, /software-only: .*compiled once/);
});

Deno.test("what the first run has to do for its kernel is said", () => {
  assert.match(judgeKernel("debian", "6.1.1-1").detail, /Debian's own, 6\.1\.1-1, is in the cache/);
  assert.match(judgeKernel("debian", undefined).detail, /fetches and unpacks/);
  assert.match(judgeKernel("built", "6.1.1-1").detail, /6\.1\.1-1, is in the cache/);
  assert.equal(
    judgeKernel("built", undefined).remedy,
    "`cloudlet kernel build` or `doctor --fix` does it beforehand",
  );
});
