import assert from "node:assert/strict";
import { testCompliance } from "../../virtio/compliance.ts";
import { VsockDevice } from "./device.ts";
import { MAX_STREAMS } from "./muxer.ts";
import { Op, PacketHeader, Shutdown, VSOCK_CID_HOST } from "./packet.ts";
import { BUFFER_BYTES } from "./stream.ts";
import { CID, type Packet, VsockBench } from "./testing.ts";

const complianceDirectory = Deno.makeTempDirSync();
let made = 0;
testCompliance({
  name: "vsock",
  make: (host) => new VsockDevice(host, { cid: CID, path: `${complianceDirectory}/${++made}` }),
  sends: {
    0: (_bench, driver) => { // a connection that the host refuses
      const header = new PacketHeader();
      header.set(VSOCK_CID_HOST, 1, 2, 1, Op.REQUEST, 0, 0, 0, 0);
      new DataView(header.bytes.buffer).setBigUint64(0, BigInt(CID), true);
      driver.queues[1]!.add([driver.place(header.bytes)]);
      driver.kick(1);
    },
    2: null, // after a restore only
  },
});
Deno.test.afterAll(() => Deno.removeSync(complianceDirectory, { recursive: true }));

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** Connects a client of the host; the guest sees the request. */
async function connect(
  vsock: VsockBench,
  port = 1024,
): Promise<{ client: Deno.UnixConn; request: Packet }> {
  const client = await Deno.connect({ transport: "unix", path: vsock.path });
  await client.write(encode(`CONNECT ${port}\n`));
  return { client, request: await vsock.next() };
}

async function readText(vsock: VsockBench, client: Deno.UnixConn): Promise<string> {
  const bytes = new Uint8Array(65536);
  const count = await vsock.until(client.read(bytes));
  return count === null ? "" : decode(bytes.subarray(0, count));
}

/** Connects and accepts. */
async function open(vsock: VsockBench, options: Partial<Packet> = {}): Promise<{
  client: Deno.UnixConn;
  ports: { sourcePort: number; destinationPort: number };
}> {
  const { client, request } = await connect(vsock);
  const ports = { sourcePort: request.destinationPort, destinationPort: request.sourcePort };
  vsock.send({ ...ports, op: Op.RESPONSE, ...options });
  assert.equal(await readText(vsock, client), `OK ${request.sourcePort}\n`);
  return { client, ports };
}

Deno.test("vsock: a client of the host reaches a port of the guest, and data goes both ways", async () => {
  using vsock = new VsockBench();
  const { client, request } = await connect(vsock, 5000);
  assert.equal(request.op, Op.REQUEST);
  assert.deepEqual([request.sourceCid, request.destinationCid], [2, CID]);
  assert.equal(request.destinationPort, 5000);
  assert.equal(request.bufAlloc, BUFFER_BYTES);
  const ports = { sourcePort: 5000, destinationPort: request.sourcePort };
  vsock.send({ ...ports, op: Op.RESPONSE });
  assert.equal(await readText(vsock, client), `OK ${request.sourcePort}\n`);
  await client.write(encode("to the guest"));
  assert.equal(decode((await vsock.next()).payload), "to the guest");
  vsock.send({ ...ports, op: Op.RW, payload: encode("to the host") });
  assert.equal(await readText(vsock, client), "to the host");
  client.close();
});

Deno.test("vsock: data right behind the CONNECT line is not lost", async () => {
  using vsock = new VsockBench();
  using client = await Deno.connect({ transport: "unix", path: vsock.path });
  await client.write(encode("CONNECT 7\nearly words"));
  const request = await vsock.next();
  vsock.send({ sourcePort: 7, destinationPort: request.sourcePort, op: Op.RESPONSE });
  let text = "";
  while (text.length < 11) text += decode((await vsock.next()).payload);
  assert.equal(text, "early words");
});

Deno.test("vsock: a CONNECT line that comes in pieces is understood", async () => {
  using vsock = new VsockBench();
  using client = await Deno.connect({ transport: "unix", path: vsock.path });
  for (const piece of ["CON", "NECT 12", "34\n"]) {
    assert.deepEqual(vsock.receive(), []);
    await client.write(encode(piece));
  }
  assert.equal((await vsock.next()).destinationPort, 1234);
});

