/**
 * The MP table, by which a kernel without ACPI finds processors and interrupts:
 * MultiProcessor Specification 1.4, chapter 4.
 *
 * @module
 */
import { bytes, i32, struct, u16, u32, u8 } from "../../ffi/struct.ts";
import { EBDA_ADDRESS, EBDA_SIZE, IOAPIC_ADDRESS, LOCAL_APIC_ADDRESS } from "../layout.ts";

const ascii = new TextEncoder();

const floating_pointer = struct("MP floating pointer", {
  signature: bytes(4),
  physical_address: u32,
  length: u8, // in paragraphs of 16 bytes
  spec_revision: u8,
  checksum: u8,
  features: bytes(5),
});

const configuration_header = struct("MP configuration table header", {
  signature: bytes(4),
  base_table_length: u16,
  spec_revision: u8,
  checksum: u8,
  oem_id: bytes(8),
  product_id: bytes(12),
  oem_table_pointer: u32,
  oem_table_size: u16,
  entry_count: u16,
  local_apic_address: u32,
  extended_table_length: u16,
  extended_table_checksum: u8,
  reserved: u8,
});

const processor_entry = struct("MP processor entry", {
  type: u8,
  local_apic_id: u8,
  local_apic_version: u8,
  cpu_flags: u8,
  cpu_signature: u32,
  feature_flags: u32,
  reserved: bytes(8),
});

const bus_entry = struct("MP bus entry", { type: u8, bus_id: u8, bus_type: bytes(6) });

const io_apic_entry = struct("MP I/O APIC entry", {
  type: u8,
  id: u8,
  version: u8,
  flags: u8,
  address: i32,
});

const interrupt_entry = struct("MP interrupt entry", {
  type: u8,
  interrupt_type: u8,
  flags: u16,
  source_bus_id: u8,
  source_bus_irq: u8,
  destination_apic_id: u8,
  destination_pin: u8,
});

const SPEC_REVISION = 4; // 1.4
const APIC_VERSION = 0x14; // integrated APIC
const IOAPIC_VERSION = 0x11; // 82093AA
const IOAPIC_PINS = 24;
const CPU_ENABLED = 1;
const CPU_BOOT = 2;
const ENABLED = 1;
const INT = 0;
const NMI = 1;
const EXT_INT = 3;
const ALL_LOCAL_APICS = 0xff;
const ISA = 0;

/** Makes the last byte of the sum zero. */
function checksum(table: Uint8Array): number {
  let sum = 0;
  for (const byte of table) sum += byte;
  return -sum & 0xff;
}

/** What the processors say of themselves: CPUID leaf 1. */
export interface CpuSignature {
  /** EAX: family, model, stepping. */
  readonly signature: number;
  /** EDX: features. */
  readonly features: number;
}

/**
 * The floating pointer and the configuration table, to be written at {@linkcode EBDA_ADDRESS}.
 *
 * @param vcpus how many processors; the first one boots
 */
export function mpTable(vcpus: number, cpu: CpuSignature): Uint8Array<ArrayBuffer> {
  const entries: Uint8Array[] = [];
  for (let id = 0; id < vcpus; id++) {
    entries.push(processor_entry.encode({
      type: 0,
      local_apic_id: id,
      local_apic_version: APIC_VERSION,
      cpu_flags: CPU_ENABLED | (id === 0 ? CPU_BOOT : 0),
      cpu_signature: cpu.signature,
      feature_flags: cpu.features,
    }));
  }
  entries.push(bus_entry.encode({ type: 1, bus_id: ISA, bus_type: ascii.encode("ISA   ") }));
  const ioApicId = vcpus;
  entries.push(io_apic_entry.encode({
    type: 2,
    id: ioApicId,
    version: IOAPIC_VERSION,
    flags: ENABLED,
    address: IOAPIC_ADDRESS | 0,
  }));
  for (let irq = 0; irq < IOAPIC_PINS; irq++) {
    entries.push(interrupt_entry.encode({
      type: 3,
      interrupt_type: INT,
      source_bus_id: ISA,
      source_bus_irq: irq,
      destination_apic_id: ioApicId,
      destination_pin: irq,
    }));
  }
  for (const [pin, interrupt_type] of [EXT_INT, NMI].entries()) {
    entries.push(interrupt_entry.encode({
      type: 4,
      interrupt_type,
      source_bus_id: ISA,
      destination_apic_id: interrupt_type === EXT_INT ? 0 : ALL_LOCAL_APICS,
      destination_pin: pin,
    }));
  }
  const body = entries.reduce((sum, entry) => sum + entry.length, 0);
  const length = configuration_header.size + body;
  const total = floating_pointer.size + length;
  if (total > EBDA_SIZE) throw new RangeError(`${vcpus} processors do not fit into the MP table`);

  const table = new Uint8Array(total);
  table.set(floating_pointer.encode({
    signature: ascii.encode("_MP_"),
    physical_address: EBDA_ADDRESS + floating_pointer.size,
    length: 1,
    spec_revision: SPEC_REVISION,
  }));
  table[floating_pointer.offsets.checksum] = checksum(table.subarray(0, floating_pointer.size));
  const configuration = table.subarray(floating_pointer.size);
  configuration.set(configuration_header.encode({
    signature: ascii.encode("PCMP"),
    base_table_length: length,
    spec_revision: SPEC_REVISION,
    oem_id: ascii.encode("CLOUDLET"),
    product_id: ascii.encode("MICROVM     "),
    entry_count: entries.length,
    local_apic_address: LOCAL_APIC_ADDRESS,
  }));
  let offset = configuration_header.size;
  for (const entry of entries) {
    configuration.set(entry, offset);
    offset += entry.length;
  }
  configuration[configuration_header.offsets.checksum] = checksum(configuration);
  return table;
}
