/** vCPUs of different VMs on one shared thread: one that waits must not hold up another one. */
import assert from "node:assert/strict";
import type { MmioRegion } from "./bus.ts";
import type { ByteRing } from "../legacy/byte_ring.ts";
import { VIRTIO_MMIO_ADDRESS } from "../layout.ts";
import { CODE, hasKvm, TinyGuest } from "./tiny_guest_testing.ts";
import { HostedVcpu, type Vcpu, VcpuThread } from "./vcpu_thread.ts";
import { eventFd } from "../../ffi/eventfd.ts";
import { VIRTIO_MMIO } from "../virtio/mmio.ts";
import { TransportState, Word } from "../virtio/state.ts";

/** Exits that a neighbour makes in the test; it takes a few milliseconds for them. */
const EXITS = 500;
/** Far more than they take; a neighbour that is held up takes for ever. */
const DEADLINE = 60_000;

/** `out 0x80, al` again and again: each is an exit that the shared thread answers. */
const LEAVE = [0xe6, 0x80, 0xeb, 0xfc];
/** `mov dx, 0x3f8`, then `out dx, al` again and again. */
const FLOOD = [0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xfd];
/** As FLOOD, but a thousand bytes by one instruction: `mov rsi, CODE; mov ecx, 1000; rep outsb`. */
const FLOOD_BY_STRING = [
  ...[0x66, 0xba, 0xf8, 0x03],
  ...[0xbe, ...dword(CODE)],
  ...[0xb9, ...dword(1000)],
  ...[0xf3, 0x6e],
  ...[0xeb, 0xf2],
];

function dword(value: number): number[] {
  return [value & 0xff, value >> 8 & 0xff, value >> 16 & 0xff, value >>> 24];
}

/** `mov dword [rbx + register], value` */
function write(register: number, value: number): number[] {
  return [0xc7, 0x83, ...dword(register), ...dword(value)];
}

/** `mov ebx, the first device`, then all that makes it active and resets it, again and again. */
const RESET = (() => {
  const loop = [
    ...write(VIRTIO_MMIO.STATUS, 1),
    ...write(VIRTIO_MMIO.STATUS, 3),
    ...write(VIRTIO_MMIO.DRIVER_FEATURES_SEL, 1),
    ...write(VIRTIO_MMIO.DRIVER_FEATURES, 1),
    ...write(VIRTIO_MMIO.STATUS, 11),
    ...write(VIRTIO_MMIO.STATUS, 15),
    ...write(VIRTIO_MMIO.STATUS, 0),
  ];
  return [0xbb, ...dword(VIRTIO_MMIO_ADDRESS), ...loop, 0xeb, -(loop.length + 2) & 0xff];
})();

/** A VM of one processor and a few instructions, on the shared thread. */
async function guest(
  stack: AsyncDisposableStack,
  code: readonly number[],
  regions: readonly MmioRegion[] = [],
  Runner: new (onSerialRoom: () => void) => Vcpu = HostedVcpu,
): Promise<{ vcpu: Vcpu; ring: ByteRing }> {
  const vcpu = new Runner(() => {});
  const { ring } = stack.use(
    await TinyGuest.make(vcpu, { code: Uint8Array.from(code), regions, console: 64 }),
  );
  return { vcpu, ring };
}

async function until(condition: () => boolean): Promise<boolean> {
  const end = performance.now() + DEADLINE;
  while (!condition() && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return condition();
}

/** Has a neighbour make exits while `waits` does whatever makes it wait. */
async function goesOn(stack: AsyncDisposableStack, waits: Vcpu): Promise<void> {
  const { vcpu } = await guest(stack, LEAVE);
  vcpu.resume();
  assert(await until(() => vcpu.counts.io > 0), "the neighbour does not run at all");
  waits.resume();
  assert(await until(() => waits.counts.io + waits.counts.mmio > 0));
  const before = vcpu.counts.io;
  await until(() => vcpu.counts.io > before + EXITS);
  assert(vcpu.counts.io > before + EXITS, `it made ${vcpu.counts.io - before} exits only`);
}

/** The registers of a device whose thread does not answer until the test does. */
function silentDevice(stack: AsyncDisposableStack): { region: MmioRegion; state: TransportState } {
  const state = TransportState.create({
    deviceId: 4,
    features: 1n << 32n,
    queueSizes: [16],
    config: new Uint8Array(0),
  });
  const wake = stack.use(eventFd());
  const region: MmioRegion = {
    base: VIRTIO_MMIO_ADDRESS,
    size: 0x1000,
    irq: 5,
    shared: state.buffer,
    fds: { wake: wake.fd, queue0: wake.fd },
  };
  return { region, state };
}

Deno.test({
  name: "a guest that resets a device waits for it alone, and goes on when it was reset",
  ignore: !hasKvm(),
  async fn() {
    await using stack = new AsyncDisposableStack();
    const { region, state } = silentDevice(stack);
    const { vcpu } = await guest(stack, RESET, [region]);
    await goesOn(stack, vcpu);
    assert(await until(() => state.get(Word.command) === 3), "activate and reset");
    const exits = vcpu.counts.mmio;
    assert.equal(state.get(Word.status), 15, "the status is 0 when the device has let go");
    for (let round = 1; round <= 3; round++) { // what the device's thread does
      state.set(Word.command, 0);
      state.set(Word.active, 0);
      Atomics.notify(state.words, Word.active);
      assert(await until(() => vcpu.counts.mmio === exits + 7 * round));
    }
    assert.deepEqual(await vcpu.stop(), { kind: "stopped" });
  },
});

for (
  const [how, code, Runner] of [
    ["byte by byte", FLOOD, HostedVcpu],
    ["by strings", FLOOD_BY_STRING, HostedVcpu],
    ["by strings, on a thread of its own", FLOOD_BY_STRING, VcpuThread],
  ] as const
) {
  Deno.test({
    name: `a guest that floods its console waits for it alone: ${how}`,
    ignore: !hasKvm(),
    async fn() {
      await using stack = new AsyncDisposableStack();
      const { vcpu, ring } = await guest(stack, code, [], Runner);
      await goesOn(stack, vcpu);
      const bytes: number[] = [];
      assert(await until(() => (bytes.push(...ring.drain()), bytes.length > 2500)));
      if (code === FLOOD_BY_STRING) { // no byte is lost or sent twice
        const string = Uint8Array.from({ length: 1000 }, (_, i) => code[i] ?? 0);
        bytes.forEach((byte, i) => assert.equal(byte, string[i % 1000], `byte ${i}`));
      }
      assert.deepEqual(await vcpu.stop(), { kind: "stopped" });
    },
  });
}
