/**
 * Socket device: virtio 1.2, section 5.10. This is the guest's side, its queues and packets; the
 * host's sockets are in muxer.ts, what both sides know of a connection is in stream.ts.
 *
 * Data goes straight between the sockets and guest memory. What does not fit waits: in the socket
 * towards the guest, in a bounded buffer from it, as the credit of section 5.10.6.3 says.
 *
 * @module
 */
import { EAGAIN, EINTR } from "../../../ffi/errno.ts";
import { errno, libc } from "../../../ffi/libc.ts";
import type { Activation, Device, DeviceHost, DeviceState } from "../../virtio/device.ts";
import { Feature } from "../../virtio/mmio.ts";
import { savedNumber } from "../../virtio/saved.ts";
import type { VirtQueue } from "../../virtio/queue.ts";
import { IoVector } from "../../virtio/iovec.ts";
import { HostMuxer } from "./muxer.ts";
import { HEADER_BYTES, Op, PacketHeader, Shutdown, TYPE_STREAM, VSOCK_CID_HOST } from "./packet.ts";
import { BUFFER_BYTES, Owed, type VsockStream } from "./stream.ts";

const VIRTIO_ID_VSOCK = 19;
const RX = 0; // 5.10.2: rx, tx, event
const TX = 1;
const EVENT = 2;
const RX_SIZE = 32; // each holds a packet of 64 KiB in our guest kernel, 4 KiB in Debian's
const TX_SIZE = 128;

/** 5.10.6.7: VIRTIO_VSOCK_EVENT_TRANSPORT_RESET. */
const TRANSPORT_RESET = Uint8Array.of(0, 0, 0, 0);

/** The largest payload that is sent or taken: Linux, VIRTIO_VSOCK_MAX_PKT_BUF_SIZE. */
const MAX_PAYLOAD = 64 * 1024;
/** The most refusals that wait for the guest to take them; more are dropped. */
const MAX_REFUSALS = 256;
interface Refusal {
  readonly hostPort: number;
  readonly guestPort: number;
  readonly type: number;
}

/** What the device is made from. */
export interface VsockOptions {
  /** The guest's context id, 3 to 2^32 - 2. */
  readonly cid: number;
  /** Name of the Unix socket; must not exist. */
  readonly path: string;
}

/** The socket device. */
export class VsockDevice implements Device {
  readonly name = "vsock";
  readonly deviceId = VIRTIO_ID_VSOCK;
  readonly features: bigint = 1n << Feature.VERSION_1 | 1n << Feature.EVENT_IDX;
  readonly queueSizes: readonly number[] = [RX_SIZE, TX_SIZE, 16];
  readonly config: Uint8Array = new Uint8Array(8); // 5.10.4: le64 guest_cid
  readonly #host: DeviceHost;
  readonly #options: VsockOptions;
  /** The host's ends. */
  readonly #muxer: HostMuxer;
  readonly #header = new PacketHeader();
  readonly #answer = new PacketHeader();
  readonly #vector: IoVector;
  #refusals: Refusal[] = [];
  #queues: Activation["queues"] = [];
  #previousCid: number;
  /** A restored guest has to be told that its connections are gone before anything else. */
  #resetting: "no" | "owed" | "told" = "no";
  #toldAt = 0;
  #unsignalled = 0;
  /** Packets of the guest that made no sense. */
  #badPackets = 0;

  /**
   * @param host what the device works with
   * @param options context id and socket
   * @throws {SyscallError} when the socket cannot be made
   */
  constructor(host: DeviceHost, options: VsockOptions) {
    this.#host = host;
    this.#options = options;
    this.#previousCid = options.cid;
    this.#vector = new IoVector(host.memory);
    new DataView(this.config.buffer).setBigUint64(0, BigInt(options.cid), true);
    this.#muxer = new HostMuxer(host, options.path, () => this.#deliver());
  }

  counters(): Readonly<Record<string, number>> {
    return { streams: this.#muxer.size, badPackets: this.#badPackets };
  }

  activate(activation: Activation): void {
    this.#queues = activation.queues;
    this.#muxer.open = this.#queues[RX] !== undefined;
  }

  handleQueue(index: number): void {
    switch (index) {
      case RX:
        this.#deliver();
        break;
      case TX:
        this.#take();
        this.#deliver();
        break;
      case EVENT:
        this.#postReset();
        break;
    }
  }

  // -- from the guest ----------------------------------------------------------------------------

  #take(): void {
    const queue = this.#queues[TX];
    if (queue === undefined) return;
    queue.disableNotifications();
    for (let budget = queue.size; budget > 0 && queue.pop(); budget--) {
      const { head } = queue;
      this.#handlePacket(queue);
      queue.push(head, 0);
      this.#unsignalled++;
    }
    // The guest only frees memory when it learns of this: it can wait for another interrupt, as
    // long as half of the queue is free.
    const lazy = this.#unsignalled < queue.size / 2;
    this.#host.publish(TX, lazy);
    if (!lazy) {
      this.#unsignalled = 0;
      this.#host.flush();
    }
    if (queue.enableNotifications()) this.#host.again(TX);
  }

