/**
 * The loop of a vCPU thread: KVM_RUN, answer the exit in place, again.
 *
 * @module
 */
import { EAGAIN, EINTR } from "../../ffi/errno.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { bufferAt, detach } from "../../ffi/mapping.ts";
import {
  KVM_EXIT_FAIL_ENTRY,
  KVM_EXIT_INTERNAL_ERROR,
  KVM_EXIT_INTR,
  KVM_EXIT_IO,
  KVM_EXIT_IO_OUT,
  KVM_EXIT_MMIO,
  KVM_EXIT_SHUTDOWN,
  KVM_INTERNAL_ERROR_EMULATION,
  kvm_irq_level,
  KVM_IRQ_LINE,
  KVM_RUN,
  kvm_run,
} from "../../ffi/uapi/kvm.ts";
import { errnoName } from "../../ffi/errno.ts";
import { ioctlBytes } from "../../ffi/libc.ts";
import { assistInstruction } from "../assist/assist.ts";
import { type CompareExchange, compareExchange } from "../assist/compare_exchange.ts";
import { doString } from "../assist/strings.ts";
import { MmioBus } from "./bus.ts";
import { ByteRing } from "../legacy/byte_ring.ts";
import { VcpuState } from "../kvm/kvm_vcpu.ts";
import { COPY_PORT, FILL_PORT, SERIAL_IRQ } from "../layout.ts";
import { type PortEvent, Ports } from "../legacy/ports.ts";
import { Serial } from "../legacy/serial.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import type { VcpuDescription, VcpuExit } from "./vcpu_messages.ts";
import type { RunCall } from "./run_call.ts";
import { Stall } from "./stall.ts";
import { Command, ImmediateExit, State, VcpuControl } from "./vcpu_control.ts";
import { virtioMmio } from "../virtio/front.ts";

const LE = true;
const EXIT_REASON = kvm_run.offsets.exit_reason;
const IO_DIRECTION = kvm_run.offsetOf("exit.io.direction");
const IO_SIZE = kvm_run.offsetOf("exit.io.size");
const IO_PORT = kvm_run.offsetOf("exit.io.port");
const IO_COUNT = kvm_run.offsetOf("exit.io.count");
const IO_DATA_OFFSET = kvm_run.offsetOf("exit.io.data_offset");
const MMIO_ADDRESS = kvm_run.offsetOf("exit.mmio.phys_addr");
const MMIO_DATA = kvm_run.offsetOf("exit.mmio.data");
const MMIO_LENGTH = kvm_run.offsetOf("exit.mmio.len");
const MMIO_IS_WRITE = kvm_run.offsetOf("exit.mmio.is_write");
const SUBERROR = kvm_run.offsetOf("exit.internal.suberror");
const FAIL_REASON = kvm_run.offsetOf("exit.fail_entry.hardware_entry_failure_reason");

/** There is a command to be looked at. */
const KICKED = "kicked";

/** What an exit leads to; undefined when the vCPU goes on. */
type Answer = VcpuExit | typeof KICKED | undefined;

function exitOf(event: PortEvent | undefined): VcpuExit | undefined {
  return event === undefined ? undefined : { kind: event };
}

/** The interrupt line of the serial port, from any thread. */
export function serialInterrupt(vmFd: number): (level: boolean) => void {
  const argument = kvm_irq_level.encode({ irq: SERIAL_IRQ });
  const view = new DataView(argument.buffer);
  return (level) => {
    view.setUint32(kvm_irq_level.offsets.level, level ? 1 : 0, LE);
    ioctlBytes(vmFd, KVM_IRQ_LINE, argument);
  };
}

/** One vCPU and what answers its exits, in the thread that runs it. */
export class VcpuLoop implements Disposable {
  readonly #description: VcpuDescription;
  readonly #control: VcpuControl;
  readonly #state: VcpuState;
  readonly #memory: GuestMemory;
  readonly #bus = new MmioBus();
  readonly #ports: Ports;
  readonly #run: DataView<ArrayBuffer>;
  readonly #immediateExit: ImmediateExit;
  readonly #compareExchange: CompareExchange;
  /** Views of the MMIO data by length. */
  readonly #mmioData: readonly DataView[];

