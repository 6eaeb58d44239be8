import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import plugin from "./plugin.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** What the rules say of a file: the rule and the line of each finding. */
function findings(path: string, source: string): string[] {
  return Deno.lint.runPlugin(plugin, ROOT + path, source).map(({ id, range }) => {
    const line = source.slice(0, range[0]).split("\n").length;
    return `${id.replace("cloudlet/", "")} ${line}`;
  });
}

Deno.test("imports point downwards, in every form that they have", () => {
  const forms = (to: string) =>
    `import { a } from "${to}";\nexport { b } from "${to}";\nexport * from "${to}";\n` +
    `import type { C } from "${to}";\n` +
    `await lazyImport<typeof import("${to}")>("${to}", import.meta.url);\n`;
  const up = ["layers 1", "layers 2", "layers 3", "layers 4", "layers 5"];
  assert.deepEqual(findings("vmm/vm.ts", forms("../service/run_store.ts")), up);
  assert.deepEqual(findings("vmm/vm.ts", forms("../node/pool.ts")), up);
  assert.deepEqual(findings("node/pool.ts", forms("../service/run_store.ts")), up);
  assert.deepEqual(findings("api/library/run.ts", forms("../../node/pool.ts")), up);
  assert.deepEqual(findings("vmm/devices/blk.ts", forms("../../api/library/run.ts")), up);
  assert.deepEqual(findings("base/store.ts", forms("../builder/tree.ts")), up);
  assert.deepEqual(findings("agent/main.ts", forms("../ffi/libc.ts")), up);
  assert.deepEqual(findings("agent/main.ts", forms("./client/client.ts")), up);
  assert.deepEqual(findings("agent/client/client.ts", forms("../main.ts")), up);
  assert.deepEqual(findings("builder/image/inputs.ts", forms("../../agent/main.ts")), up);
  assert.deepEqual(findings("workload/request.ts", forms("../agent/main.ts")), up);
  assert.deepEqual(findings("service/run_store.ts", forms("../api/library/run.ts")), up);
  assert.deepEqual(findings("other/x.ts", forms("../base/store.ts")), up);
  for (
    const [from, to] of [
      ["cli/run.ts", "../api/library/run.ts"],
      ["api/library/run.ts", "../../service/run_store.ts"],
      ["service/run_store.ts", "../node/pool.ts"],
      ["node/pool.ts", "../vmm/vm.ts"],
      ["service/run_store.ts", "../agent/client/client.ts"],
      ["agent/client/client.ts", "../../workload/request.ts"],
      ["agent/main.ts", "../workload/request.ts"],
      ["vmm/vm.ts", "./kvm.ts"],
      ["vmm/vm.ts", "../ffi/libc.ts"],
      ["vmm/vm.ts", "node:path"],
      ["vmm/vm.ts", "zod"],
      ["mod.ts", "./cli/app.ts"],
      ["vmm/vm_test.ts", "../cli/app.ts"],
      ["test/service.ts", "../api/http/serve.ts"],
      ["examples/deno/main.ts", "./lib/collatz.ts"],
    ]
  ) assert.deepEqual(findings(from!, forms(to!)), [], `${from} -> ${to}`);
});

Deno.test("what is loaded later is no literal import, and has its own type", () => {
  const lazy = (to: string, type = to) =>
    `await lazyImport<typeof import("${type}")>("${to}", import.meta.url);\n`;
  assert.deepEqual(findings("cli/app.ts", lazy("./run.ts")), []);
  assert.deepEqual(findings("cli/app.ts", lazy("./run.ts", "./ps.ts")), ["layers 1"]);
  assert.deepEqual(findings("vmm/vm.ts", lazy("../node/pool.ts")), ["layers 1"]);
  assert.deepEqual(findings("cli/app.ts", 'await import("./run.ts");\n'), ["layers 1"]);
  assert.deepEqual(findings("cli/app.ts", 'await import("cli-table3");\n'), []);
  assert.deepEqual(findings("offline.ts", 'await import("./cli/run.ts");\n'), []);
  assert.deepEqual(findings("cli/run_test.ts", 'await import("./run.ts");\n'), []);
});

