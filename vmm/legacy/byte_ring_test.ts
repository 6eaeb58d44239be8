import assert from "node:assert/strict";
import fc from "fast-check";
import { ByteRing } from "./byte_ring.ts";
import { ConsoleLog } from "./console_log.ts";

Deno.test("bytes come out as they went in, and never more than fit", () => {
  const step = fc.oneof(
    fc.record({ push: fc.uint8Array({ maxLength: 40 }) }),
    fc.constant("drain"),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const ring = new ByteRing(ByteRing.createState(32));
    const expected: number[] = [];
    const got: number[] = [];
    for (const one of steps) {
      if (typeof one === "string") got.push(...ring.drain());
      else {
        for (const byte of one.push) {
          const full = expected.length - got.length === 32;
          assert.equal(ring.push(byte), !full);
          if (!full) expected.push(byte);
        }
      }
    }
    got.push(...ring.drain());
    assert.deepEqual(got, expected);
  }));
});

Deno.test("a consumer is woken by another thread's bytes, and by the end", async () => {
  const state = ByteRing.createState(16);
  const ring = new ByteRing(state);
  const source = `
    import { ByteRing } from ${JSON.stringify(new URL("./byte_ring.ts", import.meta.url).href)};
    self.onmessage = ({ data }) => {
      const ring = new ByteRing(data);
      for (let i = 0; i < 1000; i++) {
        while (!ring.push(i & 255)) {
          const { words, index, value } = ring.room;
          Atomics.wait(words, index, value, 1000);
        }
      }
      ring.close();
    };`;
  const url = URL.createObjectURL(new Blob([source], { type: "application/javascript" }));
  const worker = new Worker(url, { type: "module" });
  try {
    worker.postMessage(state);
    const got: number[] = [];
    for (;;) {
      await ring.ready();
      const chunk = ring.drain();
      got.push(...chunk);
      if (chunk.length === 0 && ring.closed) break;
    }
    assert.deepEqual(got, Array.from({ length: 1000 }, (_, i) => i & 255));
  } finally {
    worker.terminate();
    URL.revokeObjectURL(url);
  }
});

Deno.test("a closed ring swallows, so that no producer waits for nobody", () => {
  const ring = new ByteRing(ByteRing.createState(4));
  for (let i = 0; i < 4; i++) ring.push(i);
  assert.equal(ring.push(4), false);
  ring.close();
  assert.equal(ring.push(4), true);
  const { words, index, value } = ring.room;
  assert.notEqual(Atomics.load(words, index), value, "nothing to wait for");
});

Deno.test("the console's log tells a panic, an end and an out-of-memory kill", () => {
  const log = new ConsoleLog();
  const say = (text: string) => log.append(new TextEncoder().encode(text));
  say("hello\r\nsomebody says Kernel panic - not syncing: no\r\n");
  assert.equal(log.panic, undefined);
  assert.equal(log.down, false);
  say("[   12.3] Out of memory: Killed process 77 (hog) total-vm:1kB\r\n");
  say("[   12.345678] Kernel panic - not sync");
  say("ing: Attempted to kill init! exitcode=0x00000009\r\n[ 13.0] reboot: System halted\r\n");
  assert.equal(log.panic, "Attempted to kill init! exitcode=0x00000009");
  assert.equal(log.down, true);
  assert.deepEqual(log.outOfMemory, ["Out of memory: Killed process 77 (hog) total-vm:1kB"]);
  say("x".repeat(70_000));
  assert.equal(log.text.length, 65536);
});

Deno.test("each way in which kernels say that they are down is one", () => {
  const texts = [
    "Power down",
    "System halted",
    "Power off not available: System halted instead", // Linux 6.12 without ACPI
  ];
  for (const text of texts) {
    const log = new ConsoleLog();
    log.append(new TextEncoder().encode(`[   32.534356] reboot: ${text}\r\n`));
    assert.ok(log.down, text);
  }
});
