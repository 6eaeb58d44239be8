/**
 * A hostile guest: seeded random use of the registers, rings and packets of every device, with the
 * devices' own code and real sockets and files behind it. Nothing may fail, hang, or touch a byte
 * outside of guest memory.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Device, DeviceHost } from "../virtio/device.ts";
import { VIRTIO_MMIO } from "../virtio/mmio.ts";
import { Bench, Driver, type DriverQueue, FakeMemory } from "../virtio/testing.ts";
import { type Link, sendFrame } from "../net/link.ts";
import { BalloonDevice } from "./balloon/device.ts";
import { BlkDevice } from "./blk/device.ts";
import { ConsoleDevice } from "./console/device.ts";
import { NetDevice } from "./net/device.ts";
import { PmemDevice } from "./pmem/device.ts";
import { RngDevice } from "./rng/device.ts";
import { VsockDevice } from "./vsock/device.ts";
import { connectUnix } from "./vsock/unix_socket.ts";
import { libc } from "../../ffi/libc.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { fuzz, type Random } from "../../test/fuzz/harness.ts";

const START = 0x20_0000;
const CID = 9;

const REGISTERS = Object.values(VIRTIO_MMIO);
const ODD = [0, 1, 2, 3, 7, 8, 15, 16, 64, 127, 128, 255, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** One guest that uses a device at random. */
class HostileGuest {
  inputs = 0;
  readonly #driver: Driver;

  constructor(
    readonly random: Random,
    readonly bench: Bench,
    /** Fills a buffer with something that the device might take for a request. */
    readonly request: (queue: number) => Uint8Array,
  ) {
    this.#driver = new Driver(bench);
  }

  run(steps: number): void {
    const { random } = this;
    this.#driver.start(undefined, random.pick([1, 2, 8, 64, 128]));
    for (let step = 0; step < steps; step++) {
      this.inputs++;
      switch (random.below(12)) {
        case 0:
          this.#register();
          break;
        case 1:
          if (random.chance(4)) this.#driver.start(undefined, random.pick([1, 4, 64]));
          break;
        case 2:
          this.#ring();
          break;
        default:
          this.#chain();
      }
    }
    this.bench.turn();
  }

  #value(): number {
    const { random } = this;
    switch (random.below(4)) {
      case 0:
        return random.pick(ODD);
      case 1:
        return START + random.below(this.bench.memory.size + 64);
      case 2:
        return random.below(130);
      default:
        return random.u32();
    }
  }

  #register(): void {
    const { random } = this;
    const offset = random.chance(8) ? random.below(0x1000) : random.pick(REGISTERS);
    const width = random.chance(8) ? random.pick([1, 2, 8]) : 4;
    if (random.chance(2)) this.bench.transport.read(offset, width);
    else this.bench.transport.write(offset, width, this.#value());
    // Behind the registers' back, as another vCPU could: after activation nothing may depend on it.
    if (random.chance(6)) {
      const words = this.bench.slot.state.words;
      words[32 + random.below(128)] = this.#value() | 0;
    }
  }

  #queue(): [number, DriverQueue] | undefined {
    const index = this.random.below(this.#driver.queues.length);
    const queue = this.#driver.queues[index];
    return queue === undefined ? undefined : [index, queue];
  }

  #kick(index: number): void {
    this.bench.slot.handleQueue(index);
    if (this.random.chance(16)) this.bench.turn();
    if (this.bench.transport.read(VIRTIO_MMIO.STATUS, 4) !== 15) {
      this.#driver.start(undefined, this.random.pick([1, 4, 64]));
    }
  }

  /** Bytes of the ring itself, or its indices. */
  #ring(): void {
    const { random } = this;
    const found = this.#queue();
    if (found === undefined) return;
    const [index, queue] = found;
    if (random.chance(3)) queue.setAvailableIndex(random.u32());
    else if (random.chance(2)) queue.setUsedEvent(random.u32());
    else {
      const span = queue.end - queue.descriptors;
      const at = queue.descriptors - START + random.below(span);
      this.bench.memory.bytes[at] = random.u32();
    }
    this.#kick(index);
  }

  #address(): bigint {
    const { random } = this;
    const end = START + this.bench.memory.size;
    switch (random.below(24)) {
      case 0:
        return BigInt(random.u32()) << 32n | BigInt(random.u32());
      case 1:
        return BigInt(end - random.below(64));
      case 2:
        return BigInt(START - random.below(64));
      case 3: // the rings themselves
        return BigInt(START + random.below(0x2000));
      default:
        return BigInt(START + 0x4000 + random.below(this.bench.memory.size - 0x20000));
    }
  }

  #chain(): void {
    const { random } = this;
    const found = this.#queue();
    if (found === undefined) return;
    const [index, queue] = found;
    const count = 1 + random.below(random.chance(8) ? 12 : 3);
    const first = random.below(queue.size);
    const request = this.request(index);
    let filled = 0;
    // as a driver does it, every other time: the request in one piece, then room for the answer
    const fitting = random.chance(2);
    const writableFrom = fitting ? 1 : random.below(count + 1);
    for (let i = 0; i < count; i++) {
      const at = (first + i) % queue.size;
      const last = i === count - 1;
      const next = random.chance(40) ? random.u32() & 0xffff : (first + i + 1) % queue.size;
      let flags = (last ? 0 : 1) | (i >= writableFrom ? 2 : 0);
      if (random.chance(40)) flags = random.u32() & 0xffff;
      const address = this.#address();
      const length = fitting && i < writableFrom
        ? request.length
        : fitting && random.chance(2)
        ? random.pick([1, 512, 513, 4096])
        : random.chance(10)
        ? this.#value()
        : random.below(5000);
      queue.descriptor(at, address, length, flags, next);
      const offset = Number(address) - START;
      if (i < writableFrom && offset >= 0 && offset < this.bench.memory.size) {
        const room = Math.min(length, this.bench.memory.size - offset);
        const part = request.subarray(filled, filled + room);
        this.bench.memory.bytes.set(part, offset);
        filled += part.length;
      }
    }
    queue.offer(random.chance(50) ? random.u32() & 0xffff : first);
    this.#kick(index);
    queue.collect();
  }
}

