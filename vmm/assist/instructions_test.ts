import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { MIB } from "../layout.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import { decode } from "./decode.ts";
import { Exception, findAssist, type Machine } from "./instructions.ts";
import { EntryChanged, PageFault, translate } from "./page_walk.ts";
import { areaSize, BadXsaveHeader, restoredState, type XsaveComponent } from "./xsave.ts";

const CR4_OSXSAVE = 1n << 18n;
const DATA_AT = 0x1_0000n;

/** A processor with 64 KiB of memory at {@linkcode DATA_AT}. */
class FakeMachine implements Machine {
  readonly registers: bigint[] = Array.from({ length: 16 }, () => 0n);
  rip = 0n;
  rflags = 2n;
  cr0 = 0n;
  cr4 = CR4_OSXSAVE;
  xcr0 = 7n;
  fsBase = 0n;
  gsBase = 0n;
  xsaveComponents: readonly XsaveComponent[] = [];
  memory = new Uint8Array(0x1_0000);
  state = new Uint8Array(4096);

  read(linear: bigint, length: number): Uint8Array<ArrayBuffer> {
    const at = Number(linear - DATA_AT);
    return this.memory.slice(at, at + length);
  }
  write(pieces: readonly { readonly linear: bigint; readonly bytes: Uint8Array }[]): void {
    for (const { linear, bytes } of pieces) this.memory.set(bytes, Number(linear - DATA_AT));
  }
  compareExchange(linear: bigint, expected: bigint, next: bigint): bigint {
    const view = new DataView(this.memory.buffer, Number(linear - DATA_AT), 16);
    const current = view.getBigUint64(8, true) << 64n | view.getBigUint64(0, true);
    if (current === expected) {
      view.setBigUint64(0, BigInt.asUintN(64, next), true);
      view.setBigUint64(8, next >> 64n, true);
    }
    return current;
  }
  getXsave() {
    return this.state.slice();
  }
  setXsave(state: Uint8Array<ArrayBuffer>) {
    this.state = state;
  }

  /** Executes machine code. */
  execute(...code: number[]): void {
    const instruction = decode(Uint8Array.from(code))!;
    this.rip += BigInt(instruction.length);
    findAssist(instruction)!.execute(this, instruction);
  }
}

interface NativeCase {
  readonly kind: "layout" | "popcnt" | "cmpxchg16b" | "save" | "restore";
  readonly [name: string]: unknown;
}

