import assert from "node:assert/strict";
import fc from "fast-check";
import { type MarkEvent, MarkScanner } from "./marks.ts";

const NONCE = "0123456789abcdef0123456789abcdef";
const utf8 = new TextEncoder();

/** Events with neighbouring output joined, as text. */
function scan(chunks: readonly Uint8Array[]): (string | Exclude<MarkEvent, { kind: "output" }>)[] {
  const scanner = new MarkScanner(NONCE);
  const result: ReturnType<typeof scan> = [];
  const events = [...chunks.flatMap((chunk) => [...scanner.push(chunk)]), ...scanner.end()];
  for (const event of events) {
    if (event.kind !== "output") {
      result.push(event);
      continue;
    }
    const text = Array.from(event.bytes, (byte) => String.fromCharCode(byte)).join("");
    if (typeof result.at(-1) === "string") result.push(result.pop() as string + text);
    else result.push(text);
  }
  return result;
}

function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((start, i) => bytes.subarray(start, at[i] ?? bytes.length));
}

Deno.test("marks are found wherever the stream is cut, and all the rest is output", () => {
  const stream = `boot\n${NONCE}:init\r\n\r\n${NONCE}:begin\nout${NONCE.slice(0, 9)}put\0ÿ` +
    `${NONCE}:exit:42\nbye`;
  const bytes = Uint8Array.from(stream, (character) => character.charCodeAt(0));
  fc.assert(fc.property(fc.array(fc.nat()), (places) => {
    assert.deepEqual(scan(cut(bytes, places)), [
      "boot\n",
      { kind: "init" },
      "\r\n",
      { kind: "begin" },
      `out${NONCE.slice(0, 9)}put\0ÿ`,
      { kind: "exit", code: 42 },
      "bye",
    ]);
  }));
});

Deno.test("what only looks like a mark is output", () => {
  for (
    const text of [`${NONCE}`, `${NONCE}:exit:256\n`, `${NONCE}:what\n`, `${NONCE}:exit:1`, "01"]
  ) {
    assert.deepEqual(scan([utf8.encode(text)]), [text]);
  }
  assert.deepEqual(scan([utf8.encode(`${NONCE}${NONCE}:begin\n`)]), [NONCE, { kind: "begin" }]);
});

Deno.test("output without a mark is not held back", () => {
  const scanner = new MarkScanner(NONCE);
  const events = [...scanner.push(utf8.encode("prompt # "))];
  assert.deepEqual(events.map(({ kind }) => kind), ["output"]);
});
