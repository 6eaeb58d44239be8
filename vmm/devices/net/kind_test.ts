/** The device with the stack and the kernel's sockets behind it, on this host's loopback. */
import assert from "node:assert/strict";
import type { Policy } from "../../net/policy.ts";
import { parseAddress, parseIpv4, Protocol } from "../../net/wire/ipv4.ts";
import { emitEthernet, EtherType } from "../../net/wire/ethernet.ts";
import { emitIpv4 } from "../../net/wire/ipv4.ts";
import { emitTcp, parseTcp, TcpFlag, type TcpHeader } from "../../net/wire/tcp.ts";
import { Bench, Driver, FakeMemory, type Segment } from "../../virtio/testing.ts";
import { netKind } from "./kind.ts";

const [RX, TX] = [0, 1];
const HEADER = 12;
const ENDS = { guest: "10.0.2.15", gateway: "10.0.2.2" };
const GUEST = parseAddress(ENDS.guest)!;
const GATEWAY = parseAddress(ENDS.gateway)!;

/** A guest of one connection, to a port of this host. */
class Guest implements Disposable {
  readonly bench: Bench;
  readonly driver: Driver;
  readonly #rooms = new Map<number, Segment>();
  sequence = 1;
  acknowledgment = 0;

  private constructor(readonly port: number) {
    const memory = new FakeMemory(8 << 20, 0x10_0000);
    this.bench = new Bench(memory, (host) => netKind.make(host, ENDS));
    this.driver = new Driver(this.bench).start();
    for (let i = 0; i < 32; i++) this.#offer(this.driver.room(66_000));
  }

  static async start(port: number, policy: Policy | undefined): Promise<Guest> {
    const guest = new Guest(port);
    guest.bench.slot.device.request!({ up: true, settings: { policy, upstreams: [] } });
    await guest.bench.loaded();
    return guest;
  }

  #offer(room: Segment): void {
    this.#rooms.set(this.driver.queues[RX]!.add([room]), room);
  }

  send(flags: number, payload: Uint8Array = new Uint8Array(0), options: Partial<TcpHeader> = {}) {
    const { sequence, acknowledgment } = this;
    const header = { source: 40_000, destination: this.port, sequence, acknowledgment, flags };
    const tcp = emitTcp({ ...header, window: 512, ...options }, payload.length, {
      source: GUEST,
      destination: GATEWAY,
    });
    const frame = new Uint8Array(HEADER + 34 + tcp.length + payload.length);
    const mac = new Uint8Array(6);
    emitEthernet(frame.subarray(HEADER), { destination: mac, source: mac, type: EtherType.IPV4 });
    emitIpv4(frame.subarray(HEADER + 14), {
      protocol: Protocol.TCP,
      source: GUEST,
      destination: GATEWAY,
      payload: tcp.length + payload.length,
    });
    frame.set(tcp, HEADER + 34);
    frame.set(payload, HEADER + 34 + tcp.length);
    const from = this.driver.free;
    this.driver.queues[TX]!.add([this.driver.place(frame)]);
    this.driver.kick(TX);
    this.driver.free = from; // the frame has been read
    this.sequence += payload.length + ((flags & 3) === 0 ? 0 : 1);
  }

  /** Segments that have come; what is new in them is acknowledged. */
  receive(): (TcpHeader & { readonly payload: Uint8Array })[] {
    this.bench.poller.runOnce(5);
    this.bench.turn();
    return this.driver.queues[RX]!.collect().flatMap(({ head, length }) => {
      const room = this.#rooms.get(head)!;
      const packet = this.driver.bytesOf(room).subarray(HEADER + 14, length);
      this.#offer(room);
      const ip = parseIpv4(packet);
      if (ip?.protocol !== Protocol.TCP) return [];
      const bytes = packet.slice(ip.headerLength, ip.totalLength);
      const header = parseTcp(bytes)!;
      return [{ ...header, payload: bytes.subarray(header.headerLength) }];
    });
  }

  /** Waits for a segment that is as wanted. */
  async until(wanted: (segment: TcpHeader & { readonly payload: Uint8Array }) => boolean) {
    for (let i = 0; i < 1000; i++) {
      for (const segment of this.receive()) if (wanted(segment)) return segment;
      await new Promise((go) => setTimeout(go, 1)); // the server is in this thread
    }
    assert.fail("it did not come");
  }

  [Symbol.dispose](): void {
    this.bench[Symbol.dispose]();
    this.bench.memory.checkGuards();
    assert.deepEqual(this.bench.warnings.filter((text) => text.includes("failed")), []);
  }
}