Deno.test("vsock: a client that does not say CONNECT is hung up on", async () => {
  using vsock = new VsockBench();
  for (const line of ["HELLO\n", "CONNECT \n", "CONNECT 4294967296\n", "x".repeat(40)]) {
    using client = await Deno.connect({ transport: "unix", path: vsock.path });
    await client.write(encode(line));
    assert.equal(
      await vsock.until(client.read(new Uint8Array(10)).catch(() => null)),
      null,
    );
  }
  assert.equal(vsock.device.counters().streams, 0);
  assert.deepEqual(vsock.receive(), []);
});

Deno.test("vsock: a client is hung up on when nobody listens in the guest", async () => {
  using vsock = new VsockBench();
  const { client, request } = await connect(vsock);
  using _ = client;
  vsock.send({ sourcePort: 1024, destinationPort: request.sourcePort, op: Op.RST });
  assert.equal(await vsock.until(client.read(new Uint8Array(10))), null);
  assert.equal(vsock.device.counters().streams, 0);
});

Deno.test("vsock: a client is hung up on while the guest has no driver", async () => {
  using vsock = new VsockBench(4096, false);
  using client = await Deno.connect({ transport: "unix", path: vsock.path });
  assert.equal(await vsock.until(client.read(new Uint8Array(10)).catch(() => null)), null);
});

Deno.test("vsock: the guest reaches a socket of the host by its port", async () => {
  using vsock = new VsockBench();
  using listener = Deno.listen({ transport: "unix", path: `${vsock.path}_8080` });
  const ports = { sourcePort: 3000, destinationPort: 8080 };
  vsock.send({ ...ports, op: Op.REQUEST });
  using client = await listener.accept();
  const response = await vsock.next();
  assert.equal(response.op, Op.RESPONSE);
  assert.deepEqual([response.sourcePort, response.destinationPort], [8080, 3000]);
  vsock.send({ ...ports, op: Op.RW, payload: encode("ping") });
  assert.equal(await readText(vsock, client), "ping");
  await client.write(encode("pong"));
  assert.equal(decode((await vsock.next()).payload), "pong");
});

Deno.test("vsock: the guest is refused where nobody listens on the host", async () => {
  using vsock = new VsockBench();
  vsock.send({ sourcePort: 3000, destinationPort: 9, op: Op.REQUEST });
  const answer = await vsock.next();
  assert.deepEqual([answer.op, answer.sourcePort, answer.destinationPort], [Op.RST, 9, 3000]);
});

Deno.test("vsock: each side can end its own direction and still read", async () => {
  using vsock = new VsockBench();
  const { client, ports } = await open(vsock);
  using _ = client;
  await client.closeWrite();
  const end = await vsock.next();
  assert.deepEqual([end.op, end.flags], [Op.SHUTDOWN, Shutdown.SEND]);
  vsock.send({ ...ports, op: Op.RW, payload: encode("still here") });
  assert.equal(await readText(vsock, client), "still here");
  vsock.send({ ...ports, op: Op.SHUTDOWN, flags: Shutdown.SEND });
  assert.equal(await vsock.until(client.read(new Uint8Array(10))), null);
});

Deno.test("vsock: when the guest closes, the client gets everything and then the end", async () => {
  using vsock = new VsockBench();
  const { client, ports } = await open(vsock);
  using _ = client;
  vsock.send({ ...ports, op: Op.RW, payload: encode("last words") });
  vsock.send({ ...ports, op: Op.SHUTDOWN, flags: Shutdown.BOTH });
  assert.equal((await vsock.next()).op, Op.RST); // 5.10.6.5: the answer to both
  assert.equal(await readText(vsock, client), "last words");
  assert.equal(await vsock.until(client.read(new Uint8Array(10))), null);
  assert.equal(vsock.device.counters().streams, 0);
});

Deno.test("vsock: when the client closes, the guest gets everything and then the end", async () => {
  using vsock = new VsockBench();
  const { client, ports } = await open(vsock);
  await client.write(encode("bye"));
  client.close();
  assert.equal(decode((await vsock.next()).payload), "bye");
  const end = await vsock.next();
  assert.deepEqual([end.op, end.flags], [Op.SHUTDOWN, Shutdown.BOTH]);
  vsock.send({ ...ports, op: Op.RST });
  assert.equal(vsock.device.counters().streams, 0);
});

