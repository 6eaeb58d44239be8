/**
 * A guest that is Linux's own TCP, and the stack, beside the internet of internet.ts: in a network
 * namespace of its own.
 *
 * @module
 */
import assert from "node:assert/strict";
import { eventFd, signalEvent } from "../../ffi/eventfd.ts";
import { parseAddress } from "../../vmm/net/wire/ipv4.ts";
import type { NetworkEvent } from "../../vmm/net/gate.ts";
import type { Rule } from "../../vmm/net/policy.ts";
import { command, RESOLVER } from "./internet.ts";
import { openTap } from "./tap.ts";
import type { StackSays, StackStart } from "./tap_worker.ts";

const GUEST = "10.0.2.15";
const GATEWAY = "10.0.2.2";
const GUEST_MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const GATEWAY_MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x02);
const DNS = { address: parseAddress(RESOLVER)!, port: 53 };

/** How a world is. */
export interface WorldOptions {
  readonly mtu?: number;
  readonly segments?: boolean;
  readonly peekOffset?: boolean;
  readonly policy?: StackStart["policy"];
  readonly faults?: StackStart["faults"];
  /** passt takes the stack's place. */
  readonly passt?: boolean;
}

/** A rule for an address, as people write it. */
export function ruleFor(network: string, rest: Partial<Rule> = {}): Rule {
  const [address, bits = "32"] = network.split("/");
  const target = { kind: "network", address: parseAddress(address!)!, bits: Number(bits) } as const;
  return { action: "allow", target, text: network, ...rest };
}

/** All of the internet is allowed. */
export const OPEN = { rules: [], otherwise: "allow" } as const;

/** Starts passt; returns its socket. */
async function startPasst(stack: AsyncDisposableStack, mtu: number): Promise<string> {
  // It wants an interface with a route to anywhere; the other end of this one is nowhere.
  await command("ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1");
  stack.defer(async () => void await command("ip", "link", "del", "out0"));
  await command("ip", "addr", "add", "192.0.2.2/24", "dev", "out0");
  for (const end of ["out0", "out1"]) await command("ip", "link", "set", end, "up");
  await command("ip", "route", "add", "default", "via", "192.0.2.1");
  const directory = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const path = `${directory}/passt`;
  const addresses = ["-a", GUEST, "-n", "24", "-g", GATEWAY, "-m", String(mtu)];
  const child = new Deno.Command("passt", {
    args: ["-f", "-q", "-4", "-s", path, ...addresses],
    stdin: "null",
    stdout: "null",
  }).spawn();
  stack.defer(async () => {
    try {
      child.kill("SIGKILL");
    } catch { /* it has ended */ }
    await child.status;
  });
  for (let i = 0; i < 200; i++) {
    if (await Deno.stat(path).then(() => true, () => false)) return path;
    await new Promise((go) => setTimeout(go, 20));
  }
  throw new Error("passt does not start");
}

/** A running world. */
export class World implements AsyncDisposable {
  readonly events: NetworkEvent[] = [];
  readonly #stack: AsyncDisposableStack;
  readonly #ask: number;
  readonly #holder: number;
  #waiting: ((counters: Readonly<Record<string, number>>) => void)[] = [];

  private constructor(stack: AsyncDisposableStack, worker: Worker, ask: number, holder: number) {
    this.#stack = stack;
    this.#ask = ask;
    this.#holder = holder;
    worker.onmessage = ({ data }: MessageEvent<StackSays>) => {
      if (data.kind === "event") this.events.push(data.event as NetworkEvent);
      else this.#waiting.shift()?.(data.counters);
    };
  }