const { SYN, ACK, FIN, RST } = TcpFlag;
const host = (port: number): Policy => ({
  rules: [{ action: "allow", target: { kind: "host" }, port, text: `host:${port}` }],
  otherwise: "deny",
});

async function connect(guest: Guest): Promise<void> {
  guest.send(SYN, undefined, { mss: 1460, windowScale: 7 });
  const answer = await guest.until(({ flags }) => flags === (SYN | ACK));
  guest.acknowledgment = (answer.sequence + 1) >>> 0;
  guest.send(ACK);
}

Deno.test("net: a guest reaches a port of this host, with bytes both ways and both ends", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  using guest = await Guest.start(listener.addr.port, host(listener.addr.port));
  await connect(guest);
  const server = await listener.accept();
  const up = Uint8Array.from({ length: 40_000 }, (_, i) => i * 3 + (i >> 8));
  guest.send(ACK, up);
  const got = new Uint8Array(up.length);
  for (let have = 0; have < got.length;) {
    have += await server.read(got.subarray(have)) ?? assert.fail();
  }
  assert.deepEqual(got, up);
  const down = Uint8Array.from({ length: 200_000 }, (_, i) => i * 5 + (i >> 8));
  const writing = server.write(down).then(async (count) => {
    for (; count < down.length;) count += await server.write(down.subarray(count));
    await server.closeWrite();
  });
  const read: number[] = [];
  await guest.until(({ sequence, payload, flags }) => {
    if (sequence !== guest.acknowledgment) return false;
    read.push(...payload);
    const end = (flags & FIN) !== 0;
    guest.acknowledgment = (guest.acknowledgment + payload.length + Number(end)) >>> 0;
    guest.send(ACK);
    return end;
  });
  await writing;
  assert.deepEqual(Uint8Array.from(read), down);
  guest.send(FIN | ACK);
  assert.equal(await server.read(new Uint8Array(1)), null);
  server.close();
  guest.receive();
  assert.equal(guest.bench.slot.device.counters!().bytesWaiting, 0);
});

Deno.test("net: a reset of the guest is one of the server's, and the other way round", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  using guest = await Guest.start(listener.addr.port, host(listener.addr.port));
  await connect(guest);
  const server = await listener.accept();
  guest.send(RST);
  await assert.rejects(server.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  server.close();
  guest.sequence += 1000;
  await connect(guest);
  const other = await listener.accept();
  guest.send(ACK, Uint8Array.of(1));
  guest.receive();
  other.close(); // with a byte that was not read: a reset (RFC 2525 section 2.17)
  await guest.until(({ flags }) => (flags & RST) !== 0);
  assert.equal(guest.bench.slot.device.counters!().connections, 0);
});

Deno.test("net: nobody listens, no rule and no network are told apart, and leave no socket", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  for (
    const [policy, opened, told] of [
      [host(port), 1, []],
      [host(1), 0, [["tcp", port]]],
      [undefined, 0, []],
    ] as const
  ) {
    using guest = await Guest.start(port, policy);
    guest.send(SYN);
    if (policy !== undefined) await guest.until(({ flags }) => flags === (RST | ACK));
    const { connections, connectionsOpened } = guest.bench.slot.device.counters!();
    assert.deepEqual([connections, connectionsOpened], [0, opened]);
    const events = guest.bench.events as { what: string; port: number }[];
    assert.deepEqual(events.map(({ what, port }) => [what, port]), told);
  }
});
