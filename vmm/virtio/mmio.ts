/**
 * The virtio-mmio transport, version 2: virtio 1.2, section 4.2. This is the vCPU's side: registers
 * as the driver reads and writes them, over a {@linkcode TransportState} that the device worker
 * shares.
 *
 * @module
 */
import { refuseLayout } from "./queue.ts";
import type { DeviceMemory } from "./memory.ts";
import { Command, QueueWord, type TransportState, Word } from "./state.ts";
import { Stall } from "../vcpu/stall.ts";

/** Register offsets: virtio 1.2, 4.2.2, table 4.1. */
export const VIRTIO_MMIO = {
  MAGIC_VALUE: 0x000,
  VERSION: 0x004,
  DEVICE_ID: 0x008,
  VENDOR_ID: 0x00c,
  DEVICE_FEATURES: 0x010,
  DEVICE_FEATURES_SEL: 0x014,
  DRIVER_FEATURES: 0x020,
  DRIVER_FEATURES_SEL: 0x024,
  QUEUE_SEL: 0x030,
  QUEUE_NUM_MAX: 0x034,
  QUEUE_NUM: 0x038,
  QUEUE_READY: 0x044,
  QUEUE_NOTIFY: 0x050,
  INTERRUPT_STATUS: 0x060,
  INTERRUPT_ACK: 0x064,
  STATUS: 0x070,
  QUEUE_DESC_LOW: 0x080,
  QUEUE_DESC_HIGH: 0x084,
  QUEUE_AVAIL_LOW: 0x090,
  QUEUE_AVAIL_HIGH: 0x094,
  QUEUE_USED_LOW: 0x0a0,
  QUEUE_USED_HIGH: 0x0a4,
  SHM_LEN_LOW: 0x0b0,
  SHM_LEN_HIGH: 0x0b4,
  SHM_BASE_LOW: 0x0b8,
  SHM_BASE_HIGH: 0x0bc,
  CONFIG_GENERATION: 0x0fc,
  CONFIG: 0x100,
} as const;

const MAGIC = 0x74726976; // "virt", 4.2.2
const VERSION = 2;
const VENDOR = 0x544c4443; // "CDLT"; 4.2.2 leaves the value to the device

/** Device status bits: virtio 1.2, 2.1. */
export const Status = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  DEVICE_NEEDS_RESET: 64,
  FAILED: 128,
} as const;

/** Interrupt status bits: virtio 1.2, 4.2.2. */
export const Interrupt = {
  /** A used buffer was put into a queue. */
  VRING: 1,
  /** The configuration changed. */
  CONFIG: 2,
} as const;

/** Reserved feature bits: virtio 1.2, section 6. */
export const Feature = {
  EVENT_IDX: 29n,
  VERSION_1: 32n,
} as const;

const { ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, DEVICE_NEEDS_RESET, FAILED } = Status;
const INIT = 0;
const SEEN = ACKNOWLEDGE;
const NEGOTIATING = SEEN | DRIVER;
const SETTING_UP = NEGOTIATING | FEATURES_OK;
const LIVE = SETTING_UP | DRIVER_OK;

/** virtio 1.2, 3.1.1: the next state of each; anything else is ignored. */
const NEXT_STATE = new Map([
  [INIT, SEEN],
  [SEEN, NEGOTIATING],
  [NEGOTIATING, SETTING_UP],
  [SETTING_UP, LIVE],
]);

/** What the vCPU's side can do besides keeping registers. */
export interface TransportSignals {
  /** Wakes the device worker: a {@linkcode Command} was set. */
  command(): void;
  /** Tells the device worker that a queue has something; only where no ioeventfd does it. */
  notify(queue: number): void;
}

/** The registers of one device. */
export class MmioTransport {
  /**
   * @param state shared with the device worker
   * @param memory the guest's RAM, to refuse a queue that is not in it
   * @param signals how to reach the device worker
   */
  constructor(
    readonly state: TransportState,
    readonly memory: Pick<DeviceMemory, "offsetOf">,
    readonly signals: TransportSignals,
  ) {}

