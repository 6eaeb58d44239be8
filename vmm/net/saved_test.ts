import assert from "node:assert/strict";
import { lostConnections, MOST_CONNECTIONS } from "./saved.ts";

const ENTRY = { guestPort: 1, address: 2, port: 3, sequence: 4, acknowledgment: 5 };

Deno.test("what a snapshot says of connections is taken as a list of numbers in their bounds only", () => {
  assert.deepEqual(lostConnections([ENTRY, ENTRY]), [ENTRY, ENTRY]);
  for (const name of Object.keys(ENTRY)) {
    for (const value of [undefined, -1, 0.5, 2 ** 32, "3", null, [3]]) {
      const entry = { ...ENTRY, [name]: value } as never;
      assert.throws(() => lostConnections([entry]), RangeError, `${name} ${value}`);
    }
  }
  for (const port of ["guestPort", "port"]) {
    assert.throws(() => lostConnections([{ ...ENTRY, [port]: 65_536 }]), RangeError);
  }
  for (const state of [null, {}, 5, "list", [null], [[]]]) {
    assert.throws(() => lostConnections(state as never), RangeError);
  }
  assert.equal(lostConnections(Array(MOST_CONNECTIONS).fill(ENTRY)).length, MOST_CONNECTIONS);
  assert.throws(() => lostConnections(Array(MOST_CONNECTIONS + 1).fill(ENTRY)), RangeError);
});
