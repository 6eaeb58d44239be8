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
  assert.equal(software.ok, "warn");
  assert.match(software.detail, /software-only: .*compiled once/);
});

Deno.test("what the first run has to do for its kernel is said", () => {
  assert.match(judgeKernel("debian", "6.1.1-1").detail, /Debian's own, 6\.1\.1-1, is in the cache/);
  assert.match(judgeKernel("debian", undefined).detail, /fetches and unpacks/);
  assert.match(judgeKernel("built", "6.1.1-1").detail, /6\.1\.1-1, is in the cache/);
  assert.equal(
    judgeKernel("built", undefined).remedy,
    "`cloudlet kernel build` does it beforehand",
  );
});