  /**
   * What the driver reads.
   *
   * @param offset from the device's base address
   * @param length 1, 2, 4 or 8 bytes
   * @returns the value, little-endian; 0 where nothing is to be read
   */
  read(offset: number, length: number): number {
    if (offset >= VIRTIO_MMIO.CONFIG) return this.#readConfig(offset - VIRTIO_MMIO.CONFIG, length);
    // 4.2.2.2: "The driver MUST only use 32 bit wide and aligned reads and writes"
    if (length !== 4) return 0;
    const { state } = this;
    switch (offset) {
      case VIRTIO_MMIO.MAGIC_VALUE:
        return MAGIC;
      case VIRTIO_MMIO.VERSION:
        return VERSION;
      case VIRTIO_MMIO.DEVICE_ID:
        return state.get(Word.deviceId);
      case VIRTIO_MMIO.VENDOR_ID:
        return VENDOR;
      case VIRTIO_MMIO.DEVICE_FEATURES:
        switch (state.get(Word.deviceFeaturesSelect)) {
          case 0:
            return state.get(Word.deviceFeaturesLow);
          case 1:
            return state.get(Word.deviceFeaturesHigh);
          default:
            return 0;
        }
      case VIRTIO_MMIO.QUEUE_NUM_MAX:
        return this.#queueWord(QueueWord.maximum);
      case VIRTIO_MMIO.QUEUE_READY:
        return this.#queueWord(QueueWord.ready);
      case VIRTIO_MMIO.INTERRUPT_STATUS:
        return state.get(Word.interruptStatus);
      case VIRTIO_MMIO.STATUS:
        return state.get(Word.status);
      case VIRTIO_MMIO.SHM_LEN_LOW:
      case VIRTIO_MMIO.SHM_LEN_HIGH:
      case VIRTIO_MMIO.SHM_BASE_LOW:
      case VIRTIO_MMIO.SHM_BASE_HIGH:
        return 0xffff_ffff; // 4.2.2.1: no such region: -1
      case VIRTIO_MMIO.CONFIG_GENERATION:
        return this.#generation();
      default:
        return 0;
    }
  }

  /**
   * What the driver writes.
   *
   * @param offset from the device's base address
   * @param length 1, 2, 4 or 8 bytes
   * @param value little-endian
   * @returns what the vCPU has to wait for before it goes on: the device worker, which resets
   */
  write(offset: number, length: number, value: number): Stall | undefined {
    if (offset >= VIRTIO_MMIO.CONFIG) {
      this.#writeConfig(offset - VIRTIO_MMIO.CONFIG, length, value);
      return undefined;
    }
    if (length !== 4) return undefined;
    const { state } = this;
    switch (offset) {
      case VIRTIO_MMIO.DEVICE_FEATURES_SEL:
        state.set(Word.deviceFeaturesSelect, value);
        break;
      case VIRTIO_MMIO.DRIVER_FEATURES_SEL:
        state.set(Word.driverFeaturesSelect, value);
        break;
      case VIRTIO_MMIO.DRIVER_FEATURES:
        if (state.get(Word.status) !== NEGOTIATING) break; // 3.1.1: before FEATURES_OK only
        switch (state.get(Word.driverFeaturesSelect)) {
          case 0:
            state.set(Word.driverFeaturesLow, value);
            break;
          case 1:
            state.set(Word.driverFeaturesHigh, value);
            break;
        }
        break;
      case VIRTIO_MMIO.QUEUE_SEL:
        state.set(Word.queueSelect, value);
        break;
      case VIRTIO_MMIO.QUEUE_NUM:
        this.#setQueueWord(QueueWord.size, value);
        break;
      case VIRTIO_MMIO.QUEUE_DESC_LOW:
        this.#setQueueWord(QueueWord.descriptorsLow, value);
        break;
      case VIRTIO_MMIO.QUEUE_DESC_HIGH:
        this.#setQueueWord(QueueWord.descriptorsHigh, value);
        break;
      case VIRTIO_MMIO.QUEUE_AVAIL_LOW:
        this.#setQueueWord(QueueWord.availableLow, value);
        break;
      case VIRTIO_MMIO.QUEUE_AVAIL_HIGH:
        this.#setQueueWord(QueueWord.availableHigh, value);
        break;
      case VIRTIO_MMIO.QUEUE_USED_LOW:
        this.#setQueueWord(QueueWord.usedLow, value);
        break;
      case VIRTIO_MMIO.QUEUE_USED_HIGH:
        this.#setQueueWord(QueueWord.usedHigh, value);
        break;
      case VIRTIO_MMIO.QUEUE_READY:
        this.#setReady(value);
        break;
      case VIRTIO_MMIO.QUEUE_NOTIFY:
        if (value < state.get(Word.queueCount)) this.signals.notify(value);
        break;
      case VIRTIO_MMIO.INTERRUPT_ACK:
        Atomics.and(state.words, Word.interruptStatus, ~value);
        break;
      case VIRTIO_MMIO.STATUS:
        if (value === 0) return this.#reset();
        this.#setStatus(value);
        break;
    }
    return undefined;
  }

