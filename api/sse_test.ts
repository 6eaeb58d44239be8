/** The examples of the HTML Living Standard, section 9.2, and what servers and proxies send. */
import { deepEqual, rejects } from "node:assert/strict";
import { eventData, eventStream } from "./sse.ts";

const STREAMS: Readonly<Record<string, readonly [stream: string, data: readonly string[]]>> = {
  "a space after the colon": ["data: a\n\n", ["a"]],
  "no space after the colon": ["data:a\n\ndata:b\n\n", ["a", "b"]],
  "only the first space belongs to the field": ["data:  a\n\n", [" a"]],
  "lines that end in CR LF": ["data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]],
  "lines that end in CR": ["data: a\r\rdata: b\r\r", ["a", "b"]],
  "lines that end in all ways": ["data: a\r\n\ndata: b\n\rdata: c\r\n\r\n", ["a", "b", "c"]],
  "data of several lines": ["data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]],
  "data without a value": ["data\n\ndata\ndata\n\ndata:", ["", "\n"]],
  "comments": [": hi\n\n:\ndata: a\n: between\ndata: b\n\n", ["a\nb"]],
  "other fields": ["event: x\nid: 1\nretry: 5\ndata: a\nfoo: b\n\n", ["a"]],
  "a byte order mark": ["\ufeffdata: a\n\n", ["a"]],
  "an event that is not finished": ["data: a\n\ndata: b\n", ["a"]],
  "events without data": ["event: x\n\nid: 1\n\ndata: a\n\n", ["a"]],
  "text of several bytes a character": ["data: héé 😀\n\n", ["héé 😀"]],
};

async function read(bytes: Uint8Array, size: number): Promise<string[]> {
  const parts: Uint8Array[] = [];
  for (let i = 0; i < bytes.length; i += size) parts.push(bytes.slice(i, i + size));
  return await Array.fromAsync(eventData(ReadableStream.from(parts)));
}

for (const [what, [stream, data]] of Object.entries(STREAMS)) {
  Deno.test(`a client of server-sent events understands ${what}, in pieces of any size`, async () => {
    const bytes = new TextEncoder().encode(stream);
    for (const size of [1, 2, 3, 7, bytes.length]) deepEqual(await read(bytes, size), data);
  });
}

Deno.test("an event without an end is not kept in memory", async () => {
  const endless = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode("data: ")),
    pull: (controller) => controller.enqueue(new Uint8Array(1 << 20).fill(0x61)),
  });
  await rejects(Array.fromAsync(eventData(endless)), /exceeded/);
});

Deno.test("what a server sends, a client reads", async () => {
  async function* events() {
    yield* [{ a: "x\r\ny" }, "\u2028", null].map((data, i) => ({ id: String(i), data }));
  }
  const { body } = eventStream(events(), () => {});
  const read = await Array.fromAsync(eventData(body!), (text) => JSON.parse(text));
  deepEqual(read, [{ a: "x\r\ny" }, "\u2028", null]);
});