  static async start(options: WorldOptions = {}): Promise<World> {
    const { mtu = 1500, segments = true, faults, peekOffset = true } = options;
    const policy = "policy" in options ? options.policy : OPEN;
    await using stack = new AsyncDisposableStack();
    // The guest's namespace is there for as long as a process is in it.
    const holder = new Deno.Command("unshare", {
      args: ["--net", "sh", "-c", "echo; exec cat"],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    stack.defer(async () => {
      await holder.stdin.close();
      await holder.stdout.cancel();
      await holder.status;
    });
    const reader = holder.stdout.getReader();
    await reader.read();
    reader.releaseLock();
    const tap = stack.use(openTap("eth0", segments));
    await command("ip", "link", "set", "eth0", "netns", String(holder.pid));
    const ask = stack.use(eventFd());
    const end = stack.use(eventFd());
    const worker = new Worker(new URL("./tap_worker.ts", import.meta.url), { type: "module" });
    worker.onerror = (event) => {
      console.error(event.message);
      Deno.exit(3);
    };
    stack.defer(async () => {
      signalEvent(end.fd);
      await new Promise((resolve) => setTimeout(resolve, 20));
      worker.terminate();
    });
    const passt = options.passt === true ? await startPasst(stack, mtu) : undefined;
    const start: StackStart = {
      passt,
      tap: tap.fd,
      ask: ask.fd,
      end: end.fd,
      mtu,
      segments,
      policy,
      upstreams: [DNS],
      guestMac: GUEST_MAC,
      gatewayMac: GATEWAY_MAC,
      guest: parseAddress(GUEST)!,
      gateway: parseAddress(GATEWAY)!,
      peekOffset,
      faults,
    };
    const world = new World(stack.move(), worker, ask.fd, holder.pid);
    const ready = world.#next();
    worker.postMessage(start);
    await ready;
    const mac = [...GUEST_MAC].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
    // A ring of virtio makes the guest wait when it is full; a TAP's loses what comes then.
    await world.shell(
      `ip link set lo up && ip link set eth0 address ${mac} mtu ${mtu} txqueuelen 10000 up &&
      ip addr add ${GUEST}/24 dev eth0 && ip route add default via ${GATEWAY}`,
    );
    return world;
  }

  #next(): Promise<Readonly<Record<string, number>>> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** What the stack counts. */
  counters(): Promise<Readonly<Record<string, number>>> {
    const next = this.#next();
    signalEvent(this.#ask);
    return next;
  }

  /** Waits until the stack counts what is wanted. */
  async until(wanted: (counters: Readonly<Record<string, number>>) => boolean): Promise<void> {
    let counters = await this.counters();
    for (const end = performance.now() + 20_000; !wanted(counters);) {
      assert(performance.now() < end, JSON.stringify(counters));
      await new Promise((resolve) => setTimeout(resolve, 50));
      counters = await this.counters();
    }
  }

  /** Runs a shell script in the guest. */
  shell(script: string): Promise<string> {
    const args = ["--target", String(this.#holder), "--net", "sh", "-c", script];
    return command("nsenter", ...args);
  }

  /** Runs a command of guest_program.ts in the guest; what it prints is JSON. */
  async guest(
    name: string,
    ...args: (string | number)[]
    // deno-lint-ignore no-explicit-any -- each command has a result of its own
  ): Promise<Record<string, any>> {
    const program = new URL("./guest_program.ts", import.meta.url).pathname;
    const inside = [
      Deno.execPath(),
      "run",
      "-A",
      "--no-check",
      program,
      name,
      ...args.map(String),
    ];
    const output = await command("nsenter", "--target", String(this.#holder), "--net", ...inside);
    return JSON.parse(output);
  }

  /** Segments that the guest has sent again. */
  async retransmitted(): Promise<number> {
    const lines = (await Deno.readTextFile(`/proc/${this.#holder}/net/snmp`)).split("\n")
      .filter((line) => line.startsWith("Tcp:")).map((line) => line.split(" "));
    return Number(lines[1]![lines[0]!.indexOf("RetransSegs")]);
  }

  /** What is left in the end. */
  async ended(): Promise<{ readonly retransmitted: number; readonly tapLost: number }> {
    const { tapLost } = await this.counters();
    return { retransmitted: await this.retransmitted(), tapLost: tapLost! };
  }

  /** How many descriptors this process has. */
  descriptors(): number {
    return [...Deno.readDirSync("/proc/self/fd")].length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
