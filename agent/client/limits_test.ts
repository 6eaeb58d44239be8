/** An agent that was replaced by the guest's root: silent, endless, or too much at once. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { concatBytes } from "../../base/bytes.ts";
import {
  bytes,
  chunk,
  envelope,
  HostileAgent,
  pour,
  reply,
  says,
  saysAndWaits,
  silent,
} from "../../test/hostile_agent.ts";
import {
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
  InfoResponseSchema,
} from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { connectVsock } from "./client.ts";
import { bounded, envelopes, within } from "./limits.ts";

const HEAD = "HTTP/1.1 200 OK\r\n";
const STREAM = `${HEAD}content-type: application/connect+proto\r\n`;
const soon = { answer: 50, warm: 50 };

/** How the call is refused: with the agent's fault, not with the client's. */
async function refused(call: Promise<unknown>, why: RegExp): Promise<void> {
  await assert.rejects(call, (error) => {
    assert(error instanceof ConnectError, String(error));
    assert.match(error.message, why);
    return true;
  });
}

function* endlessly<T>(piece: T): Generator<T> {
  for (;;) yield piece;
}

Deno.test("each call of one answer ends when the agent keeps silent", async () => {
  await using agent = new HostileAgent({});
  // Long enough for each to be asked where much else runs; at once, or one that is not awaited yet could
  // be refused without anybody to hear it.
  const client = agent.client({ answer: 3000, warm: 3000 });
  const calls = [
    client.info({}),
    client.signal({}),
    client.hold({}),
    client.resume({}),
    client.warm({}),
  ];
  const why = /the agent of the microVM: it did not answer \w+ within 3 s/;
  await Promise.all(calls.map((call) => refused(call, why)));
  assert.deepEqual(agent.asked.sort(), ["Hold", "Info", "Resume", "Signal", "Warm"]);
  // An answer that begins does not count as one.
  await using slow = new HostileAgent({
    Info: async (connection, body) => {
      await pour(connection, [`${HEAD}content-type: application/proto\r\ncontent-length: 9\r\n`]);
      await silent(connection, body);
    },
  });
  await refused(slow.client(soon).info({}), /did not answer info/);
});

Deno.test("a call that is answered has its answer, and given up it says why", async () => {
  await using agent = new HostileAgent({
    Info: reply(InfoResponseSchema, create(InfoResponseSchema, { version: "x" })),
  });
  assert.equal((await agent.client().info({})).version, "x");
  const { signal } = (() => {
    const controller = new AbortController();
    controller.abort(new Error("enough"));
    return controller;
  })();
  await assert.rejects(agent.client().info({}, { signal }), (error) => {
    assert.equal((error as ConnectError).code, Code.Canceled);
    return true;
  });
});

Deno.test("headers, trailers and messages without an end are refused", async () => {
  const chunked = "transfer-encoding: chunked\r\n\r\n";
  const cases: [Iterable<string | Uint8Array>, RegExp][] = [
    [endlessly("HTTP/1.1 100 Continue\r\n\r\n"), /informational/],
    [[HEAD, ...Array(10_000).fill("name: value\r\n")], /too long/],
    [
      (function* () {
        yield `${HEAD}content-type: application/proto\r\n${chunked}0\r\n`;
        yield* endlessly("name: value\r\n");
      })(),
      /too long/,
    ],
    [
      (function* () {
        yield `${HEAD}content-type: application/proto\r\n${chunked}`;
        yield* endlessly(chunk(new Uint8Array(65536)));
      })(),
      /too large|larger than/,
    ],
    [
      (function* () {
        yield `${HEAD}content-type: application/proto\r\ncontent-length: 268000000\r\n\r\n`;
        yield* endlessly(new Uint8Array(65536));
      })(),
      /too large|larger than/,
    ],
  ];
  for (const [pieces, why] of cases) {
    await using agent = new HostileAgent({ Info: (connection) => pour(connection, pieces) });
    await refused(agent.client({ answer: 20_000 }).info({}), why);
  }
});

Deno.test("a message of a stream that is too large is refused before it is there", async () => {
  const prefix = envelope(new Uint8Array(0));
  new DataView(prefix.buffer).setUint32(1, 200 << 20);
  await using agent = new HostileAgent({
    Execute: async (connection, body) => {
      await pour(connection, [`${STREAM}transfer-encoding: chunked\r\n\r\n`, chunk(prefix)]);
      await silent(connection, body);
    },
  });
  await refused(Array.fromAsync(agent.client().execute({})), /a message of it has 209715200 bytes/);
});

