import assert from "node:assert/strict";
import { join } from "node:path";
import { receiveMessageOnPort } from "node:worker_threads";
import { eventFd, signalEvent } from "../../ffi/eventfd.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import type { ConsoleRequest } from "../devices/console/device.ts";
import { HEADER_BYTES, Op, PacketHeader } from "../devices/vsock/packet.ts";
import { connectUnix } from "../devices/vsock/unix_socket.ts";
import { MmioTransport, VIRTIO_MMIO } from "../virtio/mmio.ts";
import { TransportState } from "../virtio/state.ts";
import { Driver, FakeMemory, type GuestSide, type Segment } from "../virtio/testing.ts";
import { DeviceSet } from "./device_set.ts";
import { LoopShare } from "./loop_share.ts";
import type { DeviceEvent, DeviceRequest, DeviceSpec, MadeDevice } from "./messages.ts";
import { Poller } from "./poller.ts";

const START = 0x10_0000;
const CID = 7;
const utf8 = new TextEncoder();

/** The devices of a VM, their real eventfds, and the main thread's end of their port. */
class Machine implements Disposable {
  readonly memory = new FakeMemory(1 << 20, START);
  readonly set: DeviceSet;
  readonly made: readonly MadeDevice[];
  readonly #wake = eventFd();
  readonly #port: MessagePort;

