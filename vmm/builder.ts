/**
 * Puts a VM together: one function tells the boot story in order, and what comes out is paused.
 *
 * @module
 */
import { KVM_CAP_TSC_DEADLINE_TIMER } from "../ffi/uapi/kvm.ts";
import { xsaveComponents } from "./assist/assist.ts";
import { compareExchangeCode } from "./assist/compare_exchange.ts";
import { acpiTables } from "./boot/acpi.ts";
import { writeBootParams, writeCommandLine } from "./boot/boot_params.ts";
import { cpuidFor, setBootMsrs } from "./boot/cpu.ts";
import { loadInitramfs, loadKernel } from "./boot/loader.ts";
import { mpTable } from "./boot/mptable.ts";
import { setBootRegisters, writeBootTables } from "./boot/paging.ts";
import { commandLine } from "./boot/command_line.ts";
import { Devices } from "./device_thread/devices.ts";
import { hostKind } from "./kvm/host_probe.ts";
import { HOST_TRAITS, type HostTraits } from "./host_traits.ts";
import { Kvm, type KvmVm } from "./kvm/kvm.ts";
import type { CpuidEntry, KvmVcpu } from "./kvm/kvm_vcpu.ts";
import {
  ACPI_ADDRESS,
  EBDA_ADDRESS,
  KVM_IDENTITY_MAP_ADDRESS,
  KVM_TSS_ADDRESS,
  MIB,
} from "./layout.ts";
import { GuestMemory } from "./memory/guest_memory.ts";
import { SerialPump } from "./legacy/serial_pump.ts";
import { prepareMachine } from "./snapshot/machine_state.ts";
import { HostedVcpu, type Vcpu, VcpuThread } from "./vcpu/vcpu_thread.ts";
import { checkConfig, readInitramfs, type ShellConfig, type VmConfig } from "./vm_config.ts";

const DEFAULT_MEMORY = 256 * MIB;

/** What a guest is put into. */
interface Hardware {
  readonly memory: GuestMemory;
  readonly devices: Devices;
  readonly host: HostTraits;
  readonly supported: readonly CpuidEntry[];
  readonly vcpus: readonly KvmVcpu[];
}

/** A VM in parts, paused. */
export interface VmParts {
  /** Owns all of them. */
  readonly resources: AsyncDisposableStack;
  readonly vm: KvmVm;
  readonly vcpus: readonly KvmVcpu[];
  readonly threads: readonly Vcpu[];
  readonly serial: SerialPump;
  readonly memory: GuestMemory;
  readonly devices: Devices;
  /** The kernel's command line; empty when no kernel was loaded. */
  readonly commandLine: string;
  readonly host: HostTraits;
  /** How long it took, in milliseconds. */
  readonly setup: number;
}

/**
 * Builds a VM that is about to execute its kernel's first instruction.
 *
 * @throws {CloudletError} when the configuration, the kernel or the host does not allow it
 */
export async function buildToBoot(config: VmConfig): Promise<VmParts> {
  const initramfs = await readInitramfs(config.initramfs);
  return await build(config, VcpuThread, ({ memory, devices, host, supported, vcpus }) => {
    // What the kernel finds in memory.
    const cmdline = commandLine(host.kernelParameters, devices.kernelArguments, config.cmdline);
    const kernel = loadKernel(memory, config.kernel);
    const loaded = loadInitramfs(memory, kernel, initramfs);
    const cpu = supported.find((leaf) => leaf.function === 1);
    const signature = { signature: cpu?.eax ?? 0, features: cpu?.edx ?? 0 };
    writeCommandLine(memory, cmdline);
    writeBootParams(memory, {
      kernel,
      initramfs: loaded,
      seed: crypto.getRandomValues(new Uint8Array(32)),
      acpiRsdp: ACPI_ADDRESS,
    });
    memory.write(EBDA_ADDRESS, mpTable(vcpus.length, signature));
    memory.write(ACPI_ADDRESS, acpiTables({ vcpus: vcpus.length, devices: devices.regions }));
    writeBootTables(memory);
    vcpus.forEach(setBootMsrs);
    setBootRegisters(vcpus[0]!, kernel.entry);
    return cmdline;
  });
}

