/** Snapshots that are not what was saved, and such as are in order but for what they say. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { O_CLOEXEC, O_RDONLY } from "../../ffi/uapi/mman.ts";
import { BalloonDevice } from "../../vmm/devices/balloon/device.ts";
import { BlkDevice } from "../../vmm/devices/blk/device.ts";
import { ConsoleDevice } from "../../vmm/devices/console/device.ts";
import { NetDevice } from "../../vmm/devices/net/device.ts";
import { PmemDevice } from "../../vmm/devices/pmem/device.ts";
import { RngDevice } from "../../vmm/devices/rng/device.ts";
import { VsockDevice } from "../../vmm/devices/vsock/device.ts";
import { Kvm } from "../../vmm/kvm/kvm.ts";
import { Serial } from "../../vmm/legacy/serial.ts";
import { decodeState, encodeState, type Pieces } from "../../vmm/snapshot/format.ts";
import { identityOf } from "../../vmm/snapshot/memory_file.ts";
import { restoreSerial } from "../../vmm/snapshot/serial_piece.ts";
import { Snapshot } from "../../vmm/snapshot/snapshot.ts";
import { clockPair, restoreMachine, saveMachine } from "../../vmm/snapshot/machine_state.ts";
import { guestStack } from "../../vmm/net/guest_stack.ts";
import type { NetworkSettings } from "../../vmm/net/stack.ts";
import type { Device, DeviceHost } from "../../vmm/virtio/device.ts";
import { VIRTIO_MMIO } from "../../vmm/virtio/mmio.ts";
import { Bench, Driver, FakeMemory } from "../../vmm/virtio/testing.ts";
import { fuzz, type Random, refusedOr, refusedOrAsync } from "./harness.ts";

const utf8 = new TextEncoder();

function damagePieces(random: Random, pieces: Pieces): Map<string, Uint8Array<ArrayBuffer>> {
  const names = [...pieces.keys()];
  return new Map([...pieces].flatMap(([name, piece]): [string, Uint8Array<ArrayBuffer>][] => {
    if (random.chance(60)) return [];
    const from = random.chance(40) ? pieces.get(random.pick(names))! : piece;
    return [[name, random.chance(6) ? random.damage(from, 3) : from]];
  }));
}

fuzz("snapshot-file", () => {
  const pieces = new Map([
    ["facts", utf8.encode('{"a":1}')],
    ["vcpu0.regs", new Uint8Array(144)],
    ["empty", new Uint8Array()],
  ]);
  const file = encodeState(pieces);
  /** Makes the checksum right, so that damage gets past it. */
  const mend = (bytes: Uint8Array) => {
    if (bytes.length < 64) return;
    new DataView(bytes.buffer).setBigUint64(24, BigInt(bytes.length), true);
    const hash = createHash("sha256").update(bytes.subarray(0, 32)).update(bytes.subarray(64));
    bytes.set(hash.digest(), 32);
  };
  return (random) => {
    const others = new Map(
      Array.from(
        { length: random.below(5) },
        (_, i) => [`p${i}.x`, random.bytes(random.below(40))],
      ),
    );
    assert.deepEqual(new Map(decodeState(encodeState(others))), others);
    const damaged = random.damage(file, 3);
    if (!damaged.every((byte, i) => byte === file[i]) || damaged.length !== file.length) {
      assert.equal(
        refusedOr(() => decodeState(damaged), "untrusted"),
        undefined,
        "damage is not seen",
      );
    }
    mend(damaged);
    for (const piece of refusedOr(() => decodeState(damaged), "untrusted")?.values() ?? []) {
      assert(piece.byteOffset >= 64 && piece.byteOffset + piece.length <= damaged.length);
    }
    return 3;
  };
});

fuzz("snapshot-facts", async (stack) => {
  const directory = Deno.makeTempDirSync();
  stack.defer(() => Deno.removeSync(directory, { recursive: true }));
  const size = 4 * 1024 * 1024;
  const memory = join(directory, "memory");
  Deno.writeFileSync(memory, new Uint8Array(size).fill(1));
  using opened = OwnedFd.open(memory, O_RDONLY | O_CLOEXEC);
  const requires = { kernel: "k", host: { kind: "x" } };
  const facts = { requires, memory: identityOf(opened.fd), data: size, made: 1 };
  const digest = createHash("sha256").update(new Uint8Array(size / 2).fill(1)).digest();
  const digests = new Uint8Array([...digest, ...digest]);
  const write = (facts: unknown, digests: Uint8Array<ArrayBuffer>) => {
    const bytes = utf8.encode(JSON.stringify(facts) ?? "");
    const pieces = new Map([["facts", bytes], ["memory.digests", digests]]);
    Deno.writeFileSync(join(directory, "state"), encodeState(pieces));
  };
  write(facts, digests);
  (await Snapshot.open(directory, requires, true))[Symbol.dispose]();
  return async (random) => {
    write(random.damageJson(facts), random.chance(6) ? random.damage(digests) : digests);
    await refusedOrAsync(async () => {
      using snapshot = await Snapshot.open(directory, random.chance(2) ? requires : undefined);
      assert.equal(snapshot.facts.memory.size, size);
    }, "untrusted");
  };
});

const START = 0x20_0000;
const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);

/** Fails for what no device saves: other than numbers from 0 on, booleans, and lists of these. */
function assertSaved(value: unknown): void {
  if (typeof value === "object") Object.values(value ?? {}).forEach(assertSaved);
  else assert(typeof value === "boolean" || Number.isSafeInteger(value) && Number(value) >= 0);
}

