import assert from "node:assert/strict";
import { join } from "node:path";
import type { Ioctl } from "./ioctl.ts";
import type { Members, Struct } from "./struct.ts";
import * as bootparam from "./uapi/bootparam.ts";
import * as kvm from "./uapi/kvm.ts";
import * as kvmX86 from "./uapi/kvm_x86.ts";
import * as mman from "./uapi/mman.ts";
import * as socket from "./uapi/socket.ts";

/** What the headers say: "sizeof kvm_regs", "offsetof kvm_regs rax", "value KVM_RUN". */
type Table = Record<string, string>;

const GOLDEN = new URL("./testdata/uapi.json", import.meta.url);
const HEADERS = [
  "linux/kvm.h",
  "asm/bootparam.h",
  "asm/e820.h",
  "sys/mman.h",
  "sys/epoll.h",
  "sys/eventfd.h",
  "sys/ioctl.h",
  "sys/socket.h",
  "netinet/in.h",
  "netinet/tcp.h",
  "sys/uio.h",
  "fcntl.h",
];
const MODULES: readonly Record<string, unknown>[] = [kvm, kvmX86, bootparam, mman, socket];

/** Names that are ours, not the headers'. */
const OURS: ReadonlySet<string> = new Set(["kvm_run_exit", "kvm_irqchip_chip"]);
/** The unnamed union of kvm_run has a name here only. */
const cPath = (path: string) => path.replace(/^exit\./, "");

function isStruct(value: unknown): value is Struct<Members> {
  return typeof value === "object" && value !== null && "offsetOf" in value;
}

function isIoctl(value: unknown): value is Ioctl<unknown> {
  return typeof value === "object" && value !== null && "request" in value;
}

function* members(type: Struct<Members>, prefix = ""): Generator<string> {
  for (const [name, member] of Object.entries(type.members)) {
    const path = prefix + name;
    if (path !== "exit") yield path;
    if (isStruct(member)) yield* members(member, `${path}.`);
  }
}

function ourTable(): Table {
  const table: Table = {};
  for (const module of MODULES) {
    for (const [name, value] of Object.entries(module)) {
      if (isStruct(value) && !OURS.has(name)) {
        table[`sizeof ${value.name}`] = String(value.size);
        for (const path of members(value)) {
          table[`offsetof ${value.name} ${cPath(path)}`] = String(value.offsetOf(path));
        }
      } else if (isIoctl(value)) {
        table[`value ${value.name}`] = String(value.request);
      } else if (typeof value === "number" || typeof value === "bigint") {
        table[`value ${name}`] = String(value);
      }
    }
  }
  return table;
}

/** A C program that prints the same table. */
function cProgram(keys: readonly string[]): string {
  const lines = keys.map((key) => {
    const [kind, type, path] = key.split(" ");
    const expression = kind === "sizeof"
      ? `sizeof(struct ${type})`
      : kind === "offsetof"
      ? `offsetof(struct ${type}, ${path})`
      : `(unsigned int)(${type})`;
    return `  printf("%s\\t%llu\\n", "${key}", (unsigned long long)(${expression}));`;
  });
  return [
    "#define _GNU_SOURCE",
    "#include <stdio.h>",
    "#include <stddef.h>",
    "#define __packed __attribute__((packed))",
    ...HEADERS.map((header) => `#include <${header}>`),
    "int main(void) {",
    ...lines,
    "  return 0;",
    "}",
  ].join("\n");
}

async function fromHeaders(keys: readonly string[]): Promise<Table> {
  const directory = await Deno.makeTempDir();
  try {
    const source = join(directory, "table.c");
    const program = join(directory, "table");
    await Deno.writeTextFile(source, cProgram(keys));
    const compiled = await new Deno.Command("gcc", { args: ["-o", program, source] }).output();
    assert.ok(compiled.success, new TextDecoder().decode(compiled.stderr));
    const { stdout } = await new Deno.Command(program).output();
    const lines = new TextDecoder().decode(stdout).trimEnd().split("\n");
    return Object.fromEntries(lines.map((line) => line.split("\t") as [string, string]));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function hasHeaders(): Promise<boolean> {
  try {
    await Deno.stat("/usr/include/linux/kvm.h");
    return (await new Deno.Command("gcc", { args: ["--version"] }).output()).success;
  } catch {
    return false;
  }
}

Deno.test("layouts, constants and ioctl numbers are those of the checked-in table", async () => {
  const golden: Table = JSON.parse(await Deno.readTextFile(GOLDEN));
  assert.deepEqual(ourTable(), golden);
});

Deno.test({
  name: "the checked-in table is what a C compiler makes of the real headers",
  ignore: !(await hasHeaders()),
  async fn() {
    const table = await fromHeaders(Object.keys(ourTable()));
    if (Deno.env.get("UPDATE_GOLDEN") !== undefined) {
      await Deno.writeTextFile(GOLDEN, JSON.stringify(table, null, 2) + "\n");
    }
    assert.deepEqual(JSON.parse(await Deno.readTextFile(GOLDEN)), table);
  },
});
