/**
 * A microVM: made paused by one function that tells the boot story in order, then run, paused and
 * ended.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import { KVM_CAP_TSC_DEADLINE_TIMER, KVM_MP_STATE_RUNNABLE } from "../ffi/uapi/kvm.ts";
import { xsaveComponents } from "./assist/assist.ts";
import { compareExchangeCode } from "./assist/compare_exchange.ts";
import { acpiTables } from "./boot/acpi.ts";
import { writeBootParams, writeCommandLine } from "./boot/boot_params.ts";
import { cpuidFor, setBootMsrs } from "./boot/cpu.ts";
import { loadInitramfs, loadKernel } from "./boot/loader.ts";
import { mpTable } from "./boot/mptable.ts";
import { setBootRegisters, writeBootTables } from "./boot/paging.ts";
import { ByteRing } from "./byte_ring.ts";
import { commandLine } from "./command_line.ts";
import { ConsoleLog } from "./console_log.ts";
import { Devices } from "./device_thread/devices.ts";
import { hostKind } from "./host_probe.ts";
import { HOST_TRAITS, type HostTraits } from "./host_traits.ts";
import { Kvm, type KvmVm } from "./kvm.ts";
import type { CpuidEntry, KvmVcpu } from "./kvm_vcpu.ts";
import {
  ACPI_ADDRESS,
  EBDA_ADDRESS,
  KVM_IDENTITY_MAP_ADDRESS,
  KVM_TSS_ADDRESS,
  MIB,
} from "./layout.ts";
import { Serial } from "./legacy/serial.ts";
import { GuestMemory } from "./memory.ts";
import { addDevices } from "./snapshot/device_pieces.ts";
import { piece, type Pieces, refuse } from "./snapshot/format.ts";
import type { MemoryFile } from "./snapshot/memory_file.ts";
import { type ClockPair, prepareMachine, restoreMachine, saveMachine } from "./snapshot/state.ts";
import type { VcpuExit } from "./messages.ts";
import type { ExitCounts } from "./vcpu_control.ts";
import { serialInterrupt } from "./vcpu_loop.ts";
import { HostedVcpu, type Vcpu, VcpuThread } from "./vcpu_thread.ts";
import type { SlotSnapshot } from "./virtio/slot.ts";
import { checkConfig, readInitramfs, type ShellConfig, type VmConfig } from "./vm_config.ts";
import { haltedForGood, type VmOutcome } from "./vm_outcome.ts";

/** What the guest is put into. */
interface Machine {
  readonly memory: GuestMemory;
  readonly devices: Devices;
  readonly host: HostTraits;
  readonly supported: readonly CpuidEntry[];
  readonly vcpus: readonly KvmVcpu[];
}

/** Puts the serial port of a snapshot back. */
export function restoreSerial(state: SharedArrayBuffer, pieces: Pieces): void {
  try {
    Serial.restoreState(state, piece(pieces, "serial"));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw refuse(`of its serial port, ${error.message}`, error);
  }
}

/** When what happened, in milliseconds. */
export interface VmTimeline {
  /** From the call of {@linkcode Vm.create} to the VM being ready to run. */
  readonly setup: number;
  /** `performance.now()` of the first {@linkcode Vm.resume}. */
  readonly resumedAt: number | undefined;
  /** When the first vCPU went into the guest, on the clock of `hostMillis`; 0 before that. */
  readonly enteredAt: number;
}

const DEFAULT_MEMORY = 256 * MIB;
const CONSOLE_RING = 64 * 1024;
/**
 * When a VM is looked at for having halted for good without a word: first after a second, then ever
 * later. A look stops the guest for a moment, which a hundred idle ones would notice.
 */
const HALT_CHECK_MS = 1000;
const LAST_HALT_CHECK_MS = 32_000;