  /**
   * @param description what the main thread set up
   * @param roomForInput called when the serial port can take input again
   */
  constructor(description: VcpuDescription, roomForInput: () => void) {
    this.#description = description;
    this.#control = new VcpuControl(description.control);
    this.#state = new VcpuState(description.id, description.fd, description.xsaveSize);
    this.#memory = GuestMemory.attach(description.memory);
    this.#run = new DataView(bufferAt(description.runAddress, description.runLength));
    this.#immediateExit = new ImmediateExit(this.#run.buffer);
    this.#compareExchange = compareExchange(description.compareExchange);
    this.#mmioData = Array.from(
      { length: 9 },
      (_, length) => new DataView(this.#run.buffer, MMIO_DATA, length),
    );
    const ring = new ByteRing(description.console);
    const serial = new Serial(description.serial, {
      output: (byte) => this.#control.command === Command.Stop || ring.push(byte),
      room: () => ring.room,
      interrupt: serialInterrupt(description.vmFd),
      roomForInput,
    });
    this.#ports = new Ports(serial);
    for (const region of description.regions) {
      this.#bus.attach(region, virtioMmio(region, this.#memory));
    }
  }

  /** Runs the vCPU as commanded until it ends; blocks this thread. */
  run(): VcpuExit {
    const control = this.#control;
    control.tid = libc().gettid();
    try {
      for (;;) {
        const command = control.command;
        if (command === Command.Stop) return { kind: "stopped" };
        if (command === Command.Pause) {
          control.state = State.Paused;
          control.waitForOtherCommand(Command.Pause);
          continue;
        }
        control.noteEntry();
        control.state = State.Running;
        const exit = this.#runUntilKicked();
        if (exit !== undefined) return exit;
      }
    } finally {
      control.state = State.Ended;
    }
  }

  /** Lets go of the guest's memory. */
  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
    detach(this.#run.buffer);
  }

  /**
   * The same on threads of the runtime's pool, for a thread that has several vCPUs.
   *
   * @param enter runs it until it leaves the guest
   */
  async runOnPool(enter: RunCall): Promise<VcpuExit> {
    const control = this.#control;
    const words = control.address; // which outlive the call: the loop has them, and its owner awaits it
    const { fd } = this.#description;
    try {
      for (;;) {
        if (control.command === Command.Stop) return { kind: "stopped" };
        // Only here may it be paused: an exit that was answered is complete with the next KVM_RUN. If
        // the command is another one by now, it runs at once.
        control.state = State.Paused;
        for (;;) {
          const result = Number(await enter(fd, words));
          let exit = this.#left(result < 0 ? -result : 0);
          while (exit instanceof Stall) {
            await exit.wait();
            exit = this.#retry(exit);
          }
          if (exit === KICKED) break;
          if (exit !== undefined) return exit;
        }
      }
    } finally {
      control.state = State.Ended;
    }
  }