  constructor(readonly poller: Poller, devices: readonly DeviceSpec[]) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const slot = { start: START, size: 1 << 20, address: this.memory.base, readOnly: false };
    this.set = new DeviceSet({
      memory: { slots: [slot] },
      devices,
      port: port2,
      wake: this.#wake.fd,
    }, poller);
    const [ready] = this.events();
    assert(ready?.kind === "ready");
    this.made = ready.devices;
  }

  /** What the guest sees of a device. */
  guest(device: number): GuestSide {
    const { registers, kicks, interrupt } = this.made[device]!;
    const { memory } = this;
    const transport = new MmioTransport(new TransportState(registers), memory, {
      command: () => signalEvent(this.#wake.fd),
      notify: (queue) => signalEvent(kicks[queue]!),
    });
    let interrupts = 0;
    return {
      memory,
      transport,
      turn: () => this.turn(),
      get interrupts() { // eventfd(2): what is read is how often it was signalled
        const count = new BigUint64Array(1);
        libc().read(interrupt, new Uint8Array(count.buffer), 8n);
        return interrupts += Number(count[0]);
      },
    };
  }

  turn(): void {
    for (let round = 0; round < 20; round++) this.poller.runOnce(0);
  }

  /** Sends a request, which is the next thing that the loop sees. */
  ask(request: DeviceRequest): void {
    this.#port.postMessage(request);
    signalEvent(this.#wake.fd);
  }

  /** Sends a request and lets the devices handle it. */
  send(request: DeviceRequest): void {
    this.ask(request);
    this.turn();
  }

  /** What the devices said since the last call. */
  events(): DeviceEvent[] {
    const events: DeviceEvent[] = [];
    for (;;) {
      const received = receiveMessageOnPort(this.#port as never);
      if (received === undefined) return events;
      events.push(received.message as DeviceEvent);
    }
  }

  [Symbol.dispose](): void {
    this.set[Symbol.dispose]();
    this.#port.close();
    this.#wake[Symbol.dispose]();
  }
}

/** A guest's end of a vsock device that has a connection of a client of the host. */
class Connected implements Disposable {
  readonly client: OwnedFd;
  readonly driver: Driver;
  readonly header = new PacketHeader();
  readonly #rooms = new Map<number, Segment>();
  readonly #tx: Segment;

  constructor(machine: Machine, device: number, path: string) {
    this.driver = new Driver(machine.guest(device)).start();
    this.#tx = this.driver.room(HEADER_BYTES);
    for (let i = 0; i < 16; i++) this.#post(this.driver.room(HEADER_BYTES + 256));
    for (const queue of [0, 1, 2]) this.driver.kick(queue);
    this.client = connectUnix(path)!;
    this.write("CONNECT 1024\n");
    machine.turn();
    assert.equal(this.packets().length, 1);
    const { sourcePort } = this.header;
    this.header.set(2, 1024, sourcePort, 1, Op.RESPONSE, 0, 0, 1 << 20, 0);
    const view = new DataView(this.header.bytes.buffer);
    view.setBigUint64(0, BigInt(CID), true);
    view.setBigUint64(8, 2n, true);
    machine.memory.bytes.set(this.header.bytes, this.#tx.address - START);
    this.respond();
    this.driver.kick(1);
    assert(libc().read(this.client.fd, new Uint8Array(64), 64n) > 0); // the line with OK
  }

  #post(room: Segment): void {
    this.#rooms.set(this.driver.queues[0]!.add([room]), room);
  }

  /** Offers the RESPONSE, once more after the first time. */
  respond(): void {
    this.driver.queues[1]!.add([{ address: this.#tx.address, length: HEADER_BYTES }]);
  }

  write(text: string): void {
    const bytes = utf8.encode(text);
    assert.equal(Number(libc().write(this.client.fd, bytes, BigInt(bytes.length))), bytes.length);
  }

  /** Payloads that came; their buffers are offered again. */
  packets(): string[] {
    return this.driver.queues[0]!.collect().map(({ head, length }) => {
      const room = this.#rooms.get(head)!;
      const bytes = this.driver.bytesOf(room).slice(0, length);
      this.header.bytes.set(bytes.subarray(0, HEADER_BYTES));
      this.#post(room);
      return new TextDecoder().decode(bytes.subarray(HEADER_BYTES));
    });
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
  }
}

function test(name: string, body: (poller: Poller, path: string) => void): void {
  Deno.test(`device set: ${name}`, () => {
    const directory = Deno.makeTempDirSync();
    try {
      using poller = new Poller((message) => assert.fail(message));
      body(poller, join(directory, "vsock"));
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  });
}

const vsock = (path: string): DeviceSpec => ({ kind: "vsock", spec: { cid: CID, path } });

test("what the host sends after a save waits until the VM goes on", (poller, path) => {
  using machine = new Machine(poller, [vsock(path)]);
  using guest = new Connected(machine, 0, path);
  guest.write("before ");
  machine.turn();
  guest.packets();
  guest.driver.kick(0);

  machine.send({ kind: "save", id: 1 });
  const saved = machine.memory.bytes.slice();
  guest.write("after");
  using late = connectUnix(path)!;
  libc().write(late.fd, utf8.encode("CONNECT 9\n"), 10n);
  machine.turn();
  assert.deepEqual(machine.memory.bytes, saved, "memory changed behind the snapshot");

  machine.send({ kind: "thaw" });
  assert.deepEqual(guest.packets().sort(), ["", "after"]);
});

test("requests wait while the set is frozen, or are answered", (poller, path) => {
  using machine = new Machine(poller, [
    vsock(path),
    { kind: "console", spec: { columns: 80, rows: 24 } },
    { kind: "balloon", spec: null },
  ]);
  using guest = new Connected(machine, 0, path);
  const console = new Driver(machine.guest(1), guest.driver.free).start();
  console.queues[0]!.add([console.room(16)]);
  console.kick(0);
  const ask = (request: ConsoleRequest) => machine.send({ kind: "request", device: 1, request });
  machine.events();

  machine.send({ kind: "save", id: 1 });
  const saved = machine.memory.bytes.slice();
  const registers = new Uint8Array(machine.made[1]!.registers).slice();
  ask({ kind: "input", bytes: utf8.encode("ab") });
  ask({ kind: "resize", size: { columns: 100, rows: 40 } });
  ask({ kind: "input", bytes: utf8.encode("c") });
  machine.send({ kind: "statistics", id: 2 });
  machine.send({ kind: "save", id: 3 });
  const [first, counted, second] = machine.events();
  assert.deepEqual([first?.kind, counted?.kind, second?.kind], ["saved", "statistics", "saved"]);
  assert.deepEqual({ ...second, id: 1 }, first, "nothing changed between two saves");
  assert.deepEqual(machine.memory.bytes, saved);
  assert.deepEqual(new Uint8Array(machine.made[1]!.registers), registers);

  machine.send({ kind: "thaw" });
  assert.deepEqual(console.queues[0]!.collect().map(({ length }) => length), [2]);
  assert.equal(console.acknowledge().config, true);
  console.queues[0]!.add([console.room(16)]);
  console.kick(0);
  assert.deepEqual(console.queues[0]!.collect().map(({ length }) => length), [1]);

  machine.send({ kind: "save", id: 4 });
  machine.send({ kind: "stop" });
  assert.deepEqual(machine.events().map(({ kind }) => kind), ["saved", "stopped"]);
});

test("what the guest gave before a save is taken once, when the VM goes on", (poller, path) => {
  using machine = new Machine(poller, [vsock(path)]);
  using guest = new Connected(machine, 0, path);
  const { driver } = guest;
  driver.queues[1]!.collect();
  // Notified, but the thread has not come to it when it is asked to save.
  guest.respond();
  driver.write(VIRTIO_MMIO.QUEUE_NOTIFY, 1);
  machine.ask({ kind: "save", id: 1 });
  machine.events();
  poller.runOnce(0);
  assert.deepEqual(machine.events().map(({ kind }) => kind), ["saved"]);
  const saved = machine.memory.bytes.slice();
  const before = driver.queues[1]!.collect().length;
  machine.turn();
  assert.deepEqual(machine.memory.bytes, saved);

  machine.send({ kind: "thaw" });
  assert.equal(before + driver.queues[1]!.collect().length, 1);
});

test("a client that leaves while the set is frozen is seen afterwards", (poller, path) => {
  using machine = new Machine(poller, [vsock(path)]);
  using guest = new Connected(machine, 0, path);
  machine.send({ kind: "save", id: 1 });
  const saved = machine.memory.bytes.slice();
  guest.write("last");
  guest.client[Symbol.dispose]();
  machine.turn();
  assert.deepEqual(machine.memory.bytes, saved);

  machine.send({ kind: "thaw" });
  assert.deepEqual(guest.packets(), ["last", ""]);
  assert.equal(guest.header.op, Op.SHUTDOWN);
});

test("a VM that is frozen does not hold up another one", (poller, path) => {
  using frozen = new Machine(poller, [vsock(path)]);
  using other = new Machine(poller, [{ kind: "rng", spec: null }]);
  using guest = new Connected(frozen, 0, path);
  frozen.send({ kind: "save", id: 1 });
  const saved = frozen.memory.bytes.slice();
  guest.write("waits");
  const driver = new Driver(other.guest(0)).start();
  driver.queues[0]!.add([driver.room(64)]);
  driver.kick(0);
  assert.deepEqual(driver.queues[0]!.collect().map(({ length }) => length), [64]);
  assert.deepEqual(frozen.memory.bytes, saved);
});

test("a timer that comes due while the set is frozen runs afterwards", (poller) => {
  const ran: string[] = [];
  using share = new LoopShare(poller, (error) => assert.fail(`${error}`));
  share.after(0, () => ran.push("timer"));
  share.defer(() => ran.push("task"));
  share.freeze();
  for (let i = 0; i < 5; i++) poller.runOnce(1);
  assert.deepEqual(ran, []);
  share.thaw();
  poller.runOnce(0);
  assert.deepEqual(ran.sort(), ["task", "timer"]);
});
