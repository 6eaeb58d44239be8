import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { decode } from "./decode.ts";
import { effectiveAddress, findAssist, type Machine } from "./instructions.ts";

/** AT&T syntax and what `as` makes of it, in hex. */
type Golden = Record<string, string>;

const GOLDEN = new URL("./testdata/encodings.json", import.meta.url);
const golden: Golden = JSON.parse(await Deno.readTextFile(GOLDEN));

const REGISTERS = [
  ..."rax rcx rdx rbx rsp rbp rsi rdi".split(" "),
  ...[8, 9, 10, 11, 12, 13, 14, 15].map((n) => `r${n}`),
];
const values = REGISTERS.map((_, i) => 0x1_0000_0000n * BigInt(i + 1) + BigInt(i * 0x123_4567));
const RIP = 0xffff_ffff_8100_0000n;
const FS = 0x7000_0000_0000n;
const GS = 0xffff_8880_0000_0000n;

const machine = { registers: values, rip: RIP, fsBase: FS, gsBase: GS } as unknown as Machine;

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.split(" "), (byte) => Number.parseInt(byte, 16));
}

/** The address that the operand's text names: another way to the same answer. */
function addressOf(text: string): bigint {
  const match = /(?:%(fs|gs):)?(-?0x[0-9a-f]+|0)?(?:\(%(\w+)?(?:,%(\w+)(?:,(\d))?)?\))?$/.exec(
    text,
  )!;
  const [, segment, displacement = "0", base, index, scale = "1"] = match;
  const register = (name: string | undefined) => {
    if (name === undefined) return 0n;
    if (name === "rip") return RIP;
    const at = REGISTERS.indexOf(name.replace(/^e/, "r"));
    return name.startsWith("e") ? BigInt.asUintN(32, values[at]!) : values[at]!;
  };
  const offset = displacement.startsWith("-")
    ? -BigInt(displacement.slice(1))
    : BigInt(displacement);
  const sum = register(base) + register(index) * BigInt(scale) + offset +
    (segment === "fs" ? FS : segment === "gs" ? GS : 0n);
  return BigInt.asUintN(64, sum);
}

for (const [text, hex] of Object.entries(golden)) {
  Deno.test(`the bytes of "${text}" are taken for that`, () => {
    const bytes = fromHex(hex);
    const instruction = decode(Uint8Array.of(...bytes, 0xcc, 0xcc));
    assert.ok(instruction);
    assert.equal(instruction.length, bytes.length);
    const mnemonic = text.replace(/^lock /, "").split(" ")[0]!.replace(/64$/, "");
    assert.equal(findAssist(instruction)?.name, mnemonic);
    const operands = text.replace(/^(lock )?\w+ ?/, "");
    const memory = operands.split(/, (?=%)/)[0]!;
    if (memory.includes("(") || memory.includes(":")) {
      assert.equal(effectiveAddress(machine, instruction), addressOf(memory));
    } else if (operands.includes(",")) {
      const [source, target] = operands.split(", ");
      const index = (name: string) =>
        REGISTERS.indexOf(name.replace(/^%e/, "r").replace("%", "").replace(/w$/, ""));
      assert.deepEqual([instruction.rm, instruction.reg], [index(source!), index(target!)]);
    }
    for (let cut = 0; cut < bytes.length; cut++) {
      assert.equal(decode(bytes.subarray(0, cut)), undefined, `cut to ${cut} bytes`);
    }
  });
}

async function assemble(lines: readonly string[]): Promise<Golden> {
  const directory = await Deno.makeTempDir();
  try {
    const source = join(directory, "a.s");
    const object = join(directory, "a.o");
    await Deno.writeTextFile(source, lines.join("\n") + "\n");
    const made = await new Deno.Command("as", { args: ["-o", object, source] }).output();
    assert.ok(made.success, new TextDecoder().decode(made.stderr));
    const { stdout } = await new Deno.Command("objdump", {
      args: ["-d", "-w", "--insn-width=16", object],
    }).output();
    const bytes = [
      ...new TextDecoder().decode(stdout).matchAll(/^ +[0-9a-f]+:\t([0-9a-f ]+?) *\t/gm),
    ]
      .map((match) => match[1]!.trim());
    assert.equal(bytes.length, lines.length);
    return Object.fromEntries(lines.map((line, i) => [line, bytes[i]!]));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function hasAssembler(): Promise<boolean> {
  try {
    return (await new Deno.Command("as", { args: ["--version"] }).output()).success;
  } catch {
    return false;
  }
}

Deno.test({
  name: "the checked-in encodings are the assembler's",
  ignore: !(await hasAssembler()),
  async fn() {
    const made = await assemble(Object.keys(golden));
    if (Deno.env.get("UPDATE_GOLDEN") !== undefined) {
      await Deno.writeTextFile(GOLDEN, JSON.stringify(made, null, 2) + "\n");
    }
    assert.deepEqual(made, golden);
  },
});

Deno.test("no bytes make the decoder fail or read beyond fifteen of them", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20 }), (bytes) => {
      const instruction = decode(bytes);
      if (instruction !== undefined) {
        assert.ok(instruction.length >= 1 && instruction.length <= Math.min(15, bytes.length));
        findAssist(instruction);
      }
    }),
    { numRuns: 5000 },
  );
});