Deno.test("nothing that is published imports what is for tests", () => {
  const source = (to: string) => `import { a } from "${to}";\n`;
  assert.deepEqual(findings("vmm/vm.ts", source("./vm_test.ts")), ["layers 1"]);
  assert.deepEqual(findings("vmm/vm.ts", source("./virtio/testing.ts")), ["layers 1"]);
  assert.deepEqual(findings("cli/run.ts", source("../test/paths.ts")), ["layers 1"]);
  assert.deepEqual(findings("cli/run.ts", source("../test_mode.ts")), ["layers 1"]);
  assert.deepEqual(findings("vmm/virtio/testing.ts", source("./compliance.ts")), []);
});

Deno.test("a raw pointer has its SAFETY in reach", () => {
  const use = "const p = Deno.UnsafePointer.create(a);\n";
  const comment = "// SAFETY: it is mapped.\n";
  assert.deepEqual(findings("ffi/x.ts", use), ["safety-comment 1"]);
  assert.deepEqual(findings("ffi/x.ts", comment + use), []);
  assert.deepEqual(findings("ffi/x.ts", comment + "\n".repeat(4) + use), []);
  assert.deepEqual(findings("ffi/x.ts", comment + "\n".repeat(5) + use), ["safety-comment 7"]);
  assert.deepEqual(findings("ffi/x.ts", use + comment), ["safety-comment 1"]);
  assert.deepEqual(findings("ffi/x.ts", "new Deno.UnsafePointerView(p);\n"), ["safety-comment 1"]);
  assert.deepEqual(findings("ffi/x.ts", "new Deno.UnsafeCallback(d, f);\n"), ["safety-comment 1"]);
  assert.deepEqual(findings("ffi/x.ts", "let p: Deno.UnsafePointerView;\n"), []);
});

Deno.test("no library is opened by an import", () => {
  assert.deepEqual(findings("ffi/x.ts", 'const c = Deno.dlopen("libc.so.6", {});\n'), [
    "lazy-dlopen 1",
  ]);
  for (const head of ["function f() {", "const f = () => {", "class A { f() {"]) {
    const tail = head.startsWith("class") ? "} }" : "}";
    assert.deepEqual(findings("ffi/x.ts", `${head} Deno.dlopen("c", {}); ${tail}\n`), []);
  }
});

Deno.test("an error says first what could not be done", () => {
  const thrown = (message: string) =>
    findings("base/x.ts", `throw new CloudletError(${message}, { code: "host" });\n`);
  for (const bad of ['"The disk is full"', "`the ${x}`", '"cannot " + x', "``", '""']) {
    assert.deepEqual(thrown(bad), ["error-message 1"], bad);
  }
  for (
    const good of ['"Cannot a: b"', "`Cannot ${x}`", '"Cannot a" + x + y', "text", "`${x}: y`"]
  ) {
    assert.deepEqual(thrown(good), [], good);
  }
  assert.deepEqual(findings("base/x_test.ts", 'new CloudletError("x", { code: "host" });\n'), []);
  assert.deepEqual(findings("base/x.ts", 'throw new RangeError("the name");\n'), []);
});

Deno.test("files have names in snake_case", () => {
  for (const good of ["a.ts", "a_b2_test.ts", "x.d.ts", "main.js", "node.cjs"]) {
    assert.deepEqual(findings(`base/${good}`, "\n"), [], good);
  }
  for (const bad of ["aB.ts", "A.ts", "a-b.ts", "a__b.ts", "_a.ts", "a.test.ts", "aB.cjs"]) {
    assert.deepEqual(findings(`base/${bad}`, "\n"), ["file-name 1"], bad);
  }
});

Deno.test("commands write through one file", () => {
  const source = "console.log(1);\nDeno.stdout.write(b);\nDeno.stderr.writeSync(b);\n" +
    "Deno.stderr.isTerminal();\n";
  const found = ["command-output 1", "command-output 2", "command-output 3"];
  assert.deepEqual(findings("cli/run.ts", source), found);
  for (const path of ["cli/output.ts", "cli/run_test.ts", "vmm/vm.ts"]) {
    assert.deepEqual(findings(path, source), [], path);
  }
});

Deno.test("a long file gives its reason, and none is longer than the most", () => {
  const file = (head: string, lines: number) => `/** ${head} */\n${"f();\n".repeat(lines - 1)}`;
  assert.deepEqual(findings("vmm/x.ts", file("A thing.", 400)), []);
  assert.deepEqual(findings("vmm/x.ts", file("A thing.", 401)), ["file-length 2"]);
  assert.deepEqual(findings("vmm/x.ts", file("A thing; long because of it.", 450)), []);
  assert.deepEqual(findings("vmm/x.ts", file("A thing; long because of it.", 451)), [
    "file-length 2",
  ]);
});