/** What this processor does, by the C program; undefined without a compiler or XSAVEOPT. */
async function nativeCases(): Promise<NativeCase[] | undefined> {
  const directory = await Deno.makeTempDir();
  try {
    const program = join(directory, "native");
    const source = new URL("./testdata/native.c", import.meta.url).pathname;
    const made = await new Deno.Command("gcc", {
      args: ["-O1", "-mno-avx", "-Wall", "-Wextra", "-Werror", "-o", program, source],
    }).output().catch(() => undefined);
    if (made?.success !== true) return undefined;
    const { success, stdout } = await new Deno.Command(program).output();
    if (!success) return undefined;
    return new TextDecoder().decode(stdout).trimEnd().split("\n").map((line) => JSON.parse(line));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const native = await nativeCases();
const components = native?.find(({ kind }) => kind === "layout")?.components as
  | XsaveComponent[]
  | undefined;
const big = (text: unknown) => BigInt(`0x${text}`);

Deno.test({
  name: "popcnt gives the processor's result and flags",
  ignore: native === undefined,
  fn() {
    const code = {
      2: [0x66, 0xf3, 0x0f, 0xb8, 0xc3], // popcnt %bx, %ax
      4: [0xf3, 0x0f, 0xb8, 0xc3], // popcnt %ebx, %eax
      8: [0xf3, 0x48, 0x0f, 0xb8, 0xc3], // popcnt %rbx, %rax
    };
    const cases = native!.filter(({ kind }) => kind === "popcnt");
    assert.ok(cases.length > 0);
    for (const one of cases) {
      const machine = new FakeMachine();
      machine.registers[0] = big(one.before);
      machine.registers[3] = big(one.source);
      machine.rflags = 2n | 0x8d5n; // all arithmetic flags
      machine.execute(...code[one.size as 2 | 4 | 8]);
      assert.equal(machine.registers[0], big(one.result), JSON.stringify(one));
      assert.equal(machine.rflags & 0x8d5n, BigInt(one.flags as number) & 0x8d5n);
    }
  },
});

Deno.test({
  name: "cmpxchg16b gives the processor's memory, registers and zero flag",
  ignore: native === undefined,
  fn() {
    const cases = native!.filter(({ kind }) => kind === "cmpxchg16b");
    assert.ok(cases.length > 0);
    for (const one of cases) {
      const [m0, m1, a, d, b, c] = (one.in as string[]).map(big);
      const machine = new FakeMachine();
      const view = new DataView(machine.memory.buffer);
      view.setBigUint64(0x20, m0!, true);
      view.setBigUint64(0x28, m1!, true);
      Object.assign(machine.registers, { 0: a, 1: c, 2: d, 3: b, 6: DATA_AT + 0x20n });
      machine.execute(0xf0, 0x48, 0x0f, 0xc7, 0x0e); // lock cmpxchg16b (%rsi)
      assert.deepEqual([
        view.getBigUint64(0x20, true),
        view.getBigUint64(0x28, true),
        machine.registers[0],
        machine.registers[2],
      ], (one.out as string[]).map(big));
      assert.equal(machine.rflags >> 6n & 1n, BigInt(one.zero as number));
    }
  },
});

Deno.test({
  name: "xsave and xsaveopt write what the processor writes, and no byte more",
  ignore: native === undefined,
  fn() {
    const cases = native!.filter(({ kind }) => kind === "save");
    assert.ok(cases.length > 0);
    for (const one of cases) {
      const machine = new FakeMachine();
      machine.xcr0 = big(one.xcr0);
      machine.xsaveComponents = components!;
      machine.state = Uint8Array.fromHex(one.state as string);
      const mask = big(one.mask);
      machine.registers[0] = mask & 0xffff_ffffn;
      machine.registers[2] = mask >> 32n;
      machine.registers[7] = DATA_AT;
      machine.memory.fill(0xaa).fill(0, 512, 576)[512] = 2;
      machine.execute(0x48, 0x0f, 0xae, one.optimised === 1 ? 0x37 : 0x27);
      const expected = Uint8Array.fromHex(one.area as string);
      assert.deepEqual(machine.memory.subarray(0, 4096), expected, `mask ${one.mask}`);
      assert.ok(machine.memory.subarray(4096).every((byte) => byte === 0xaa));
    }
  },
});

Deno.test({
  name: "xrstor makes the processor's state of an area",
  ignore: native === undefined,
  fn() {
    const cases = native!.filter(({ kind }) => kind === "restore");
    assert.ok(cases.length > 0);
    for (const one of cases) {
      const machine = new FakeMachine();
      machine.xcr0 = big(one.xcr0);
      machine.xsaveComponents = components!;
      machine.state = Uint8Array.fromHex(one.before as string);
      machine.memory.set(Uint8Array.fromHex(one.area as string));
      const mask = big(one.mask);
      machine.registers[0] = mask & 0xffff_ffffn;
      machine.registers[2] = mask >> 32n;
      machine.registers[7] = DATA_AT;
      machine.execute(0x48, 0x0f, 0xae, 0x2f); // xrstor64 (%rdi)
      const after = Uint8Array.fromHex(one.after as string);
      for (
        const { offset, size } of [
          { offset: 0, size: 28 }, // MXCSR_MASK is the processor's
          { offset: 32, size: 384 },
          { offset: 512, size: 8 },
          ...components!,
        ]
      ) {
        assert.deepEqual(
          machine.state.subarray(offset, offset + size),
          after.subarray(offset, offset + size),
          `mask ${one.mask}, offset ${offset}`,
        );
      }
    }
  },
});

Deno.test("traps, faults and flags are the manual's", () => {
  const machine = new FakeMachine();
  assert.throws(
    () => machine.execute(0xcc),
    (error) => error instanceof Exception && error.vector === 3,
  );
  assert.equal(machine.rip, 1n);
  machine.execute(0x9b);
  assert.equal(machine.rip, 2n);
  machine.execute(0x0f, 0x01, 0xcb);
  assert.equal(machine.rflags, 2n | 1n << 18n);
  machine.execute(0x0f, 0x01, 0xca);
  assert.equal(machine.rflags, 2n);
  const fault = (vector: number, code: number[], change: Partial<FakeMachine>) => {
    const broken = Object.assign(new FakeMachine(), change);
    broken.registers[7] ??= DATA_AT;
    assert.throws(
      () => broken.execute(...code),
      (error) => error instanceof Exception && error.vector === vector,
    );
  };
  const misaligned = new FakeMachine();
  misaligned.registers[7] = DATA_AT + 8n;
  assert.throws(
    () => misaligned.execute(0x0f, 0xae, 0x27),
    (error) => error instanceof Exception && error.vector === 13 && error.errorCode === 0,
  );
  fault(6, [0x0f, 0xae, 0x27], { cr4: 0n }); // xsave without OSXSAVE
  fault(7, [0x0f, 0xae, 0x2f], { cr0: 1n << 3n }); // xrstor with TS
  fault(6, [0xf3, 0x48, 0x0f, 0xae, 0xd0], {}); // wrfsbase without FSGSBASE
});

Deno.test("an XSAVE header that the processor refuses is refused", () => {
  const state = new Uint8Array(4096);
  for (const [offset, value] of [[512, 0x80], [520, 1], [527, 0x80], [528, 1]] as const) {
    const area = new Uint8Array(4096);
    area[offset] = value;
    assert.throws(() => restoredState(state, area, 7n, 7n, []), BadXsaveHeader, `byte ${offset}`);
  }
  assert.equal(areaSize(7n, [{ bit: 2, offset: 576, size: 256 }]), 832);
  assert.equal(areaSize(3n, [{ bit: 2, offset: 576, size: 256 }]), 576);
});

Deno.test("an entry that another processor changes meanwhile is not marked: the walk begins anew", () => {
  using memory = GuestMemory.create(32 * MIB);
  const state = { cr0: 1n << 31n, cr3: 0x1000n, cr4: 1n << 5n };
  const link = (address: number, value: bigint) => memory.setBigUint64(address, value);
  for (const table of [0x1000, 0x2000, 0x3000]) link(table, BigInt(table) + 0x1000n | 0x23n);
  link(0x4000 + 40, 0x5000n | 3n);
  /** Memory of which another processor writes an entry as soon as it was read. */
  const racing = (change: (address: number) => void) => ({
    getBigUint64(address: number) {
      const entry = memory.getBigUint64(address);
      change(address);
      return entry;
    },
    lend: memory.lend.bind(memory),
  });
  const go = (memory: Parameters<typeof translate>[0]) =>
    translate(memory, state, 0x5123n, { write: true, user: false });

  // A page that is taken away: its entry stays empty.
  assert.throws(() => go(racing((at) => at === 0x4028 && link(at, 0n))), PageFault);
  assert.equal(memory.getBigUint64(0x4028), 0n);
  // One that becomes another: that one is used and marked.
  link(0x4028, 0x5000n | 3n);
  assert.equal(go(racing((at) => at === 0x4028 && link(at, 0x6000n | 3n))), 0x6123);
  assert.equal(memory.getBigUint64(0x4028), 0x6000n | 0x63n);
  // One that changes for ever does not keep the thread.
  link(0x4028, 0x5000n | 3n);
  let frame = 0x7000n;
  const restless = racing((at) => at === 0x4028 && link(at, (frame += 0x1000n) | 3n));
  assert.throws(() => go(restless), EntryChanged);
});

Deno.test("page walks obey permissions, and mark what they use", () => {
  using memory = GuestMemory.create(32 * MIB);
  const state = { cr0: 1n << 16n | 1n << 31n, cr3: 0x1000n, cr4: 1n << 5n };
  const link = (table: number, index: number, value: bigint) =>
    memory.setBigUint64(table + index * 8, value);
  link(0x1000, 0, 0x2000n | 7n);
  link(0x2000, 0, 0x3000n | 7n);
  link(0x3000, 0, 0x4000n | 7n);
  link(0x4000, 5, 0x5000n | 5n); // user, read-only
  link(0x4000, 6, 0x6000n | 3n); // kernel, writable
  link(0x3000, 1, 0x40_0000n | 0x83n); // 2 MiB, kernel
  const go = (linear: bigint, write: boolean, user: boolean) =>
    translate(memory, state, linear, { write, user });
  const faults = (code: number, ...args: Parameters<typeof go>) =>
    assert.throws(
      () => go(...args),
      (error) =>
        error instanceof PageFault && error.errorCode === code && error.address === args[0],
    );
  assert.equal(go(0x5123n, false, true), 0x5123);
  assert.equal(memory.getBigUint64(0x4000 + 40), 0x5000n | 5n | 0x20n);
  faults(3, 0x5123n, true, false); // copy-on-write: the kernel's store has to fault
  faults(7, 0x5123n, true, true);
  assert.equal(go(0x6123n, true, false), 0x6123);
  assert.equal(memory.getBigUint64(0x4000 + 48), 0x6000n | 3n | 0x60n);
  faults(5, 0x6123n, false, true);
  assert.equal(go(0x20_0000n + 0x12345n, true, false), 0x41_2345);
  faults(0, 0x7000n, false, false);
  faults(2, 0x4000_0000n, true, false);
  state.cr0 = 1n << 31n; // without WP the kernel may
  assert.equal(go(0x5123n, true, false), 0x5123);
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }), (linear) => {
    try {
      go(linear, false, false);
    } catch (error) {
      assert.ok(error instanceof PageFault);
    }
  }));
});
