import assert from "node:assert/strict";
import { join } from "node:path";
import { Kvm } from "../kvm/kvm.ts";
import { MIB } from "../layout.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import { Vm } from "../vm.ts";
import { setBalloon } from "../devices/balloon/kind.ts";
import { typeAtConsole } from "../devices/console/kind.ts";
import { TransportState } from "../virtio/state.ts";
import { Devices } from "./devices.ts";

function hasKvm(): boolean {
  try {
    Kvm.open()[Symbol.dispose]();
    return true;
  } catch {
    return false;
  }
}

/** Puts something else in the place of the epoll descriptor of the thread that has these devices. */
function breakThread(devices: Devices): void {
  const { wake } = devices.regions[0]!.fds;
  const watching = [...Deno.readDirSync("/proc/self/fdinfo")].find(({ name }) => {
    try { // proc(5): "tfd" is a descriptor that an epoll instance watches
      const info = Deno.readTextFileSync(`/proc/self/fdinfo/${name}`);
      return new RegExp(`^tfd:\\s+${wake}\\s`, "m").test(info);
    } catch {
      return false; // closed meanwhile
    }
  });
  assert(watching !== undefined, "no thread watches the devices");
  const libc = Deno.dlopen("libc.so.6", {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    dup2: { parameters: ["i32", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
  });
  const other = libc.symbols.open(new TextEncoder().encode("/dev/null\0"), 0);
  assert.equal(libc.symbols.dup2(other, Number(watching.name)), Number(watching.name));
  libc.symbols.close(other);
  libc.close();
}

async function within<T>(promise: Promise<T>): Promise<T> {
  const deadline = Promise.withResolvers<never>();
  const timer = setTimeout(() => deadline.reject(new Error("nothing happened")), 60_000);
  try {
    return await Promise.race([promise, deadline.promise]);
  } finally {
    clearTimeout(timer);
  }
}

Deno.test("devices answer, and refuse what they do not have", async () => {
  using memory = GuestMemory.create(MIB);
  await using devices = await Devices.start({ rng: true, balloon: true }, memory);
  assert.deepEqual(await devices.statistics(), [
    { name: "rng", counters: {} },
    { name: "balloon", counters: { pages: 0, discardedBytes: 0 } },
  ]);
  setBalloon(devices, 4 * MIB);
  assert.throws(
    () => typeAtConsole(devices, new Uint8Array(1)),
    /Cannot reach the console: the VM has none/,
  );
});

Deno.test("from a save on devices change nothing, until the VM goes on", async () => {
  using memory = GuestMemory.create(MIB);
  await using devices = await Devices.start({ balloon: true }, memory);
  const target = async () => {
    await devices.statistics(); // answered after all that was asked before
    return new TransportState(devices.regions[0]!.shared).config[0];
  };
  const [before] = await devices.save();
  setBalloon(devices, 7 * 4096);
  assert.equal(await target(), 0);
  assert.deepEqual(await devices.save(), [before]);
  devices.thaw();
  assert.equal(await target(), 7);
  devices.thaw(); // a second one does nothing
  assert.equal(await target(), 7);
});

Deno.test("a thread that breaks is told to each VM of it, and what it held is let go", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const path = join(directory, "vsock");
    using memory = GuestMemory.create(MIB);
    await using one = await Devices.start({ vsock: { cid: 3, path } }, memory);
    await using other = await Devices.start({ rng: true }, memory);
    breakThread(one);
    one.statistics().catch(() => {}); // wakes the thread, which may answer before it breaks
    for (const devices of [one, other]) assert.match(await within(devices.broken), /epoll_wait/);
    await assert.rejects(other.statistics(), /Cannot ask the devices: they ended/);
    assert.throws(() => Deno.lstatSync(path), Deno.errors.NotFound);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test({
  name: "a VM ends when the thread of its devices breaks, and its outcome says so",
  ignore: !hasKvm(),
  async fn() {
    await using vm = await Vm.shell({ memory: 32 * MIB, devices: { rng: true } });
    breakThread(vm.devices);
    vm.devices.statistics().catch(() => {}); // wakes the thread
    const outcome = await within(vm.outcome);
    assert.equal(outcome.kind, "internal-error");
    assert.match(outcome.kind === "internal-error" ? outcome.message : "", /devices .*epoll_wait/);
  },
});