  #runUntilKicked(): VcpuExit | undefined {
    const { ioctl_number: ioctl } = libc();
    const fd = this.#description.fd;
    const request = KVM_RUN.request;
    for (;;) {
      let exit = this.#left(ioctl(fd, request, 0n) < 0 ? errno() : 0);
      while (exit instanceof Stall) {
        exit.block();
        exit = this.#retry(exit);
      }
      if (exit === KICKED) return undefined;
      if (exit !== undefined) return exit;
    }
  }

  /**
   * Answers why the vCPU left the guest.
   *
   * @param error of KVM_RUN, or 0
   * @returns undefined when it shall go on, KICKED when there is a command to be looked at
   */
  #left(error: number): Answer | Stall<Answer> {
    const run = this.#run;
    if (error !== 0) {
      if (error === EINTR) {
        // In this order: a kick between the two lines makes the next KVM_RUN return at once.
        this.#immediateExit.clear();
        this.#control.countKick();
        return this.#control.command === Command.Run ? undefined : KICKED;
      }
      if (error === EAGAIN) return undefined; // a processor that was just woken by INIT or SIPI
      return this.#failure(`KVM_RUN failed: ${errnoName(error)}`);
    }
    const reason = run.getUint32(EXIT_REASON, LE);
    switch (reason) {
      case KVM_EXIT_IO: {
        this.#control.countIo();
        const event = this.#portIo();
        return event instanceof Stall ? event.followedBy(exitOf) : exitOf(event);
      }
      case KVM_EXIT_MMIO:
        this.#control.countMmio();
        return this.#mmio()?.followedBy(() => undefined);
      case KVM_EXIT_INTR:
        return undefined;
      case KVM_EXIT_SHUTDOWN:
        return { kind: "triple-fault", rip: this.#state.getRegs().rip };
      case KVM_EXIT_INTERNAL_ERROR:
        return this.#internalError();
      case KVM_EXIT_FAIL_ENTRY:
        return this.#failure(
          `the processor refused to enter the guest, reason 0x${
            run.getBigUint64(FAIL_REASON, LE).toString(16)
          }`,
        );
      default:
        return this.#failure(`KVM left the guest for the unexpected reason ${reason}`);
    }
  }

  /** Tries again to answer an exit. A pause waits for it: only an answered exit can be saved. */
  #retry(stall: Stall<Answer>): Answer | Stall<Answer> {
    return this.#control.command === Command.Stop ? KICKED : stall.retry();
  }

  /** Does the port I/O but for the `first` accesses, which were done before. */
  #portIo(first = 0): PortEvent | undefined | Stall<PortEvent | undefined> {
    const run = this.#run;
    const size = run.getUint8(IO_SIZE);
    const port = run.getUint16(IO_PORT, LE);
    const count = run.getUint32(IO_COUNT, LE);
    let offset = Number(run.getBigUint64(IO_DATA_OFFSET, LE));
    const out = run.getUint8(IO_DIRECTION) === KVM_EXIT_IO_OUT;
    if (out && size === 4 && count === 1 && this.#description.assists) {
      if (port === COPY_PORT || port === FILL_PORT) {
        const operation = port === COPY_PORT ? "copy" : "fill";
        return void doString(this.#memory, operation, run.getUint32(offset, LE));
      }
    }
    offset += first * size;
    for (let i = first; i < count; i++, offset += size) {
      if (out) {
        const value = size === 1
          ? run.getUint8(offset)
          : size === 2
          ? run.getUint16(offset, LE)
          : run.getUint32(offset, LE);
        const event = this.#ports.write(port, size, value);
        if (event instanceof Stall) {
          return event.followedBy((event) => event ?? this.#portIo(i + 1));
        }
        if (event !== undefined) return event;
      } else {
        const value = this.#ports.read(port, size);
        if (size === 1) run.setUint8(offset, value);
        else if (size === 2) run.setUint16(offset, value, LE);
        else run.setUint32(offset, value, LE);
      }
    }
    return undefined;
  }

  #mmio(): Stall | undefined {
    const run = this.#run;
    const address = Number(run.getBigUint64(MMIO_ADDRESS, LE));
    const data = this.#mmioData[run.getUint32(MMIO_LENGTH, LE)]!;
    if (run.getUint8(MMIO_IS_WRITE) !== 0) return this.#bus.write(address, data);
    this.#bus.read(address, data);
    return undefined;
  }

  #internalError(): VcpuExit | undefined {
    const suberror = this.#run.getUint32(SUBERROR, LE);
    if (suberror !== KVM_INTERNAL_ERROR_EMULATION) {
      return this.#failure(`KVM reports the internal error ${suberror}`);
    }
    const { assists, xsaveComponents } = this.#description;
    if (!assists) return this.#failure("KVM cannot emulate an instruction of the guest");
    const result = assistInstruction(
      this.#state,
      this.#memory,
      xsaveComponents,
      this.#compareExchange,
    );
    if (result.kind === "unknown") {
      const bytes = Array.from(result.bytes, (byte) => byte.toString(16).padStart(2, "0"));
      return this.#failure(
        `neither KVM nor cloudlet can emulate the instruction ${bytes.join(" ") || "(unreadable)"}`,
      );
    }
    this.#control.countAssist();
    return undefined;
  }

  #failure(why: string): VcpuExit {
    const rip = this.#state.getRegs().rip.toString(16);
    return {
      kind: "internal-error",
      message: `vCPU ${this.#description.id} stopped at RIP 0x${rip}: ${why}`,
    };
  }
}
