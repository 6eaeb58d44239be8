/**
 * A microVM: built paused, then run, paused, saved, restored and ended.
 *
 * What it may do when is vm_state.ts's; this file does it.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import { KVM_MP_STATE_RUNNABLE } from "../ffi/uapi/kvm.ts";
import { buildShell, buildToBoot, type VmParts } from "./builder.ts";
import type { Devices } from "./device_thread/devices.ts";
import { HaltWatch } from "./halt_watch.ts";
import type { HostTraits } from "./host_traits.ts";
import { Kvm } from "./kvm/kvm.ts";
import type { GuestMemory } from "./memory/guest_memory.ts";
import { addDevices } from "./snapshot/device_pieces.ts";
import type { Pieces } from "./snapshot/format.ts";
import type { MemoryFile } from "./snapshot/memory_file.ts";
import { addSerial, restoreSerial } from "./snapshot/serial_piece.ts";
import { type ClockPair, restoreMachine, saveMachine } from "./snapshot/machine_state.ts";
import type { ExitCounts } from "./vcpu/vcpu_control.ts";
import type { SlotSnapshot } from "./virtio/slot.ts";
import type { ShellConfig, VmConfig } from "./vm_config.ts";
import { haltedForGood, outcomeOfExit, outcomeOfHalt, type VmOutcome } from "./vm_outcome.ts";
import { next, type VmAction, type VmEvent, type VmState } from "./vm_state.ts";

/** When what happened, in milliseconds. */
export interface VmTimeline {
  /** From the call of {@linkcode Vm.create} to the VM being ready to run. */
  readonly setup: number;
  /** `performance.now()` of the first {@linkcode Vm.resume}. */
  readonly resumedAt: number | undefined;
  /** When the first vCPU went into the guest, on the clock of `hostMillis`; 0 before that. */
  readonly enteredAt: number;
}

/** Somebody who wants to look at vCPUs that stand still. */
interface Look {
  /** They do. */
  readonly now: () => void;
  /** The VM does not run. */
  readonly skip: () => void;
}

function cannot(what: string, why: string): CloudletError {
  return new CloudletError(`Cannot ${what} the VM: ${why}`, { code: "conflict" });
}

/** A microVM. */
export class Vm implements AsyncDisposable {
  readonly #parts: VmParts;
  readonly #outcome = Promise.withResolvers<VmOutcome>();
  readonly #watch = new HaltWatch(() => this.#checkHalted());
  #state: VmState = { kind: "fresh" };
  #pausers: PromiseWithResolvers<void>[] = [];
  #looks: Look[] = [];
  #resumedAt: number | undefined;
  #followRestore: (() => Promise<void>) | undefined;
  #disposal: Promise<void> | undefined;

  private constructor(parts: VmParts) {
    this.#parts = parts;
    parts.serial.onDown = () => this.#checkHalted();
    parts.devices.broken
      .then((why) => this.#fail(`The devices broke: ${why}`))
      .catch(() => {}); // the outcome tells
    for (const thread of parts.threads) {
      // What goes wrong while the VM is taken down is told by its outcome.
      thread.ended.then((exit) => {
        if (exit.kind !== "stopped") return this.#end(() => outcomeOfExit(exit, parts.serial.log));
      }).catch(() => {});
    }
  }

  /**
   * Makes a VM that is ready to run its first instruction.
   *
   * @throws {CloudletError} when the configuration, the kernel or the host does not allow it
   */
  static async create(config: VmConfig): Promise<Vm> {
    return new Vm(await buildToBoot(config));
  }

  /**
   * Makes a VM with nothing in it: everything that costs time and does not depend on what it will
   * be. {@linkcode restore} then gives it a guest.
   *
   * @param config as the VM had that the snapshot is of
   */
  static async shell(config: ShellConfig): Promise<Vm> {
    return new Vm(await buildShell(config));
  }

  /** Guest memory; for devices and snapshots. */
  get memory(): GuestMemory {
    return this.#parts.memory;
  }

  /** The virtio devices. */
  get devices(): Devices {
    return this.#parts.devices;
  }

  /** The kernel's command line. */
  get commandLine(): string {
    return this.#parts.commandLine;
  }

  /** What differs between the kinds of KVM. */
  get host(): HostTraits {
    return this.#parts.host;
  }

  /** How the VM ended. Never rejects. */
  get outcome(): Promise<VmOutcome> {
    return this.#outcome.promise;
  }

  /** When what happened. */
  get timeline(): VmTimeline {
    return {
      setup: this.#parts.setup,
      resumedAt: this.#resumedAt,
      enteredAt: this.#parts.threads[0]!.enteredAt,
    };
  }

  /** The end of what the guest wrote to the serial console. */
  get consoleText(): string {
    return this.#parts.serial.log.text;
  }

  /** What the guest's out-of-memory killer said on the serial console. */
  get outOfMemory(): readonly string[] {
    return this.#parts.serial.log.outOfMemory;
  }

  /** How often each vCPU left the kernel. */
  get exits(): readonly ExitCounts[] {
    return this.#parts.threads.map((thread) => thread.counts);
  }

  /** Lets the guest run. Does nothing when it does, or has ended. A pause under way is overruled. */
  resume(): void {
    this.#on("resume");
  }

  /**
   * Stops the guest between two instructions; {@linkcode resume} goes on.
   *
   * @throws {CloudletError} `conflict` when the VM is resumed before it stands still
   */
  async pause(): Promise<void> {
    const pauser = Promise.withResolvers<void>();
    this.#pausers.push(pauser);
    this.#on("pause");
    await pauser.promise;
  }

  /** Whether no processor has anything to do at the moment; undefined when the guest does not run. */
  async idle(): Promise<boolean | undefined> {
    const { promise, resolve } = Promise.withResolvers<boolean | undefined>();
    this.#lookAt({
      now: () =>
        resolve(this.#parts.vcpus.every((vcpu) => vcpu.getMpState() !== KVM_MP_STATE_RUNNABLE)),
      skip: () => resolve(undefined),
    });
    return await promise;
  }