function header(random: Random, entries: readonly [bytes: 2 | 4 | 8, value: number][]): Uint8Array {
  const bytes = new Uint8Array(entries.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, usual] of entries) {
    const value = random.chance(24) ? random.u32() : usual;
    if (size === 2) view.setUint16(at, value, true);
    else if (size === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(Math.max(0, value)), true);
    at += size;
  }
  return bytes;
}

interface Target {
  readonly make: (host: DeviceHost) => Device<unknown>;
  readonly request: (random: Random, bench: Bench, queue: number) => Uint8Array;
  /** Something that the host does meanwhile. */
  readonly host?: (random: Random, bench: Bench) => void;
}

/** Runs guests against a device; an input is a guest with all that it does. */
function fuzzDevice(name: string, target: (stack: DisposableStack) => Target): void {
  fuzz(`device-${name}`, () => (random) => {
    using stack = new DisposableStack();
    const { make, request, host } = target(stack);
    const memory = new FakeMemory(1 << 20, START);
    using bench = new Bench(memory, make);
    const guest = new HostileGuest(random, bench, (queue) => request(random, bench, queue));
    for (let turn = 0; turn < 20; turn++) {
      guest.run(20);
      host?.(random, bench);
    }
    memory.checkGuards();
    // "failed": an exception came out of the device.
    assert.deepEqual(bench.warnings.filter((text) => text.includes("failed")), []);
    return guest.inputs;
  });
}

fuzzDevice("rng", () => ({
  make: (host) => new RngDevice(host),
  request: () => new Uint8Array(0),
}));

fuzzDevice("pmem", () => ({
  make: (host) => new PmemDevice(host, { start: 2 ** 38, size: 2 ** 21 }),
  request: (random) => header(random, [[4, 0]]),
}));

fuzzDevice("console", () => ({
  make: (host) => new ConsoleDevice(host),
  request: (random) => random.bytes(random.below(200)),
  host: (random, bench) => {
    const device = bench.slot.device as ConsoleDevice;
    for (const event of bench.events.splice(0)) {
      const { length } = event as Uint8Array;
      device.request({ kind: "taken", length });
    }
    device.request({ kind: "input", bytes: random.bytes(random.below(300)) });
    if (random.chance(4)) {
      device.request({
        kind: "resize",
        size: { columns: random.below(65536), rows: random.below(65536) },
      });
    }
  },
}));

fuzzDevice("balloon", () => ({
  make: (host) => new BalloonDevice(host),
  request: (random) =>
    new Uint8Array(
      Uint32Array.from(
        { length: random.below(64) },
        () => random.chance(4) ? random.u32() : (START >> 12) + random.below(300),
      ).buffer,
    ),
  host: (random, bench) => {
    for (const [offset, length] of bench.discarded.splice(0)) {
      assert(offset >= 0 && length > 0 && offset + length <= bench.memory.size);
    }
    (bench.slot.device as BalloonDevice).request({ pages: random.u32() });
  },
}));