Deno.test("vsock: a reset by the guest ends the client's connection", async () => {
  using vsock = new VsockBench();
  const { client, ports } = await open(vsock);
  using _ = client;
  vsock.send({ ...ports, op: Op.RST });
  assert.equal(await vsock.until(client.read(new Uint8Array(10))), null);
  assert.equal(vsock.device.counters().streams, 0);
  vsock.send({ ...ports, op: Op.RW, payload: encode("late") });
  assert.equal((await vsock.next()).op, Op.RST);
});

Deno.test("vsock: the guest gets no more than it has room for", async () => {
  using vsock = new VsockBench();
  const { client, ports } = await open(vsock, { bufAlloc: 1000 });
  using _ = client;
  const data = crypto.getRandomValues(new Uint8Array(5000));
  const writing = client.write(data);
  const received: number[] = [];
  received.push(...(await vsock.next()).payload);
  assert.equal(received.length, 1000);
  assert.deepEqual(vsock.receive(), []);
  while (received.length < 5000) {
    vsock.send({ ...ports, op: Op.CREDIT_UPDATE, bufAlloc: 1000, fwdCnt: received.length });
    const packets = vsock.receive();
    const more = packets.flatMap(({ payload }) => [...payload]);
    assert(more.length > 0 && more.length <= 1000);
    received.push(...more);
  }
  assert.deepEqual(received, [...data]);
  await writing;
});

Deno.test("vsock: data waits while the guest has no buffers, and comes when it has", async () => {
  using vsock = new VsockBench(4096, false);
  vsock.start(2);
  const { client, ports } = await open(vsock, { bufAlloc: 1 << 20 });
  using _ = client;
  const data = crypto.getRandomValues(new Uint8Array(20_000));
  const writing = client.write(data);
  const received: number[] = [];
  for (let i = 0; i < 100 && received.length < data.length; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    received.push(...vsock.receive(false).flatMap(({ payload }) => [...payload]));
    vsock.postBuffer();
  }
  assert.deepEqual(received, [...data]);
  await writing;
  void ports;
});

Deno.test("vsock: a client that does not read costs a bounded buffer, and credit comes back", async () => {
  using vsock = new VsockBench();
  const { client, ports } = await open(vsock);
  using _ = client;
  const chunk = new Uint8Array(32 * 1024).map((_, i) => i & 0xff);
  let sent = 0;
  let forwarded = 0;
  const credit = () => {
    for (const packet of vsock.receive()) {
      assert.equal(packet.op, Op.CREDIT_UPDATE);
      forwarded = packet.fwdCnt;
    }
    return BUFFER_BYTES - (sent - forwarded);
  };
  while (credit() >= chunk.length) {
    vsock.send({ ...ports, op: Op.RW, payload: chunk });
    sent += chunk.length;
  }
  assert(sent >= BUFFER_BYTES);
  let received = 0;
  const buffer = new Uint8Array(65536);
  while (received < sent) {
    const count = await vsock.until(client.read(buffer));
    for (let i = 0; i < count!; i++) assert.equal(buffer[i], (received + i) & 0xff);
    received += count!;
  }
  assert(credit() >= BUFFER_BYTES / 2);
});

Deno.test("vsock: a guest that sends more than its credit is reset", async () => {
  using vsock = new VsockBench();
  const { client, ports } = await open(vsock);
  using _ = client;
  const chunk = new Uint8Array(65536);
  for (let i = 0; i < 40; i++) vsock.send({ ...ports, op: Op.RW, payload: chunk });
  assert(vsock.receive().some(({ op }) => op === Op.RST));
  assert.equal(vsock.device.counters().streams, 0);
});

Deno.test("vsock: a request for credit is answered", async () => {
  using vsock = new VsockBench();
  const { client, ports } = await open(vsock);
  using _ = client;
  vsock.send({ ...ports, op: Op.RW, payload: encode("12345") });
  vsock.send({ ...ports, op: Op.CREDIT_REQUEST });
  const answer = await vsock.next();
  assert.deepEqual([answer.op, answer.fwdCnt], [Op.CREDIT_UPDATE, 5]);
});