  /**
   * Reads the state of a paused VM, without its memory: see snapshot/format.ts.
   *
   * @throws {CloudletError} `conflict` when it runs, is being saved, has ended, or is resumed meanwhile
   */
  async save(): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
    if (!this.#on("save")) throw cannot("save", "it is not paused");
    const saving = this.#state;
    try {
      // First: until then they may write to memory.
      const devices = await this.devices.save();
      if (this.#state !== saving) throw cannot("save", "it is not paused any more");
      using kvm = Kvm.open();
      const pieces = saveMachine(kvm, this.#parts.vm, this.#parts.vcpus);
      addSerial(pieces, this.#parts.serial.state);
      addDevices(pieces, devices);
      return pieces;
    } finally {
      if (this.#state === saving) this.#on("saved");
    }
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
    // Even if what follows fails it is not fresh any more: its RAM is not empty.
    if (!this.#on("restore")) throw cannot("restore", "it has run, or was restored");
    this.memory.mapOverRam(memory.fd, memory.data);
    restoreSerial(this.#parts.serial.state, pieces);
    const clock = restoreMachine(this.#parts.vm, this.#parts.vcpus, pieces);
    this.#followRestore = this.devices.restore(devices);
    return clock;
  }

  /**
   * Types at the serial console.
   *
   * @returns settles when the guest's serial port has taken all of it, or the VM has ended
   */
  writeSerial(bytes: Uint8Array): Promise<void> {
    return this.#parts.serial.write(bytes);
  }

  /** Ends the VM at once, whatever the guest does; nothing that belongs to it is left. */
  async stop(): Promise<void> {
    await this.#end(() => ({ kind: "stopped" }));
  }

  /** As {@linkcode stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Takes an event; false when the VM cannot do it as it is. */
  #on(event: VmEvent): boolean {
    const { state, actions } = next(this.#state, event);
    this.#state = state;
    for (const action of actions) this.#do(action);
    return !actions.includes("refuse");
  }

  #do(action: VmAction): void {
    switch (action) {
      case "run":
        return this.#run();
      case "go-on":
        return this.#parts.threads.forEach((thread) => thread.resume());
      case "stop":
        Promise.all(this.#parts.threads.map((thread) => thread.pause()))
          .then(() => this.#on("stopped"))
          .catch((error) => this.#fail(messageOf(error)));
        return;
      case "look":
        for (const look of this.#looks.splice(0)) look.now();
        this.#on("looked");
        return;
      case "skip-look":
        for (const look of this.#looks.splice(0)) look.skip();
        return;
      case "paused":
        for (const pauser of this.#pausers.splice(0)) pauser.resolve();
        return;
      case "superseded":
        for (const pauser of this.#pausers.splice(0)) {
          pauser.reject(cannot("pause", "it was resumed meanwhile"));
        }
        return;
      case "refuse":
        return; // told to who asked
      default:
        action satisfies never;
    }
  }

  #run(): void {
    this.#resumedAt ??= performance.now();
    for (const thread of this.#parts.threads) thread.resume();
    // After the vCPUs, which would have to share a processor with the device thread.
    this.#followRestore?.().catch((error) => this.#fail(messageOf(error)));
    this.#followRestore = undefined;
    this.devices.thaw();
    this.#watch.start();
  }

  #lookAt(look: Look): void {
    this.#looks.push(look);
    this.#on("look");
  }

  /**
   * A kernel without ACPI cannot switch the machine off: it halts with interrupts disabled, inside
   * KVM_RUN. So look from time to time, and when the kernel says that it is done.
   */
  #checkHalted(): void {
    const now = () => {
      if (!this.#parts.vcpus.every((vcpu) => haltedForGood(vcpu))) return;
      this.#end(() => outcomeOfHalt(this.#parts.serial.log)).catch(() => {}); // the outcome tells
    };
    if (this.#state.kind === "running") this.#lookAt({ now, skip() {} });
  }

  #fail(message: string): void {
    this.#end(() => ({ kind: "internal-error", message })).catch(() => {}); // the outcome tells
  }

  /** @param judge how it ended; called when what the guest said last is in the log */
  #end(judge: () => VmOutcome): Promise<void> {
    return this.#disposal ??= (async () => {
      this.#on("end");
      this.#watch[Symbol.dispose]();
      const { serial, threads, resources } = this.#parts;
      serial.close();
      try {
        await Promise.all(threads.map((thread) => thread.stop()));
        await serial.finish();
        const outcome = judge();
        await resources.disposeAsync();
        this.#outcome.resolve(outcome);
      } catch (error) {
        this.#outcome.resolve({ kind: "internal-error", message: String(error) });
        throw error;
      }
    })();
  }
}