  #selected(): number {
    const queue = this.state.get(Word.queueSelect);
    return queue < this.state.get(Word.queueCount) ? queue : -1;
  }

  #queueWord(word: number): number {
    const queue = this.#selected();
    return queue < 0 ? 0 : this.state.queueWord(queue, word);
  }

  #setQueueWord(word: number, value: number): void {
    const queue = this.#selected();
    // 4.2.2.2: not while the queue is ready; 3.1.1: queues are set up after FEATURES_OK.
    if (queue < 0 || this.state.get(Word.status) !== SETTING_UP) return;
    if (this.state.queueWord(queue, QueueWord.ready) !== 0) return;
    this.state.setQueueWord(queue, word, value);
  }

  #setReady(value: number): void {
    const queue = this.#selected();
    if (queue < 0 || this.state.get(Word.status) !== SETTING_UP) return;
    if (value !== 1) {
      this.state.setQueueWord(queue, QueueWord.ready, 0);
      return;
    }
    const layout = this.state.queueLayout(queue);
    if (layout.size > this.state.queueWord(queue, QueueWord.maximum)) return;
    if (refuseLayout(layout, this.memory) !== undefined) return;
    this.state.setQueueWord(queue, QueueWord.ready, 1);
  }

  #setStatus(value: number): void {
    const { state } = this;
    const now = state.get(Word.status);
    if ((now & (FAILED | DEVICE_NEEDS_RESET)) !== 0) return; // only a reset leads out
    if ((value & FAILED) !== 0) {
      state.set(Word.status, now | FAILED);
      return;
    }
    if (value !== NEXT_STATE.get(now)) return;
    if (value === SETTING_UP && !this.#featuresAcceptable()) return; // FEATURES_OK stays off
    state.set(Word.status, value);
    if (value === LIVE) {
      state.set(Word.active, 1);
      this.#command(Command.activate);
    }
  }

  #featuresAcceptable(): boolean {
    const { state } = this;
    const low = state.get(Word.driverFeaturesLow) & ~state.get(Word.deviceFeaturesLow);
    const high = state.get(Word.driverFeaturesHigh) & ~state.get(Word.deviceFeaturesHigh);
    const modern = state.get(Word.driverFeaturesHigh) & 1; // VIRTIO_F_VERSION_1, bit 32
    return low === 0 && high === 0 && modern === 1;
  }

  /**
   * 2.4.2: "The driver SHOULD consider a driver-initiated reset complete when it reads device status
   * as 0." Linux does not read it: vm_reset() of drivers/virtio/virtio_mmio.c (6.1, 6.12) writes 0,
   * and its callers free the queues. So the write takes until the device worker has let go of them.
   */
  #reset(): Stall | undefined {
    const { state } = this;
    if (state.get(Word.active) !== 0) {
      this.#command(Command.reset);
      if (state.get(Word.active) !== 0) {
        const letGo = { words: state.words, index: Word.active, value: 1 };
        return new Stall(letGo, () => this.#reset());
      }
    }
    for (let queue = 0; queue < state.get(Word.queueCount); queue++) {
      for (let word: number = QueueWord.size; word <= QueueWord.usedHigh; word++) {
        state.setQueueWord(queue, word, 0);
      }
    }
    for (
      const word of [
        Word.driverFeaturesLow,
        Word.driverFeaturesHigh,
        Word.deviceFeaturesSelect,
        Word.driverFeaturesSelect,
        Word.queueSelect,
        Word.interruptStatus,
        Word.status,
      ]
    ) state.set(word, 0);
    return undefined;
  }

  #command(command: number): void {
    Atomics.or(this.state.words, Word.command, command);
    this.signals.command();
  }

  #generation(): number {
    // Odd while a change is under way, which takes microseconds.
    for (;;) {
      const generation = this.state.get(Word.configGeneration);
      if ((generation & 1) === 0) return generation;
    }
  }

  #readConfig(offset: number, length: number): number {
    if (offset + length > this.state.get(Word.configLength)) return 0;
    let value = 0;
    for (let i = length - 1; i >= 0; i--) value = value * 256 + this.state.config[offset + i]!;
    return value;
  }

  #writeConfig(offset: number, length: number, value: number): void {
    const { state } = this;
    const start = state.get(Word.configWritableStart);
    if (offset < start || offset + length > state.get(Word.configWritableEnd)) return;
    let rest = value;
    for (let i = 0; i < length; i++) {
      state.config[offset + i] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    if (state.get(Word.active) !== 0) this.#command(Command.configWritten);
  }
}
