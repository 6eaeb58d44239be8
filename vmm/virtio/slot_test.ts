import assert from "node:assert/strict";
import type { Device, DeviceHost } from "./device.ts";
import { Status } from "./mmio.ts";
import { Command, Word } from "./state.ts";
import { Bench, FakeMemory } from "./testing.ts";

const LIVE = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK;

/** A device that notes what it is called for. */
function recorder(calls: string[]): (host: DeviceHost) => Device {
  return () => ({
    name: "recorder",
    deviceId: 99,
    features: 1n << 32n,
    queueSizes: [4],
    config: new Uint8Array(0),
    activate: () => calls.push("activate"),
    handleQueue: () => {},
    reset: () => calls.push("reset"),
    save: () => null,
    restore: () => {},
    [Symbol.dispose]: () => {},
  });
}

Deno.test("a driver that resets before the device has started finds it stopped", () => {
  const calls: string[] = [];
  using bench = new Bench(new FakeMemory(), recorder(calls));
  const { state } = bench.slot;
  // Both commands are there when the device's thread comes to look.
  state.set(Word.status, LIVE);
  state.set(Word.active, 1);
  state.set(Word.command, Command.activate | Command.reset);
  bench.slot.handleCommands();
  assert.deepEqual(calls, []);
  assert.equal(state.get(Word.active), 0);
});

Deno.test("the warnings of a device are bounded, however many there are", () => {
  using bench = new Bench(new FakeMemory(), recorder([]));
  for (let i = 0; i < 1000; i++) bench.slot.warn(`${i}`);
  assert.equal(bench.warnings.length, 16);
  assert.equal(bench.warnings[0], "0");
});