for (
  const [name, make] of [
    ["rng", (host) => new RngDevice(host)],
    ["pmem", (host) => new PmemDevice(host, { start: 2 ** 38, size: 2 ** 21 })],
    ["console", (host) => new ConsoleDevice(host)],
    ["balloon", (host) => new BalloonDevice(host)],
    ["blk", (host, directory) => new BlkDevice(host, { path: join(directory, "disk") })],
    ["net", (host) => {
      const device = new NetDevice<NetworkSettings>(host, { mac: MAC, mtu: 1500 }, (link) => {
        const ends = { guestMac: MAC, gatewayMac: MAC, guest: "10.0.2.15", gateway: "10.0.2.2" };
        return guestStack(link, host, ends);
      });
      const numbers = { address: 0xcb00_7107, port: 80, sequence: 1, acknowledgment: 0xffff_ffff };
      device.restore({ up: 1, port: [1, 2].map((guestPort) => ({ guestPort, ...numbers })) });
      return device;
    }],
    ["vsock", (host, directory) => new VsockDevice(host, { cid: 9, path: join(directory, "v") })],
  ] as [string, (host: DeviceHost, directory: string) => Device<unknown>][]
) {
  // A device goes on from whatever a snapshot says of it, or refuses it; then the guest uses it.
  fuzz(`snapshot-${name}`, () => (random) => {
    const directory = Deno.makeTempDirSync();
    try {
      Deno.writeFileSync(join(directory, "disk"), new Uint8Array(65536));
      const memory = new FakeMemory(1 << 20, START);
      using bench = new Bench(memory, (host) => make(host, directory));
      const driver = new Driver(bench);
      driver.start();
      const { transport, ...rest } = structuredClone(bench.slot.save());
      const hostile = random.damageJson(rest) as typeof rest;
      const bytes = random.chance(3) ? random.damage(transport.bytes, 3) : transport.bytes.slice();
      const words = new DataView(bytes.buffer);
      // the registers that all queues have in common, one of them with another value
      if (random.chance(2) && bytes.length > 128) {
        words.setUint32(4 * random.below(20), random.pick([0, 1, 3, 0xffff, 0xffff_ffff]), true);
      }
      try {
        bench.slot.state.restore({ bytes });
        bench.slot.restore({ ...hostile }); // as device_pieces.ts reads it
      } catch (error) {
        // What the worker answers: "the snapshot is of ..." (devices.ts); TypeErrors are none.
        assert(error instanceof RangeError, `${error}`);
        return;
      }
      for (let step = 0; step < 100; step++) {
        const register = random.chance(4)
          ? 0x100 + 4 * random.below(0x3c0)
          : random.pick(Object.values(VIRTIO_MMIO));
        if (random.chance(2)) {
          const value = bench.transport.read(register, 4);
          assert(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff);
        } else {
          bench.transport.write(register, 4, random.pick([0, 1, 2, 3, 4, 8, 100, 0xffff_ffff]));
        }
        bench.slot.handleQueue(random.below(4));
      }
      bench.turn();
      const again = structuredClone(bench.slot.save());
      assertSaved(again.device);
      memory.checkGuards();
      assert.deepEqual(bench.warnings.filter((text) => text.includes("failed")), []);
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  });
}

// A port goes on from whatever a snapshot says of it, or refuses it; nothing waits for its lock.
fuzz("snapshot-serial", () => {
  const before = Serial.createState();
  const word = { words: new Int32Array(new SharedArrayBuffer(4)), index: 0, value: 0 };
  const nothing = { output: () => true, room: () => word, interrupt() {}, roomForInput() {} };
  const used = new Serial(before, nothing);
  used.receive(Uint8Array.of(1, 2, 3));
  const saved = Serial.saveState(before);
  const words = saved.length / 4;
  return (random) => {
    const bytes = random.chance(4) ? random.damage(saved, 3) : saved.slice();
    if (random.chance(2) && bytes.length === saved.length) { // a register, another value
      const value = random.pick([0, 1, 2, 3, 0xff, 0x100, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]);
      new DataView(bytes.buffer).setUint32(4 * random.below(random.pick([14, words])), value, true);
    }
    const state = Serial.createState();
    try {
      restoreSerial(state, new Map([["serial", bytes]]));
    } catch (error) {
      assert(error instanceof CloudletError && error.code === "untrusted", `${error}`);
      return;
    }
    const serial = new Serial(state, {
      ...nothing,
      output(byte) {
        assert(byte >= 0 && byte <= 0xff);
        return true;
      },
    });
    for (let step = 0; step < 100; step++) {
      const register = random.below(8);
      if (random.chance(2)) {
        const value = serial.read(register);
        assert(Number.isInteger(value) && value >= 0 && value <= 0xff);
      } else if (random.chance(8)) {
        assert(serial.receive(random.bytes(random.below(2000))) <= 1024);
      } else {
        serial.write(register, random.u32());
      }
    }
    const again = Serial.createState();
    Serial.restoreState(again, Serial.saveState(state)); // what a port became is one that it can be
  };
});

let kvm = true;
try {
  Kvm.open()[Symbol.dispose]();
} catch {
  kvm = false;
}

// KVM's own checks are part of it: what it refuses is told as a snapshot that cannot be used.
fuzz("snapshot-machine", (stack) => {
  const system = stack.use(Kvm.open());
  const vm = stack.use(system.createVm());
  vm.createIrqchip();
  vm.createPit();
  const vcpu = stack.use(vm.createVcpu(0));
  vcpu.setCpuid(system.supportedCpuid());
  const pieces = saveMachine(system, vm, [vcpu]);
  restoreMachine(vm, [vcpu], pieces);
  return (random) => {
    const hostile = damagePieces(random, pieces);
    refusedOr(() => restoreMachine(vm, [vcpu], hostile), "untrusted");
    refusedOr(() => clockPair(hostile), "untrusted");
  };
}, { ignore: !kvm });
