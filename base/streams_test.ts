import assert from "node:assert/strict";
import { closeQuietly, readLine, writeAll } from "./streams.ts";

/** A stream of such pieces. */
function stream(text: string, piece = Infinity) {
  const bytes = new TextEncoder().encode(text);
  let at = 0;
  return {
    read(into: Uint8Array): Promise<number | null> {
      if (at === bytes.length) return Promise.resolve(null);
      const part = bytes.subarray(at, at + Math.min(into.length, piece));
      into.set(part);
      at += part.length;
      return Promise.resolve(part.length);
    },
    rest: () => new TextDecoder().decode(bytes.subarray(at)),
  };
}

Deno.test("a line is read without a byte of what follows, or not at all", async () => {
  const two = stream("one\ntwo");
  assert.equal(await readLine(two, 3), "one");
  assert.equal(two.rest(), "two");
  assert.equal(await readLine(two, 3), undefined, "it has no end");
  assert.equal(await readLine(stream("long\n"), 3), undefined);
  assert.equal(await readLine(stream("\n"), 0), "");
  assert.equal(await readLine(stream(""), 9), undefined);
});

Deno.test("everything is written, however little is taken at a time, and closing twice is no error", async () => {
  const taken: number[] = [];
  const slow = {
    write(bytes: Uint8Array): Promise<number> {
      taken.push(...bytes.subarray(0, 2));
      return Promise.resolve(Math.min(2, bytes.length));
    },
  };
  await writeAll(slow, Uint8Array.of(1, 2, 3, 4, 5));
  assert.deepEqual(taken, [1, 2, 3, 4, 5]);
  closeQuietly({
    close() {
      throw new Deno.errors.BadResource("closed");
    },
  });
});
