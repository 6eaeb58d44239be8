import assert from "node:assert/strict";
import { testCompliance } from "../../virtio/compliance.ts";
import { Bench, Driver, FakeMemory } from "../../virtio/testing.ts";
import { RngDevice } from "./device.ts";

testCompliance({ name: "rng", make: (host) => new RngDevice(host) });

Deno.test("rng fills what it was asked for with different bytes each time", () => {
  using bench = new Bench(new FakeMemory(), (host) => new RngDevice(host));
  const driver = new Driver(bench).start();
  const seen = new Set<string>();
  for (const length of [32, 100, 4096]) {
    const room = driver.room(length);
    driver.queues[0]!.add([room]);
    driver.kick(0);
    assert.equal(driver.queues[0]!.collect()[0]?.length, length);
    seen.add(driver.bytesOf(room).toHex().slice(0, 64));
  }
  assert.equal(seen.size, 3);
});

Deno.test("rng answers a request for too much with less", () => {
  using bench = new Bench(new FakeMemory(), (host) => new RngDevice(host));
  const driver = new Driver(bench).start();
  const room = driver.room(10_000);
  driver.queues[0]!.add([room]);
  driver.kick(0);
  const [used] = driver.queues[0]!.collect();
  assert(used !== undefined && used.length > 0 && used.length < 10_000);
  assert(driver.bytesOf(room).subarray(used.length).every((byte) => byte === 0));
});
