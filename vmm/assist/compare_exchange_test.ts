import assert from "node:assert/strict";
import { writeBootTables } from "../boot/paging.ts";
import { MIB } from "../layout.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import { compareExchange, compareExchangeCode } from "./compare_exchange.ts";
import { CODE_AT, DATA_AT, INSTRUCTION, type Race, race } from "./race_testing.ts";

Deno.test("16 bytes are exchanged when they are what is expected, and told in any case", () => {
  using memory = GuestMemory.create(2 * MIB);
  const place = memory.hostAddress(0x1000, 16);
  const exchange = compareExchange(compareExchangeCode());
  const low = 0x1111_2222_3333_4444n;
  const high = 0xffff_eeee_dddd_ccccn;
  assert.equal(exchange(place, 1n, 5n), 0n);
  assert.equal(exchange(place, 0n, high << 64n | low), 0n);
  assert.deepEqual([memory.getBigUint64(0x1000), memory.getBigUint64(0x1008)], [low, high]);
  assert.equal(exchange(place, high << 64n, 5n), high << 64n | low); // only one half is right
  assert.equal(exchange(place, high << 64n | low, 7n), high << 64n | low);
  assert.deepEqual([memory.getBigUint64(0x1000), memory.getBigUint64(0x1008)], [7n, 0n]);
  assert.deepEqual([memory.getBigUint64(0xff8), memory.getBigUint64(0x1010)], [0n, 0n]);
});

Deno.test("cmpxchg16b of two vCPUs loses nothing", async () => {
  const times = 5000;
  using memory = GuestMemory.create(2 * MIB);
  writeBootTables(memory);
  memory.write(CODE_AT, INSTRUCTION);
  const work: Race = { memory: memory.description, code: compareExchangeCode(), times };
  const worker = new Worker(new URL("./race_testing.ts", import.meta.url), { type: "module" });
  try {
    const done = new Promise((resolve, reject) => {
      worker.onmessage = resolve;
      worker.onerror = (event) => reject(new Error(event.message));
    });
    worker.postMessage(work);
    // Not before the other one runs.
    while (memory.getBigUint64(DATA_AT) === 0n) await new Promise((next) => setTimeout(next, 1));
    race(work);
    await done;
  } finally {
    worker.terminate();
  }
  const both = [memory.getBigUint64(DATA_AT), memory.getBigUint64(DATA_AT + 8)];
  assert.deepEqual(both, [BigInt(2 * times), BigInt(2 * times)]);
});