/** A microVM. */
export class Vm implements AsyncDisposable {
  readonly #resources: AsyncDisposableStack;
  readonly #vm: KvmVm;
  readonly #vcpus: readonly KvmVcpu[];
  readonly #threads: readonly Vcpu[];
  readonly #serial: Serial;
  readonly #serialState: SharedArrayBuffer;
  readonly #ring: ByteRing;
  readonly #log = new ConsoleLog();
  readonly #outcome = Promise.withResolvers<VmOutcome>();
  readonly #setup: number;
  readonly #drained: Promise<void>;
  #resumedAt: number | undefined;
  #restored = false;
  #followRestore: (() => void) | undefined;
  #running = false;
  #ended = false;
  #busy: Promise<unknown> = Promise.resolve();
  #checkTimer: ReturnType<typeof setTimeout> | undefined;
  #input: { bytes: Uint8Array; readonly taken: () => void }[] = [];
  #disposal: Promise<void> | undefined;

  /** Guest memory; for devices and snapshots. */
  readonly memory: GuestMemory;
  /** The virtio devices. */
  readonly devices: Devices;
  /** The kernel's command line. */
  readonly commandLine: string;
  /** What differs between the kinds of KVM. */
  readonly host: HostTraits;

  private constructor(
    parts: {
      readonly resources: AsyncDisposableStack;
      readonly vm: KvmVm;
      readonly vcpus: readonly KvmVcpu[];
      readonly threads: readonly Vcpu[];
      readonly serialState: SharedArrayBuffer;
      readonly ring: ByteRing;
      readonly memory: GuestMemory;
      readonly devices: Devices;
      readonly commandLine: string;
      readonly host: HostTraits;
      readonly setup: number;
    },
    output: VmConfig["serialOutput"],
  ) {
    this.#resources = parts.resources;
    this.#vm = parts.vm;
    this.#vcpus = parts.vcpus;
    this.#threads = parts.threads;
    this.#ring = parts.ring;
    this.memory = parts.memory;
    this.devices = parts.devices;
    this.commandLine = parts.commandLine;
    this.host = parts.host;
    this.#setup = parts.setup;
    this.#serialState = parts.serialState;
    this.#serial = new Serial(parts.serialState, {
      output: (byte) => this.#ring.push(byte),
      room: () => this.#ring.room,
      interrupt: serialInterrupt(this.#vm.fd),
      roomForInput: () => this.#feedSerial(),
    });
    this.#drained = this.#drain(output);
    this.devices.broken
      .then((why) => this.#end({ kind: "internal-error", message: `The devices broke: ${why}` }))
      .catch(() => {}); // the outcome tells
    for (const thread of this.#threads) {
      // What goes wrong while the VM is taken down is told by its outcome.
      thread.ended.then((exit) => this.#vcpuEnded(exit)).catch(() => {});
    }
  }

  /**
   * Makes a VM that is ready to run its first instruction.
   *
   * @throws {CloudletError} when the configuration, the kernel or the host does not allow it
   */
  static async create(config: VmConfig): Promise<Vm> {
    const initramfs = await readInitramfs(config.initramfs);
    return await Vm.#make(config, VcpuThread, ({ memory, devices, host, supported, vcpus }) => {
      // What the kernel finds in memory.
      const cmdline = commandLine(host.kernelParameters, devices.kernelArguments, config.cmdline);
      const kernel = loadKernel(memory, config.kernel);
      const loaded = loadInitramfs(memory, kernel, initramfs);
      const cpu = supported.find((leaf) => leaf.function === 1);
      writeCommandLine(memory, cmdline);
      writeBootParams(memory, {
        kernel,
        initramfs: loaded,
        seed: crypto.getRandomValues(new Uint8Array(32)),
        acpiRsdp: ACPI_ADDRESS,
      });
      memory.write(
        EBDA_ADDRESS,
        mpTable(vcpus.length, { signature: cpu?.eax ?? 0, features: cpu?.edx ?? 0 }),
      );
      memory.write(
        ACPI_ADDRESS,
        acpiTables({ vcpus: vcpus.length, devices: devices.regions }),
      );
      writeBootTables(memory);
      vcpus.forEach(setBootMsrs);
      setBootRegisters(vcpus[0]!, kernel.entry);
      return cmdline;
    });
  }

  /**
   * Makes a VM with nothing in it: everything that costs time and does not depend on what it will
   * be. {@linkcode restore} then gives it a guest.
   *
   * @param config as the VM had that the snapshot is of
   */
  static async shell(config: ShellConfig): Promise<Vm> {
    return await Vm.#make(config, HostedVcpu, ({ memory, vcpus }) => {
      memory.useSmallPages();
      prepareMachine(vcpus);
      return "";
    });
  }

  static async #make(
    config: ShellConfig,
    Runner: new (onSerialRoom: () => void) => Vcpu,
    fill: (machine: Machine) => string,
  ): Promise<Vm> {
    const begin = performance.now();
    const vcpuCount = config.vcpus ?? 1;
    const memorySize = config.memory ?? DEFAULT_MEMORY;

    await using resources = new AsyncDisposableStack();
    using kvm = Kvm.open();
    checkConfig(kvm, vcpuCount, memorySize);

    // Threads take longest to start, so they go first; the rest is done meanwhile.
    const made: { vm?: Vm } = {};
    const memory = resources.use(GuestMemory.create(memorySize));
    const kvmVm = resources.use(kvm.createVm());
    const vcpus: KvmVcpu[] = [];
    resources.defer(() => vcpus.forEach((vcpu) => vcpu[Symbol.dispose]()));
    const threads: Vcpu[] = [];
    for (let id = 0; id < vcpuCount; id++) {
      threads.push(
        new Runner(() => {
          if (made.vm !== undefined) made.vm.#feedSerial();
        }),
      );
    }
    const ring = new ByteRing(ByteRing.createState(CONSOLE_RING));
    resources.defer(async () => {
      ring.close();
      await Promise.all(threads.map((thread) => thread[Symbol.asyncDispose]()));
    });

    // The machine: interrupt controllers, timer, memory.
    const host = HOST_TRAITS[hostKind(kvm)];
    kvmVm.setRealModePages(KVM_TSS_ADDRESS, KVM_IDENTITY_MAP_ADDRESS);
    kvmVm.createIrqchip();
    kvmVm.createPit();
    const devices = resources.use(
      await Devices.start(config.devices ?? {}, memory, config.warning),
    );
    memory.description.slots.forEach((slot, index) => kvmVm.setMemorySlot(index, slot));
    devices.connect(kvmVm);

    // The processors.
    const supported = kvm.supportedCpuid();
    const tscDeadline = kvm.capability(KVM_CAP_TSC_DEADLINE_TIMER) !== 0;
    for (let id = 0; id < vcpuCount; id++) {
      const vcpu = kvmVm.createVcpu(id);
      vcpus.push(vcpu);
      vcpu.setCpuid(cpuidFor(supported, { id, count: vcpuCount, tscDeadline }));
    }
    const cmdline = fill({ memory, devices, host, supported, vcpus });

    // Everything goes to the threads, which wait for the first resume().
    const serialState = Serial.createState();
    await Promise.all(threads.map((thread) => thread.loaded));
    vcpus.forEach((vcpu, i) => {
      threads[i]!.start(vcpu, {
        id: vcpu.id,
        fd: vcpu.fd,
        vmFd: kvmVm.fd,
        runAddress: vcpu.run.address,
        runLength: vcpu.run.length,
        xsaveSize: vcpu.xsaveSize,
        assists: host.assists,
        compareExchange: compareExchangeCode(),
        xsaveComponents: xsaveComponents(supported),
        memory: memory.description,
        control: threads[i]!.shared,
        serial: serialState,
        console: ring.shared,
        regions: devices.regions,
      });
    });
    const vm = new Vm({
      resources: resources.move(),
      vm: kvmVm,
      vcpus,
      threads,
      serialState,
      ring,
      memory,
      devices,
      commandLine: cmdline,
      host,
      setup: performance.now() - begin,
    }, config.serialOutput);
    made.vm = vm;
    return vm;
  }

  /** How the VM ended. Never rejects. */
  get outcome(): Promise<VmOutcome> {
    return this.#outcome.promise;
  }

  /** When what happened. */
  get timeline(): VmTimeline {
    return {
      setup: this.#setup,
      resumedAt: this.#resumedAt,
      enteredAt: this.#threads[0]!.enteredAt,
    };
  }

  /** The end of what the guest wrote to the serial console. */
  get consoleText(): string {
    return this.#log.text;
  }

  /** What the guest's out-of-memory killer said on the serial console. */
  get outOfMemory(): readonly string[] {
    return this.#log.outOfMemory;
  }

  /** How often each vCPU left the kernel. */
  get exits(): readonly ExitCounts[] {
    return this.#threads.map((thread) => thread.counts);
  }

  /** Lets the guest run. Does nothing when it does. */
  resume(): void {
    if (this.#ended || this.#running) return;
    this.#running = true;
    this.#resumedAt ??= performance.now();
    for (const thread of this.#threads) thread.resume();
    // After the vCPUs, which would have to share a processor with the device worker.
    this.#followRestore?.();
    this.#followRestore = undefined;
    this.devices.thaw();
    this.#checkLater(HALT_CHECK_MS);
  }

  /** Stops the guest between two instructions; {@linkcode resume} goes on. */
  async pause(): Promise<void> {
    this.#running = false;
    await this.#exclusive(() => this.#pauseThreads());
  }

  /** Whether no processor has anything to do at the moment; undefined when the guest does not run. */
  async idle(): Promise<boolean | undefined> {
    return await this.#exclusive(async () => {
      if (!this.#running || this.#ended) return undefined;
      await this.#pauseThreads();
      if (!this.#running || this.#ended) return undefined;
      const idle = this.#vcpus.every((vcpu) => vcpu.getMpState() !== KVM_MP_STATE_RUNNABLE);
      for (const thread of this.#threads) thread.resume();
      return idle;
    });
  }

  /**
   * Reads the state of a paused VM, without its memory: see snapshot/format.ts.
   *
   * @throws {CloudletError} `conflict` when it runs or has ended
   */
  async save(): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
    return await this.#exclusive(async () => {
      const check = () => {
        if (!this.#running && !this.#ended) return;
        throw new CloudletError("Cannot save the VM: it is not paused", { code: "conflict" });
      };
      check();
      const devices = await this.devices.save(); // first: until then they may write to memory
      check();
      using kvm = Kvm.open();
      const pieces = saveMachine(kvm, this.#vm, this.#vcpus);
      pieces.set("serial", Serial.saveState(this.#serialState));
      addDevices(pieces, devices);
      return pieces;
    });
  }

  /**
   * Puts a guest into a VM of {@linkcode Vm.shell} that has never run: {@linkcode resume} goes on
   * where it was saved.
   *
   * @param pieces what {@linkcode save} gave
   * @param devices the devices among them
   * @param memory a file of RAM's size, which is mapped and stays as it is, and where it has data
   * @returns kvm-clock as it was set, and when
   * @throws {CloudletError} `untrusted` or `conflict` when the state does not fit this VM
   */
  restore(pieces: Pieces, devices: readonly SlotSnapshot[], memory: MemoryFile): ClockPair {
    if (this.#restored || this.#resumedAt !== undefined || this.#ended) {
      throw new CloudletError("Cannot restore the VM: it has run, or was restored", {
        code: "conflict",
      });
    }
    this.#restored = true; // even if what follows fails: its RAM is not empty any more
    this.memory.mapOverRam(memory.fd, memory.data);
    restoreSerial(this.#serialState, pieces);
    const clock = restoreMachine(this.#vm, this.#vcpus, pieces);
    const follow = this.devices.restore(devices);
    this.#followRestore = () => {
      follow().catch((error) =>
        this.#end({ kind: "internal-error", message: messageOf(error) }).catch(() => {})
      );
    };
    return clock;
  }

  /** Ends the VM at once, whatever the guest does; nothing that belongs to it is left. */
  async stop(): Promise<void> {
    await this.#end({ kind: "stopped" });
  }

  /**
   * Types at the serial console.
   *
   * @returns settles when the guest's serial port has taken all of it, or the VM has ended
   */
  writeSerial(bytes: Uint8Array): Promise<void> {
    if (this.#ended || bytes.length === 0) return Promise.resolve();
    return new Promise((taken) => {
      this.#input.push({ bytes: bytes.slice(), taken });
      this.#feedSerial();
    });
  }

  /** As {@linkcode stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #feedSerial(): void {
    while (this.#input.length > 0) {
      const first = this.#input[0]!;
      const taken = this.#ended ? first.bytes.length : this.#serial.receive(first.bytes);
      first.bytes = first.bytes.subarray(taken);
      if (first.bytes.length > 0) return; // the device tells when there is room
      this.#input.shift();
      first.taken();
    }
  }

  async #drain(output: VmConfig["serialOutput"]): Promise<void> {
    for (;;) {
      await this.#ring.ready();
      const chunk = this.#ring.drain();
      if (chunk.length > 0) {
        const wasDown = this.#log.down;
        this.#log.append(chunk);
        try {
          output?.(chunk);
        } catch (error) {
          reportError(error); // the caller's defect must not stop the guest's console
        }
        if (!wasDown && this.#log.down) this.#checkHalted();
      } else if (this.#ring.closed) {
        return;
      }
    }
  }

  #checkLater(milliseconds: number): void {
    clearTimeout(this.#checkTimer);
    this.#checkTimer = setTimeout(() => {
      this.#checkHalted();
      if (!this.#ended) this.#checkLater(Math.min(2 * milliseconds, LAST_HALT_CHECK_MS));
    }, milliseconds);
  }

  /** One at a time: pausing, looking at the vCPUs, ending. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#busy.then(work);
    this.#busy = result.catch(() => {});
    return result;
  }

  async #pauseThreads(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.pause()));
  }

  /**
   * A kernel without ACPI cannot switch the machine off: it halts with interrupts disabled, inside
   * KVM_RUN. So look from time to time, and when the kernel says that it is done.
   */
  #checkHalted(): void {
    if (!this.#running || this.#ended) return;
    this.#exclusive(async () => {
      if (!this.#running || this.#ended) return;
      await this.#pauseThreads();
      if (this.#ended) return;
      if (this.#vcpus.every((vcpu) => haltedForGood(vcpu))) {
        await this.#stopThreads(); // what the guest said last is in the log now
        await this.#end(this.#log.down ? { kind: "poweroff" } : this.#haltOutcome());
      } else if (this.#running) {
        for (const thread of this.#threads) thread.resume();
      }
    }).catch((error) => this.#end({ kind: "internal-error", message: String(error) }))
      .catch(() => {}); // the outcome tells
  }

  #haltOutcome(): VmOutcome {
    return this.#panicOutcome() ?? { kind: "halted" };
  }

  #panicOutcome(): VmOutcome | undefined {
    const message = this.#log.panic;
    if (message === undefined) return undefined;
    const kind = /out of memory|deadlocked on memory/i.test(message) ? "out-of-memory" : "panic";
    return { kind, message };
  }

  async #vcpuEnded(exit: VcpuExit): Promise<void> {
    if (exit.kind === "stopped") return;
    // What the guest said last is in the ring: take it before judging.
    this.#running = false;
    await this.#stopThreads();
    switch (exit.kind) {
      case "reset":
        return await this.#end(this.#panicOutcome() ?? { kind: "reset" });
      case "poweroff":
        return await this.#end({ kind: "poweroff" });
      case "triple-fault":
        return await this.#end({
          kind: "triple-fault",
          message: `triple fault at RIP 0x${exit.rip.toString(16)}`,
        });
      case "internal-error":
        return await this.#end(exit);
      default:
        exit satisfies never;
    }
  }

  async #stopThreads(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.stop()));
    this.#ring.close();
    await this.#drained;
  }

  #end(outcome: VmOutcome): Promise<void> {
    return this.#disposal ??= (async () => {
      this.#ended = true;
      this.#running = false;
      clearTimeout(this.#checkTimer);
      this.#feedSerial(); // whoever waits for input to be taken waits no longer
      try {
        await this.#stopThreads();
        await this.#resources.disposeAsync();
        this.#outcome.resolve(outcome);
      } catch (error) {
        this.#outcome.resolve({ kind: "internal-error", message: String(error) });
        throw error;
      }
    })();
  }
}