  #handlePacket(queue: VirtQueue): void {
    const header = this.#header;
    const complete = queue.read(header.bytes) === HEADER_BYTES;
    const { length, sourceCid } = header;
    if (
      !complete || length > MAX_PAYLOAD || length > queue.readableBytes - HEADER_BYTES ||
      header.destinationCid !== VSOCK_CID_HOST ||
      (sourceCid !== this.#options.cid && sourceCid !== this.#previousCid)
    ) {
      this.#badPackets++;
      return;
    }
    const { destinationPort: hostPort, sourcePort: guestPort, type, op } = header;
    const stream = this.#muxer.find(hostPort, guestPort);
    if (type !== TYPE_STREAM) return this.#refuse(hostPort, guestPort, type);
    if (stream === undefined) {
      if (op === Op.REQUEST) this.#guestConnects(hostPort, guestPort);
      else if (op !== Op.RST) this.#refuse(hostPort, guestPort, type);
      return;
    }
    stream.credit(header.bufAlloc, header.fwdCnt);
    this.#handleStream(queue, stream, op);
    this.#muxer.wake(stream);
  }

  #handleStream(queue: VirtQueue, stream: VsockStream, op: number): void {
    if (op === Op.RST) return this.#muxer.drop(stream);
    if (stream.phase === "closing") {
      // Only the end of it matters still: 5.10.6.5.
      const both = op === Op.SHUTDOWN && (this.#header.flags & Shutdown.BOTH) === Shutdown.BOTH;
      if (both) this.#muxer.fail(stream);
      return;
    }
    if (stream.phase === "connecting") {
      if (op !== Op.RESPONSE) return this.#muxer.fail(stream);
      stream.phase = "open";
      if (!stream.answer(`OK ${stream.hostPort}\n`)) this.#muxer.fail(stream);
      return;
    }
    switch (op) {
      case Op.RW: {
        const { length } = this.#header;
        if (stream.guestEnded) return this.#muxer.fail(stream);
        this.#vector.readable(queue, HEADER_BYTES, length);
        const copy = (target: Uint8Array, from: number) => {
          queue.read(target, HEADER_BYTES + from);
        };
        if (!stream.receive(this.#vector, copy)) this.#muxer.fail(stream);
        return;
      }
      case Op.CREDIT_UPDATE:
        return;
      case Op.CREDIT_REQUEST:
        return this.#muxer.owe(stream, Owed.CREDIT_UPDATE);
      case Op.SHUTDOWN:
        return this.#guestShutsDown(stream, this.#header.flags);
      default: // a second REQUEST or RESPONSE, or no operation at all
        this.#badPackets++;
        return this.#muxer.fail(stream);
    }
  }

  #guestConnects(hostPort: number, guestPort: number): void {
    const stream = this.#muxer.connect(hostPort, guestPort);
    if (stream === undefined) return this.#refuse(hostPort, guestPort, TYPE_STREAM);
    stream.credit(this.#header.bufAlloc, this.#header.fwdCnt);
    this.#muxer.owe(stream, Owed.RESPONSE);
  }

  #guestShutsDown(stream: VsockStream, flags: number): void {
    if ((flags & Shutdown.RECEIVE) !== 0 && !stream.guestDeaf) stream.deafen();
    if ((flags & Shutdown.SEND) !== 0) stream.guestEnded = true;
    if (!stream.flush()) return this.#muxer.fail(stream);
    if (!stream.guestEnded || !stream.guestDeaf) return;
    // 5.10.6.5: both directions are shut down: answer with a reset. What the guest sent before goes
    // on to the host's end.
    this.#refuse(stream.hostPort, stream.guestPort, TYPE_STREAM);
    this.#muxer.linger(stream);
  }

  #refuse(hostPort: number, guestPort: number, type: number): void {
    if (this.#refusals.length < MAX_REFUSALS) this.#refusals.push({ hostPort, guestPort, type });
  }

  // -- to the guest ------------------------------------------------------------------------------

  #deliver(): void {
    const queue = this.#queues[RX];
    if (queue === undefined || this.#resetting !== "no") return;
    let budget = 2 * queue.size;
    while (budget-- > 0 && (this.#refusals.length > 0 || this.#muxer.hasReady)) {
      if (!queue.pop()) {
        // The guest has no buffer for us: it tells when it has.
        if (queue.enableNotifications()) continue;
        break;
      }
      if (queue.writableBytes <= HEADER_BYTES) {
        queue.push(queue.head, 0);
        queue.badChains++;
        continue;
      }
      if (!this.#fill(queue)) queue.unpop();
    }
    this.#host.publish(RX);
    if (budget < 0) this.#host.again(RX);
  }

  /** Puts one packet into the chain that was taken; false when there was none after all. */
  #fill(queue: VirtQueue): boolean {
    const refusal = this.#refusals.shift();
    if (refusal !== undefined) {
      const { hostPort, guestPort, type } = refusal;
      this.#answer.set(this.#options.cid, hostPort, guestPort, type, Op.RST, 0, 0, 0, 0);
      queue.push(queue.head, queue.write(this.#answer.bytes));
      return true;
    }
    const stream = this.#muxer.takeReady();
    if (stream === undefined) return false;
    const sent = stream.owed !== 0
      ? this.#sendOwed(queue, stream)
      : stream.hasData && this.#sendData(queue, stream);
    this.#muxer.wake(stream); // to the end: each stream has its turn
    return sent;
  }

  #sendOwed(queue: VirtQueue, stream: VsockStream): boolean {
    const { owed } = stream;
    if ((owed & Owed.RST) !== 0) {
      this.#send(queue, stream, Op.RST, 0, 0);
      this.#muxer.drop(stream);
    } else if ((owed & Owed.REQUEST) !== 0) {
      stream.owed &= ~Owed.REQUEST;
      this.#send(queue, stream, Op.REQUEST, 0, 0);
    } else if ((owed & Owed.RESPONSE) !== 0) {
      stream.owed &= ~Owed.RESPONSE;
      this.#send(queue, stream, Op.RESPONSE, 0, 0);
    } else if ((owed & Owed.SHUTDOWN) !== 0) {
      stream.owed &= ~Owed.SHUTDOWN;
      this.#send(queue, stream, Op.SHUTDOWN, stream.shutdownFlags, 0);
    } else {
      this.#send(queue, stream, Op.CREDIT_UPDATE, 0, 0);
    }
    return true;
  }

  #sendData(queue: VirtQueue, stream: VsockStream): boolean {
    const limit = Math.min(stream.room, MAX_PAYLOAD, queue.writableBytes - HEADER_BYTES);
    if (stream.first.length > 0) {
      const part = stream.first.subarray(0, limit);
      stream.first = stream.first.subarray(part.length);
      queue.write(part, HEADER_BYTES);
      this.#send(queue, stream, Op.RW, 0, part.length);
      return true;
    }
    const vector = this.#vector;
    vector.writable(queue, HEADER_BYTES, limit);
    const got = Number(libc().readv(stream.socket.fd, vector.array, vector.count));
    if (got > 0) {
      this.#send(queue, stream, Op.RW, 0, got);
      return true;
    }
    if (got === 0) {
      stream.readable = false;
      stream.ended = true;
      if (stream.hungUp) this.#muxer.hostClosed(stream);
      else {
        stream.shutdownFlags |= Shutdown.SEND;
        this.#muxer.owe(stream, Owed.SHUTDOWN);
      }
      return false;
    }
    const error = errno();
    if (error === EAGAIN) stream.readable = false;
    else if (error !== EINTR) this.#muxer.fail(stream);
    return false;
  }

  #send(queue: VirtQueue, stream: VsockStream, op: number, flags: number, length: number): void {
    const { hostPort, guestPort } = stream;
    const forwarded = stream.advertise();
    const { cid } = this.#options;
    this.#answer.set(
      cid,
      hostPort,
      guestPort,
      TYPE_STREAM,
      op,
      flags,
      length,
      BUFFER_BYTES,
      forwarded,
    );
    queue.write(this.#answer.bytes);
    queue.push(queue.head, HEADER_BYTES + length);
    stream.sent(length);
  }

  // -- life --------------------------------------------------------------------------------------

  /** Tells a restored guest that its connections are gone, and goes on when it has seen that. */
  #postReset(): void {
    const queue = this.#queues[EVENT];
    if (queue === undefined || this.#resetting === "no") return;
    if (this.#resetting === "told") {
      if (queue.availableIndex === this.#toldAt) return;
      // The driver gave the buffer back, so it has read the event.
      this.#resetting = "no";
      this.#deliver();
      return;
    }
    if (!queue.pop()) {
      if (queue.enableNotifications()) this.#host.again(EVENT);
      return;
    }
    queue.push(queue.head, queue.write(TRANSPORT_RESET));
    this.#resetting = "told";
    this.#toldAt = queue.notifyOfNew();
    this.#host.publish(EVENT);
  }

  reset(): void {
    this.#muxer.open = false;
    this.#muxer.dropAll();
    this.#queues = [];
    this.#refusals = [];
    this.#resetting = "no";
    this.#unsignalled = 0;
  }

  save(): DeviceState {
    return { nextPort: this.#muxer.lastPort, cid: this.#options.cid };
  }

  restore(state: DeviceState): void {
    this.#muxer.lastPort = savedNumber(state, "nextPort", 2 ** 32);
    this.#previousCid = savedNumber(state, "cid", 2 ** 32);
    this.#resetting = "owed";
  }

  [Symbol.dispose](): void {
    this.#muxer[Symbol.dispose]();
  }
}