fuzzDevice("net", () => {
  let link: Link | undefined;
  let received = 0;
  return {
    make: (host) =>
      new NetDevice<null>(host, { mac: new Uint8Array(6), mtu: 1500, up: true }, (given) => {
        link = given;
        return {
          configure() {},
          receive(frame) {
            assert(frame.length >= 14 && frame.length <= 65_549);
            received += frame.bytes().length;
          },
          flush() {},
          ready() {},
          reset() {},
          counters: () => ({ received }),
          save: () => null,
          restore() {},
          [Symbol.dispose]() {},
        };
      }),
    request: (random) => random.bytes(random.pick([0, 12, 26, 80, 600, 4000])),
    host: (random, bench) => {
      const frame = random.bytes(14 + random.below(random.chance(4) ? 60_000 : 1500));
      if (link !== undefined && random.chance(3)) {
        const wanted = random.below(65_549);
        const room = link.reserve(wanted, random.below(wanted + 1));
        if (room !== undefined) link.commit(random.below(room.length + 1));
      } else if (link !== undefined && frame.length <= link.largest) {
        const offload = { checksumStart: 14, checksumOffset: 0, segment: 100, headers: 54 };
        sendFrame(link, frame, random.chance(2) ? offload : undefined);
      }
      const device = bench.slot.device as NetDevice<null>;
      if (random.chance(8)) device.request({ up: random.chance(2) });
    },
  };
});

fuzzDevice("blk", (stack) => {
  const path = Deno.makeTempFileSync();
  stack.defer(() => {
    assert.equal(Deno.statSync(path).size, 1 << 20, "the disk changed its size");
    Deno.removeSync(path);
  });
  Deno.truncateSync(path, 1 << 20);
  return {
    make: (host) => new BlkDevice(host, { path }),
    request: (random) => {
      const type = random.pick([0, 1, 4, 8, 11, 13]);
      const sector = random.below(2100);
      const fields = header(random, [[4, type], [4, 0], [8, sector]]);
      const rest = type > 8
        ? header(random, [[8, random.below(2100)], [4, random.below(64)], [4, 0]])
        : random.bytes(random.pick([0, 512, 1024, 77]));
      const bytes = new Uint8Array(fields.length + rest.length);
      bytes.set(fields);
      bytes.set(rest, fields.length);
      return bytes;
    },
  };
});

fuzzDevice("vsock", (stack) => {
  const directory = Deno.makeTempDirSync();
  stack.defer(() => Deno.removeSync(directory, { recursive: true }));
  const path = join(directory, "v");
  const clients: OwnedFd[] = [];
  stack.defer(() => clients.forEach((client) => client[Symbol.dispose]()));
  const listener = Deno.listen({ transport: "unix", path: `${path}_1` });
  stack.defer(() => listener.close());
  const scratch = new Uint8Array(65536);
  return {
    make: (host) => new VsockDevice(host, { cid: CID, path }),
    request: (random, _bench, queue) => {
      if (queue !== 1) return new Uint8Array(0);
      const length = random.below(600);
      const fields = header(random, [
        [8, CID],
        [8, 2],
        [4, random.pick([1, 2, 3, 1024])], // source port
        [4, random.chance(3) ? 0x4000_0001 + random.below(30) : random.pick([1, 1, 9])],
        [4, length],
        [2, 1],
        [2, random.pick([1, 2, 2, 3, 4, 5, 5, 5, 6, 7, 8])],
        [4, random.below(4)],
        [4, random.pick([0, 100, 65536, 0xffff_ffff])],
        [4, random.pick([0, 1, 500, 0xffff_ffff])],
      ]);
      const bytes = new Uint8Array(fields.length + length);
      bytes.set(fields);
      return bytes;
    },
    host: (random) => {
      if (clients.length < 40 && random.chance(2)) {
        const client = connectUnix(path);
        if (client !== undefined) clients.push(client);
      }
      for (const client of clients) {
        if (client.closed) continue;
        const text = random.pick(["CONNECT 1024\n", "CONN", "ECT 2\n", "data ".repeat(50), "\0\n"]);
        const bytes = new TextEncoder().encode(text);
        if (random.chance(2)) libc().write(client.fd, bytes, BigInt(bytes.length));
        if (random.chance(2)) libc().read(client.fd, scratch, 65536n);
        if (random.chance(10)) libc().shutdown(client.fd, random.below(3));
        if (random.chance(20)) client[Symbol.dispose]();
      }
      for (let i = clients.length - 1; i >= 0; i--) if (clients[i]!.closed) clients.splice(i, 1);
    },
  };
});
