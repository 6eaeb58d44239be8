/**
 * For tests: the guest's end of a vsock device.
 *
 * @module
 */
import { join } from "node:path";
import { Bench, Driver, FakeMemory, type Segment } from "../../virtio/testing.ts";
import { VsockDevice } from "./device.ts";
import { HEADER_BYTES, VSOCK_CID_HOST } from "./packet.ts";

/** How long a test waits for what other threads do, in milliseconds; the machine may be loaded. */
const DEADLINE = 60_000;

/** The guest's CID in tests. */
export const CID = 42;

/** A packet as the guest sees it. */
export interface Packet {
  readonly sourceCid: number;
  readonly destinationCid: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly type: number;
  readonly op: number;
  readonly flags: number;
  readonly bufAlloc: number;
  readonly fwdCnt: number;
  readonly payload: Uint8Array;
}

/** A vsock device with a driver, in a directory of its own. */
export class VsockBench implements Disposable {
  readonly directory: string = Deno.makeTempDirSync();
  readonly path: string = join(this.directory, "vsock");
  readonly bench: Bench;
  readonly driver: Driver;
  readonly #rx = new Map<number, Segment>();
  readonly #queued: Packet[] = [];
  #tx: Segment;

  constructor(readonly bufferBytes = 4096, start = true) {
    this.bench = new Bench(
      new FakeMemory(4 << 20),
      (host) => new VsockDevice(host, { cid: CID, path: this.path }),
    );
    this.driver = new Driver(this.bench);
    this.#tx = { address: 0, length: 0 };
    if (start) this.start();
  }

  get device(): VsockDevice {
    return this.bench.slot.device as VsockDevice;
  }

  /** Brings the driver up with all rx buffers posted. */
  start(buffers = 32): void {
    this.driver.start(undefined, 64);
    this.#rx.clear();
    this.#tx = this.driver.room(HEADER_BYTES + 65536);
    for (let i = 0; i < buffers; i++) this.#post(this.driver.room(this.bufferBytes));
    for (let i = 0; i < 8; i++) this.driver.queues[2]!.add([this.driver.room(4)]);
    for (const queue of [0, 1, 2]) this.driver.kick(queue);
  }

  #post(room: Segment): void {
    this.#rx.set(this.driver.queues[0]!.add([room]), room);
  }

  /** Sends a packet; members that are not given are those of a sane one. */
  send(
    packet: Partial<Packet> & { op: number; sourcePort: number; destinationPort: number },
  ): void {
    const payload = packet.payload ?? new Uint8Array(0);
    const bytes = new Uint8Array(HEADER_BYTES + payload.length);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(packet.sourceCid ?? CID), true);
    view.setBigUint64(8, BigInt(packet.destinationCid ?? VSOCK_CID_HOST), true);
    view.setUint32(16, packet.sourcePort, true);
    view.setUint32(20, packet.destinationPort, true);
    view.setUint32(24, payload.length, true);
    view.setUint16(28, packet.type ?? 1, true);
    view.setUint16(30, packet.op, true);
    view.setUint32(32, packet.flags ?? 0, true);
    view.setUint32(36, packet.bufAlloc ?? 65536, true);
    view.setUint32(40, packet.fwdCnt ?? 0, true);
    bytes.set(payload, HEADER_BYTES);
    this.bench.memory.bytes.set(bytes, this.#tx.address);
    this.driver.queues[1]!.add([{ address: this.#tx.address, length: bytes.length }]);
    this.driver.kick(1);
    this.driver.queues[1]!.collect();
  }

  /** Packets that arrived since the last call; their buffers are posted again if `repost`. */
  receive(repost = true): Packet[] {
    this.bench.turn();
    const packets = this.#queued.splice(0);
    for (let used = this.driver.queues[0]!.collect(); used.length > 0;) {
      for (const { head, length } of used) {
        const room = this.#rx.get(head)!;
        this.#rx.delete(head);
        const bytes = this.driver.bytesOf(room).slice(0, length);
        const view = new DataView(bytes.buffer);
        packets.push({
          sourceCid: Number(view.getBigUint64(0, true)),
          destinationCid: Number(view.getBigUint64(8, true)),
          sourcePort: view.getUint32(16, true),
          destinationPort: view.getUint32(20, true),
          type: view.getUint16(28, true),
          op: view.getUint16(30, true),
          flags: view.getUint32(32, true),
          bufAlloc: view.getUint32(36, true),
          fwdCnt: view.getUint32(40, true),
          payload: bytes.subarray(HEADER_BYTES, HEADER_BYTES + view.getUint32(24, true)),
        });
        if (repost) this.#post(room);
      }
      if (repost) this.driver.kick(0);
      used = this.driver.queues[0]!.collect();
    }
    return packets;
  }

  /** Posts a new receive buffer. */
  postBuffer(length: number = this.bufferBytes): void {
    this.#post(this.driver.room(length));
    this.driver.kick(0);
  }

  /** Waits for a packet; other threads (the test's sockets) go on meanwhile. */
  async next(): Promise<Packet> {
    const deadline = performance.now() + DEADLINE;
    while (performance.now() < deadline) {
      const [packet, ...rest] = this.receive();
      if (packet !== undefined) {
        this.#queued.unshift(...rest);
        return packet;
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error("the guest got no packet");
  }

  /** Lets the host's side and the device work until `promise` is settled. */
  async until<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    promise.then(() => settled = true, () => settled = true);
    const deadline = performance.now() + DEADLINE;
    while (!settled && performance.now() < deadline) {
      this.bench.turn();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    if (!settled) throw new Error("the host's end did not come to an end");
    return await promise;
  }

  [Symbol.dispose](): void {
    this.bench.memory.checkGuards();
    this.bench[Symbol.dispose]();
    Deno.removeSync(this.directory, { recursive: true });
  }
}
