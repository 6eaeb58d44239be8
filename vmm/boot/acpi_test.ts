import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { oracle, run } from "../../test/oracle.ts";
import { ACPI_ADDRESS, ACPI_SIZE, MAX_VCPUS, VIRTIO_MMIO_ADDRESS } from "../layout.ts";
import { type AcpiMachine, acpiTables } from "./acpi.ts";
import * as aml from "./aml.ts";

const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

function machine(vcpus: number, devices: number): AcpiMachine {
  return {
    vcpus,
    devices: Array.from({ length: devices }, (_, i) => ({
      base: VIRTIO_MMIO_ADDRESS + i * 0x1000,
      size: 0x1000,
      irq: 5 + i,
    })),
  };
}

/** Follows the addresses as a kernel does; checks every signature, length and checksum. */
function walk(image: Uint8Array<ArrayBuffer>): Record<string, Uint8Array<ArrayBuffer>> {
  const view = new DataView(image.buffer);
  const at = (address: bigint) => {
    const start = Number(address) - ACPI_ADDRESS;
    const table = image.slice(start, start + view.getUint32(start + 4, true));
    assert.equal(sum(table), 0);
    return table;
  };
  assert.equal(text(image.subarray(0, 8)), "RSD PTR ");
  assert.equal(sum(image.subarray(0, 20)), 0);
  assert.equal(sum(image.subarray(0, 36)), 0);
  const xsdt = at(view.getBigUint64(24, true));
  const tables: Record<string, Uint8Array<ArrayBuffer>> = { XSDT: xsdt };
  for (let i = 36; i < xsdt.length; i += 8) {
    const table = at(new DataView(xsdt.buffer).getBigUint64(i, true));
    tables[text(table.subarray(0, 4))] = table;
  }
  tables["DSDT"] = at(new DataView(tables["FACP"]!.buffer).getBigUint64(140, true));
  return tables;
}

Deno.test("ACPI tables of every size are linked, have right checksums and fit", () => {
  const sizes = fc.record({
    vcpus: fc.integer({ min: 1, max: MAX_VCPUS }),
    devices: fc.integer({ min: 0, max: 17 }),
  });
  fc.assert(fc.property(sizes, ({ vcpus, devices }) => {
    const image = acpiTables(machine(vcpus, devices));
    assert.ok(image.length <= ACPI_SIZE);
    const tables = walk(image);
    assert.deepEqual(Object.keys(tables).sort(), ["APIC", "DSDT", "FACP", "XSDT"]);
    assert.equal(tables["FACP"]!.length, 276); // ACPI 6.4, table 5.9
    assert.equal(tables["APIC"]!.length, 44 + 8 * vcpus + 12);
  }));
});

Deno.test("AML lengths are right on both sides of where one more byte is needed", () => {
  for (const size of [1, 60, 61, 62, 63, 64, 4090, 4091, 4092, 4093, 4094, 70_000]) {
    const text = "x".repeat(size);
    const term = aml.scope("_SB", aml.name("A", aml.string(text)));
    const lead = term[1]!;
    const bytes = (lead >>> 6) + 1;
    const length = bytes === 1
      ? lead & 0x3f
      : term.subarray(2, 1 + bytes).reduce((total, b, i) => total | b << (4 + 8 * i), lead & 0xf);
    assert.equal(length, term.length - 1);
  }
  assert.throws(() => aml.name("lower", aml.integer(1)), RangeError);
  assert.throws(() => aml.name("FIVE5", aml.integer(1)), RangeError);
});

Deno.test("the ACPI reference compiler reads the tables as they are meant", async () => {
  if (!await oracle("iasl")) return;
  const directory = await Deno.makeTempDir();
  try {
    const tables = walk(acpiTables(machine(3, 12)));
    const listing: Record<string, string> = {};
    for (const [name, bytes] of Object.entries(tables)) {
      await Deno.writeFile(join(directory, `${name}.aml`), bytes);
      const { stdout, stderr } = await run("iasl", ["-d", `${name}.aml`], { cwd: directory });
      assert.doesNotMatch(stdout + stderr, /error|warning|invalid|incorrect/i);
      listing[name] = await Deno.readTextFile(join(directory, `${name}.dsl`));
    }
    // What it made of the DSDT compiles again, without a word, to the same AML.
    const { stdout } = await run("iasl", ["-p", "again", "DSDT.dsl"], { cwd: directory });
    assert.match(stdout, /0 Errors, 0 Warnings/);
    const again = await Deno.readFile(join(directory, "again.aml"));
    assert.deepEqual(again.subarray(36), tables["DSDT"]!.subarray(36));

    const dsdt = listing["DSDT"]!.replace(/\/\/.*|\/\*.*?\*\//g, "").replace(/\s+/g, " ");
    assert.equal(dsdt.match(/Name \(_HID, "LNRO0005"\)/g)?.length, 12);
    assert.match(
      dsdt,
      /Device \(V011\) .*Memory32Fixed \(ReadWrite, 0xD000B000, 0x00001000, \) Interrupt \(ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, \) \{ 0x00000010, \}/,
    );
    assert.match(
      dsdt,
      /"PNP0501" \) .*IO \(Decode16, 0x03F8, 0x03F8, 0x01, 0x08, \) .*0x00000004,/,
    );
    const facp = listing["FACP"]!;
    assert.match(facp, /Hardware Reduced \(V5\) : 1/);
    assert.match(facp, /8042 Present on ports 60\/64 \(V2\) : 0/);
    assert.match(facp, /CMOS RTC Not Present \(V5\) : 1/);
    const ids = listing["APIC"]!.matchAll(/Local Apic ID : (\w+)\n.*\n +Processor Enabled : 1/g);
    assert.deepEqual([...ids].map(([, id]) => id), ["00", "01", "02"]);
    assert.match(listing["APIC"]!, /I\/O Apic ID : 03\n.*\n.*Address : FEC00000/);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