/**
 * Builds a VM without a guest: all that takes time and does not depend on what it will be.
 *
 * @throws {CloudletError} when the configuration or the host does not allow it
 */
export async function buildShell(config: ShellConfig): Promise<VmParts> {
  return await build(config, HostedVcpu, ({ memory, vcpus }) => {
    memory.useSmallPages();
    prepareMachine(vcpus);
    return "";
  });
}

async function build(
  config: ShellConfig,
  Runner: new (onSerialRoom: () => void) => Vcpu,
  fill: (hardware: Hardware) => string,
): Promise<VmParts> {
  const begin = performance.now();
  const vcpuCount = config.vcpus ?? 1;
  const memorySize = config.memory ?? DEFAULT_MEMORY;

  await using resources = new AsyncDisposableStack();
  using kvm = Kvm.open();
  checkConfig(kvm, vcpuCount, memorySize);

  // Threads take longest to start, so that they are first; the rest is done meanwhile.
  const memory = resources.use(GuestMemory.create(memorySize));
  const vm = resources.use(kvm.createVm());
  const serial = new SerialPump(vm.fd, config.serialOutput);
  const vcpus: KvmVcpu[] = [];
  resources.defer(() => vcpus.forEach((vcpu) => vcpu[Symbol.dispose]()));
  const threads = Array.from({ length: vcpuCount }, () => new Runner(() => serial.feed()));
  resources.defer(async () => {
    const finished = serial.finish();
    await Promise.all(threads.map((thread) => thread[Symbol.asyncDispose]()));
    await finished;
  });

  // The machine: interrupt controllers, timer, memory, devices.
  const host = HOST_TRAITS[hostKind(kvm)];
  vm.setRealModePages(KVM_TSS_ADDRESS, KVM_IDENTITY_MAP_ADDRESS);
  vm.createIrqchip();
  vm.createPit();
  const devices = resources.use(
    await Devices.start(config.devices ?? {}, memory, config.warning),
  );
  memory.description.slots.forEach((slot, index) => vm.setMemorySlot(index, slot));
  devices.connect(vm);

  // The processors.
  const supported = kvm.supportedCpuid();
  const tscDeadline = kvm.capability(KVM_CAP_TSC_DEADLINE_TIMER) !== 0;
  for (let id = 0; id < vcpuCount; id++) {
    const vcpu = vm.createVcpu(id);
    vcpus.push(vcpu);
    vcpu.setCpuid(cpuidFor(supported, { id, count: vcpuCount, tscDeadline }));
  }

  // The guest, if it is not to come from a snapshot.
  const cmdline = fill({ memory, devices, host, supported, vcpus });

  // Everything goes to the threads, which wait to be told to run.
  await Promise.all(threads.map((thread) => thread.loaded));
  vcpus.forEach((vcpu, i) => {
    threads[i]!.start(vcpu, {
      id: vcpu.id,
      fd: vcpu.fd,
      vmFd: vm.fd,
      runAddress: vcpu.run.address,
      runLength: vcpu.run.length,
      xsaveSize: vcpu.xsaveSize,
      assists: host.assists,
      compareExchange: compareExchangeCode(),
      xsaveComponents: xsaveComponents(supported),
      memory: memory.description,
      control: threads[i]!.shared,
      serial: serial.state,
      console: serial.ring,
      regions: devices.regions,
    });
  });
  return {
    resources: resources.move(),
    vm,
    vcpus,
    threads,
    serial,
    memory,
    devices,
    commandLine: cmdline,
    host,
    setup: performance.now() - begin,
  };
}
