import assert from "node:assert/strict";
import { DEVICE_NAMES, deviceKind } from "./registry.ts";

Deno.test("a kind of device has the name that it has in the registry and in its folder", () => {
  const folders = [...Deno.readDirSync(new URL(".", import.meta.url))]
    .filter(({ isDirectory }) => isDirectory).map(({ name }) => name);
  assert.deepEqual([...DEVICE_NAMES].sort(), folders.sort());
  for (const name of DEVICE_NAMES) assert.equal(deviceKind(name).name, name);
});

Deno.test("the windows of devices keep the order that snapshots remember", () => {
  assert.deepEqual(DEVICE_NAMES, ["pmem", "blk", "vsock", "console", "rng", "balloon", "net"]);
});