Deno.test("a message in pieces of a byte costs no more than one in a piece", async () => {
  const message = new Uint8Array(200_000).fill(7);
  const wire = concatBytes([envelope(message), envelope(new Uint8Array(0)), envelope(message, 2)]);
  const got = [];
  let pieces = 0;
  async function* single() {
    for (const byte of wire) {
      if (++pieces % 100_000 === 0) await Promise.resolve();
      yield Uint8Array.of(byte);
    }
  }
  for await (const one of envelopes(single(), 1 << 20)) got.push(one);
  assert.deepEqual(got.map(({ length }) => length), [200_005, 5, 200_005]);
  assert.deepEqual(concatBytes(got), wire);
  const cut = await Array.fromAsync(
    envelopes(ReadableStream.from([wire.subarray(0, 3), wire.subarray(3, 9)]), 1 << 20),
  );
  assert.deepEqual(cut, [wire.subarray(0, 9)]);
  // and through Connect, which looks at all pieces again with each new one
  const text = "x".repeat(40_000);
  const response = create(ExecuteResponseSchema, { stage: Stage.DONE, stdout: text });
  await using agent = new HostileAgent({
    Execute: async (connection) => {
      const { toBinary } = await import("@bufbuild/protobuf");
      const body = concatBytes([
        envelope(toBinary(ExecuteResponseSchema, response)),
        envelope(new TextEncoder().encode("{}"), 2),
      ]);
      await pour(connection, [`${STREAM}transfer-encoding: chunked\r\n\r\n`]);
      await pour(connection, [concatBytes(Array.from(body, (byte) => chunk(Uint8Array.of(byte))))]);
      await pour(connection, ["0\r\n\r\n"]);
    },
  });
  const responses = await Array.fromAsync(agent.client().execute({}));
  assert.deepEqual(responses.map(({ stdout }) => stdout), [text]);
});

Deno.test("a stream is read up to its messages, its bytes and its time", async () => {
  const event = create(ExecuteResponseSchema, { stage: Stage.RUNNING, stdout: "12345" });
  await using agent = new HostileAgent({ Execute: says(() => endlessly(event)) });
  const read = (messages: number, most: number) =>
    Array.fromAsync(
      bounded(
        agent.client().execute({}),
        { messages, bytes: most },
        ({ stdout }) => stdout?.length ?? 0,
      ),
    );
  await assert.rejects(read(100, 1e9), { code: "guest", message: /over 100 messages/ });
  await assert.rejects(read(1e9, 499), { code: "guest", message: /over 499 bytes/ });
  await using waiting = new HostileAgent({ Execute: saysAndWaits(event) });
  {
    using deadline = within(new AbortController().signal, 50);
    const { signal } = deadline;
    await refused(
      Array.fromAsync(waiting.client().execute({}, { signal })),
      /it has not ended after 0\.05 s/,
    );
  }
  await using short = new HostileAgent({ Execute: says(() => [event, event]) });
  const all = bounded(short.client().execute({}), { messages: 2, bytes: 10 }, () => 5);
  assert.equal((await Array.fromAsync(all)).length, 2);
});

Deno.test("connecting to a guest that neither takes nor refuses can be given up", async () => {
  await using device = new HostileAgent({});
  const give = new AbortController();
  const connecting = assert.rejects(connectVsock(device.socket, 1, give.signal), /^Error: enough$/);
  give.abort(new Error("enough"));
  await connecting;
  const { connectAgent } = await import("./client.ts");
  const client = connectAgent({ unixPath: device.socket, vsockPort: 77 }, soon);
  await refused(client.info({}), /did not answer info/);
});

Deno.test("answers that are not what was asked for end the call", async () => {
  const garbage = bytes(
    `${HEAD}content-type: application/proto\r\ncontent-length: 4\r\n\r\n`,
    "\xff",
  );
  await using agent = new HostileAgent({ Info: garbage, Execute: garbage });
  await refused(agent.client().info({}), /./);
  await refused(Array.fromAsync(agent.client().execute({})), /./);
});
