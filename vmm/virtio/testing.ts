/**
 * For tests: guest memory with guards around it, a driver, and a place for a device that runs in the
 * test's own thread.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Poller } from "../device_thread/poller.ts";
import type { Device, DeviceHost } from "./device.ts";
import type { DeviceMemory } from "./memory.ts";
import { Interrupt, MmioTransport, Status, VIRTIO_MMIO } from "./mmio.ts";
import { DeviceSlot } from "./slot.ts";
import { Word } from "./state.ts";

const GUARD = 64 * 1024;
const GUARD_BYTE = 0xa5;

/** RAM from guest-physical address `start` on, between two guards that nobody may touch. */
export class FakeMemory implements DeviceMemory {
  readonly view: DataView<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly base: bigint;
  readonly #all: Uint8Array<ArrayBuffer>;

  constructor(readonly size: number = 1 << 20, readonly start: number = 0) {
    this.#all = new Uint8Array(size + 2 * GUARD).fill(GUARD_BYTE);
    this.bytes = this.#all.subarray(GUARD, GUARD + size).fill(0);
    this.view = new DataView(this.#all.buffer, GUARD, size);
    // SAFETY: this object keeps the memory; who gets the address uses it no longer than the object.
    this.base = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(this.bytes)));
  }

  offsetOf(address: number, length: number): number {
    const offset = address - this.start;
    return offset >= 0 && offset + length <= this.size ? offset : -1;
  }

  window(offset: number, length: number): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(offset, offset + length);
  }

  release(): void {}

  read(offset: number, target: Uint8Array): void {
    target.set(this.window(offset, target.length));
  }

  write(offset: number, source: Uint8Array): void {
    this.bytes.set(source, offset);
  }

  /** Fails when something was written outside of RAM. */
  checkGuards(): void {
    const guard = (bytes: Uint8Array) => bytes.every((byte) => byte === GUARD_BYTE);
    assert(guard(this.#all.subarray(0, GUARD)), "memory before RAM was written");
    assert(guard(this.#all.subarray(GUARD + this.size)), "memory behind RAM was written");
  }
}

/** What a driver needs of the machine that it runs in. */
export interface GuestSide {
  readonly memory: FakeMemory;
  readonly transport: MmioTransport;
  /** Interrupt edges since the start. */
  readonly interrupts: number;
  /** Lets the devices handle what is due, without waiting. */
  turn(): void;
}

/** A device in its slot, without a worker. */
export class Bench implements GuestSide, Disposable {
  readonly poller: Poller;
  readonly slot: DeviceSlot;
  readonly transport: MmioTransport;
  readonly warnings: string[] = [];
  /** What the device told the main thread. */
  readonly events: unknown[] = [];
  readonly discarded: [offset: number, length: number][] = [];
  /** Interrupt edges since the start. */
  interrupts = 0;

  constructor(readonly memory: FakeMemory, make: (host: DeviceHost) => Device<unknown>) {
    this.poller = new Poller((message) => this.warnings.push(`failed: ${message}`));
    this.slot = new DeviceSlot({
      memory,
      scheduler: this.poller,
      interrupt: () => this.interrupts++,
      discard: (offset, length) => this.discarded.push([offset, length]),
      post: (event) => this.events.push(structuredClone(event)),
      warn: (message) => this.warnings.push(message),
    }, make);
    this.transport = new MmioTransport(this.slot.state, memory, {
      command: () => this.slot.handleCommands(),
      notify: (queue) => this.slot.handleQueue(queue),
    });
  }

  /** Lets the loop handle what is due, without waiting. */
  turn(): void {
    for (let round = 0; round < 20; round++) this.poller.runOnce(0);
  }

  /** Waits for what the loop stands still for, and goes on. */
  async loaded(): Promise<void> {
    await this.poller.doOutside();
    this.turn();
  }

  [Symbol.dispose](): void {
    this.slot[Symbol.dispose]();
    this.poller[Symbol.dispose]();
  }
}

/** A buffer of a chain. */
export interface Segment {
  readonly address: number;
  readonly length: number;
  /** Whether the device may write to it. */
  readonly write?: boolean;
}

/** What came back from the device. */
export interface Used {
  readonly head: number;
  readonly length: number;
}

/** The driver's side of one queue. */
export class DriverQueue {
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  /** First address behind the queue's parts. */
  readonly end: number;
  #free = 0;
  #availableIndex = 0;
  #usedIndex = 0;

  constructor(readonly memory: FakeMemory, readonly size: number, address: number) {
    this.descriptors = address;
    this.available = address + 16 * size;
    this.used = Math.ceil((this.available + 6 + 2 * size) / 4) * 4;
    this.end = Math.ceil((this.used + 6 + 8 * size) / 16) * 16;
  }

  #at(address: number): number {
    return address - this.memory.start;
  }

  /** Writes a descriptor as it is given. */
  descriptor(index: number, address: bigint, length: number, flags: number, next: number): void {
    const at = this.#at(this.descriptors) + 16 * index;
    const { view } = this.memory;
    view.setBigUint64(at, address, true);
    view.setUint32(at + 8, length, true);
    view.setUint16(at + 12, flags, true);
    view.setUint16(at + 14, next, true);
  }

  /** Makes a chain head available. */
  offer(head: number): void {
    const { view } = this.memory;
    const slot = this.#availableIndex % this.size;
    view.setUint16(this.#at(this.available) + 4 + 2 * slot, head, true);
    this.setAvailableIndex(this.#availableIndex + 1);
  }

  /** Sets the available index, right or wrong. */
  setAvailableIndex(index: number): void {
    this.#availableIndex = index & 0xffff;
    this.memory.view.setUint16(this.#at(this.available) + 2, this.#availableIndex, true);
  }

  /** Asks for an interrupt when the next buffer comes back. */
  wantInterrupt(): void {
    this.setUsedEvent(this.#usedIndex);
  }

  /** Sets VIRTQ_AVAIL_F_NO_INTERRUPT, or takes it back. */
  setNoInterrupt(set: boolean): void {
    this.memory.view.setUint16(this.#at(this.available), set ? 1 : 0, true);
  }

  /** After how many used buffers the driver wants an interrupt: the value of used_event. */
  setUsedEvent(index: number): void {
    const at = this.#at(this.available) + 4 + 2 * this.size;
    this.memory.view.setUint16(at, index & 0xffff, true);
  }

  /** Adds a chain of buffers; descriptors are taken round robin. */
  add(segments: readonly Segment[]): number {
    const indices = segments.map((_, i) => (this.#free + i) % this.size);
    this.#free = (this.#free + segments.length) % this.size;
    segments.forEach(({ address, length, write }, i) => {
      const next = indices[i + 1];
      const flags = (next === undefined ? 0 : 1) | (write === true ? 2 : 0);
      this.descriptor(indices[i]!, BigInt(address), length, flags, next ?? 0);
    });
    this.offer(indices[0]!);
    return indices[0]!;
  }

  /** What the device gave back since the last call. */
  collect(): Used[] {
    const used: Used[] = [];
    const { view } = this.memory;
    const index = view.getUint16(this.#at(this.used) + 2, true);
    for (; this.#usedIndex !== index; this.#usedIndex = (this.#usedIndex + 1) & 0xffff) {
      const at = this.#at(this.used) + 4 + 8 * (this.#usedIndex % this.size);
      used.push({ head: view.getUint32(at, true), length: view.getUint32(at + 4, true) });
    }
    return used;
  }
}

/** A driver that follows virtio 1.2, 3.1.1. */
export class Driver {
  readonly queues: DriverQueue[] = [];
  /** First address that the queues leave free. */
  free: number;
  /** Interrupt edges that were seen. */
  #edges: number;

  constructor(readonly bench: GuestSide, from: number = bench.memory.start) {
    this.free = from;
    this.#edges = bench.interrupts;
  }

  read(register: number): number {
    return this.bench.transport.read(register, 4);
  }

  write(register: number, value: number): void {
    this.bench.transport.write(register, 4, value);
  }

  /** All features that the device offers. */
  get offered(): bigint {
    this.write(VIRTIO_MMIO.DEVICE_FEATURES_SEL, 1);
    const high = this.read(VIRTIO_MMIO.DEVICE_FEATURES);
    this.write(VIRTIO_MMIO.DEVICE_FEATURES_SEL, 0);
    return BigInt(high) << 32n | BigInt(this.read(VIRTIO_MMIO.DEVICE_FEATURES));
  }

  negotiate(features: bigint): void {
    this.write(VIRTIO_MMIO.STATUS, 0);
    this.write(VIRTIO_MMIO.STATUS, Status.ACKNOWLEDGE);
    this.write(VIRTIO_MMIO.STATUS, Status.ACKNOWLEDGE | Status.DRIVER);
    for (const half of [0, 1]) {
      this.write(VIRTIO_MMIO.DRIVER_FEATURES_SEL, half);
      const bits = Number(features >> BigInt(32 * half) & 0xffff_ffffn);
      this.write(VIRTIO_MMIO.DRIVER_FEATURES, bits);
    }
    this.write(
      VIRTIO_MMIO.STATUS,
      Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK,
    );
  }

  /** Places a queue with the largest size, or a smaller one. */
  setUpQueue(index: number, limit = 64): DriverQueue {
    this.write(VIRTIO_MMIO.QUEUE_SEL, index);
    const size = Math.min(limit, this.read(VIRTIO_MMIO.QUEUE_NUM_MAX));
    const queue = new DriverQueue(this.bench.memory, size, this.free);
    this.free = queue.end;
    const { bytes, start } = this.bench.memory;
    bytes.fill(0, queue.descriptors - start, queue.end - start);
    this.write(VIRTIO_MMIO.QUEUE_NUM, size);
    this.write(VIRTIO_MMIO.QUEUE_DESC_LOW, queue.descriptors);
    this.write(VIRTIO_MMIO.QUEUE_AVAIL_LOW, queue.available);
    this.write(VIRTIO_MMIO.QUEUE_USED_LOW, queue.used);
    this.write(VIRTIO_MMIO.QUEUE_READY, 1);
    this.queues[index] = queue;
    return queue;
  }

  /** Does everything up to DRIVER_OK. */
  start(features: bigint = this.offered, queueSize = 64): this {
    this.free = this.bench.memory.start;
    this.negotiate(features);
    const count = this.bench.transport.state.get(Word.queueCount);
    for (let index = 0; index < count; index++) this.setUpQueue(index, queueSize);
    this.write(
      VIRTIO_MMIO.STATUS,
      Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK,
    );
    return this;
  }

  kick(queue: number): void {
    this.write(VIRTIO_MMIO.QUEUE_NOTIFY, queue);
    this.bench.turn();
  }

  /** Acknowledges interrupts and tells which there were; each has come with an edge. */
  acknowledge(): { vring: boolean; config: boolean } {
    const { interrupts } = this.bench;
    const edges = interrupts - this.#edges;
    this.#edges = interrupts;
    const status = this.read(VIRTIO_MMIO.INTERRUPT_STATUS);
    this.write(VIRTIO_MMIO.INTERRUPT_ACK, status);
    assert.equal(edges > 0, status !== 0, `${edges} edges for the interrupt status ${status}`);
    return {
      vring: (status & Interrupt.VRING) !== 0,
      config: (status & Interrupt.CONFIG) !== 0,
    };
  }

  /** Room for a buffer in memory that no queue uses. */
  allocate(length: number): number {
    const address = this.free;
    this.free += Math.ceil(length / 16) * 16;
    assert(this.bench.memory.offsetOf(address, length) >= 0, "the test's memory is full");
    return address;
  }

  /** Puts bytes into a new buffer. */
  place(bytes: Uint8Array): Segment {
    const address = this.allocate(bytes.length);
    this.bench.memory.bytes.set(bytes, address - this.bench.memory.start);
    return { address, length: bytes.length };
  }

  /** A new buffer that the device may write to. */
  room(length: number): Segment {
    return { address: this.allocate(length), length, write: true };
  }

  /** The bytes of a buffer. */
  bytesOf({ address, length }: Segment): Uint8Array {
    const offset = address - this.bench.memory.start;
    return this.bench.memory.bytes.slice(offset, offset + length);
  }
}