Deno.test("vsock: hundreds of streams do not mix", async () => {
  using vsock = new VsockBench();
  using stack = new DisposableStack();
  const streams = [];
  for (let i = 0; i < 300; i++) {
    const stream = await open(vsock);
    stack.use(stream.client);
    streams.push(stream);
  }
  assert.equal(vsock.device.counters().streams, 300);
  for (const [i, { client, ports }] of streams.entries()) {
    vsock.send({ ...ports, op: Op.RW, payload: encode(`to host ${i}`) });
    await client.write(encode(`to guest ${i}`));
  }
  const byPort = new Map<number, string>();
  while (byPort.size < 300) {
    const { sourcePort, payload } = await vsock.next();
    byPort.set(sourcePort, (byPort.get(sourcePort) ?? "") + decode(payload));
  }
  for (const [i, { client, ports }] of streams.entries()) {
    assert.equal(byPort.get(ports.destinationPort), `to guest ${i}`);
    assert.equal(await readText(vsock, client), `to host ${i}`);
  }
});

Deno.test("vsock: there is a limit to the number of streams", async () => {
  using vsock = new VsockBench();
  using listener = Deno.listen({ transport: "unix", path: `${vsock.path}_1` });
  using stack = new DisposableStack();
  const answers: number[] = [];
  for (let i = 0; i <= MAX_STREAMS; i++) {
    vsock.send({ sourcePort: i, destinationPort: 1, op: Op.REQUEST });
    const { op } = await vsock.next();
    answers.push(op);
    if (op === Op.RESPONSE) stack.use(await listener.accept());
  }
  assert.deepEqual(answers.indexOf(Op.RST), MAX_STREAMS);
  assert.equal(vsock.device.counters().streams, MAX_STREAMS);
});

Deno.test("vsock: packets that make no sense are counted and reset nothing else", async () => {
  using vsock = new VsockBench();
  const { client, ports } = await open(vsock);
  using _ = client;
  vsock.send({ ...ports, op: Op.RW, sourceCid: CID + 1 });
  vsock.send({ ...ports, op: Op.RW, destinationCid: 77 });
  assert.equal(vsock.device.counters().badPackets, 2);
  assert.deepEqual(vsock.receive(), []);
  vsock.send({ sourcePort: 1, destinationPort: 2, op: Op.RW, payload: encode("x") });
  vsock.send({ sourcePort: 1, destinationPort: 2, op: Op.REQUEST, type: 2 });
  assert.deepEqual(vsock.receive().map(({ op, type }) => [op, type]), [[Op.RST, 1], [Op.RST, 2]]);
  vsock.send({ ...ports, op: Op.RW, payload: encode("alive") });
  assert.equal(await readText(vsock, client), "alive");
  vsock.send({ ...ports, op: 99 });
  assert.equal((await vsock.next()).op, Op.RST);
});

Deno.test("vsock: a reset of the driver closes every connection", async () => {
  using vsock = new VsockBench();
  const { client } = await open(vsock);
  using _ = client;
  vsock.start();
  assert.equal(await vsock.until(client.read(new Uint8Array(10))), null);
  assert.equal(vsock.device.counters().streams, 0);
  const again = await open(vsock);
  again.client.close();
});

Deno.test("vsock: a restored guest hears of the reset first, and has its new context id", async () => {
  using vsock = new VsockBench();
  const saved = structuredClone(vsock.bench.slot.save());
  using restored = new VsockBench(4096, false);
  restored.bench.memory.bytes.set(vsock.bench.memory.bytes);
  restored.bench.slot.state.restore(saved.transport);
  restored.bench.slot.restore(saved);
  const event = vsock.driver.queues[2]!;
  // The driver of the first guest lives on in the second one's memory.
  const view = restored.bench.memory.view;
  assert.equal(view.getUint16(event.used + 2, true), 1);
  assert.equal(view.getUint32(event.used + 8, true), 4);
  using client = await Deno.connect({ transport: "unix", path: restored.path });
  await client.write(encode("CONNECT 1\n"));
  restored.bench.turn();
  const rx = vsock.driver.queues[0]!;
  assert.equal(view.getUint16(rx.used + 2, true), 0, "nothing before the reset was seen");
  const index = view.getUint16(event.available + 2, true);
  view.setUint16(event.available + 2, index + 1, true); // the driver gives the buffer back
  restored.driver.kick(2);
  assert.equal(view.getUint16(rx.used + 2, true), 1);
});

Deno.test("vsock: the socket is the user's own and goes with the device", () => {
  const vsock = new VsockBench();
  assert.equal(Deno.statSync(vsock.path).mode! & 0o777, 0o600);
  vsock.bench.slot[Symbol.dispose]();
  assert.throws(() => Deno.statSync(vsock.path), Deno.errors.NotFound);
  vsock[Symbol.dispose]();
});
