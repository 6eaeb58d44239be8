/**
 * What the network card costs a machine without a network: the same machine with it and without it, in
 * turns. `CLOUDLET_BENCH_PAIRS` (200) restores each, `CLOUDLET_BENCH_BOOTS` (3) boots and snapshots each.
 *
 * @module
 */
import { join } from "node:path";
import { agentBehind, connectAgent, KEEP_ALIVE, listenForReady } from "../agent/client/client.ts";
import { silentProgress } from "../base/progress.ts";
import { Builder } from "../builder/artifacts.ts";
import { KERNEL_ARGUMENTS } from "../node/boot.ts";
import { BEHIND, newIdentity } from "../node/clone_identity.ts";
import { hardwareOf, vmConfig } from "../node/hardware.ts";
import { untilReady } from "../node/readiness.ts";
import { untilIdle, warmUp } from "../node/warm_up.ts";
import { saveSnapshot, Snapshot } from "../vmm/snapshot/snapshot.ts";
import { defaultKernel } from "../vmm/host_traits.ts";
import { hostMillis } from "../vmm/vcpu/vcpu_control.ts";
import { Vm } from "../vmm/vm.ts";
import { MEMORY, runHello } from "./python_machine.ts";
import { percentile, report } from "./report.ts";

const PAIRS = Number(Deno.env.get("CLOUDLET_BENCH_PAIRS") ?? 200);
const BOOTS = Number(Deno.env.get("CLOUDLET_BENCH_BOOTS") ?? 3);
const BOOT_TIMEOUT = 300_000;
const RESAMPLES = 2000;

interface Times {
  readonly boot: number[];
  readonly save: number[];
  readonly first: number[];
  readonly byte: number[];
}

const noTimes = (): Times => ({ boot: [], save: [], first: [], byte: [] });
const never = new AbortController().signal;

/** One of the two machines. */
class Side {
  readonly times = noTimes();
  #made = 0;

  constructor(readonly card: boolean, readonly image: string, readonly directory: string) {}

  #config(socket: string) {
    const hardware = hardwareOf({ image: this.image }, { memory: MEMORY, vcpus: 1 });
    const config = vmConfig(hardware, socket, silentProgress);
    const { net: _, ...bare } = config.devices;
    return this.card ? config : { ...config, devices: bare };
  }

  #path(name: string): string {
    return join(this.directory, `${this.card ? "card" : "bare"}-${name}`);
  }

  get #snapshot(): string {
    return this.#path("snapshot");
  }

  /** Boots one and saves it with an idle interpreter. */
  async boot(): Promise<void> {
    const files = await new Builder().bootFiles(defaultKernel(), 1);
    const socket = this.#path(`boot-${this.#made++}`);
    using listener = listenForReady(socket);
    const start = hostMillis();
    await using vm = await Vm.create({
      ...this.#config(socket),
      ...files,
      cmdline: KERNEL_ARGUMENTS,
    });
    vm.resume();
    await untilReady(vm, listener.ready, never, BOOT_TIMEOUT);
    this.times.boot.push(hostMillis() - start);
    const agent = connectAgent(agentBehind(socket));
    await agent.resume({ ...newIdentity(), clockStepNs: 0n });
    await warmUp(agent, "python", never);
    await untilIdle(vm, never);
    await vm.pause();
    await Deno.remove(this.#snapshot, { recursive: true }).catch(() => {});
    await Deno.mkdir(this.#snapshot);
    const saving = hostMillis();
    await saveSnapshot(vm, this.#snapshot, {});
    this.times.save.push(hostMillis() - saving);
  }

  /** From nothing to the guest's first instruction, and to a program's first byte. */
  async restore(): Promise<void> {
    const socket = this.#path(`clone-${this.#made++}`);
    const start = hostMillis();
    await using vm = await Vm.shell(this.#config(socket));
    using snapshot = await Snapshot.open(this.#snapshot);
    const clockStepNs = snapshot.restore(vm) + BEHIND;
    vm.resume();
    const agent = connectAgent(agentBehind(socket));
    await agent.resume({ ...newIdentity(), clockStepNs }, KEEP_ALIVE);
    for await (const { stdoutBytes } of runHello(agent, 'print("hello")\n')) {
      if (stdoutBytes === undefined) continue;
      this.times.byte.push(hostMillis() - start);
      break;
    }
    this.times.first.push(vm.timeline.enteredAt - start);
  }
}

/** The interval that holds the ratio of the medians 95 times in 100: pairs drawn anew, with replacement. */
function interval(ours: readonly number[], theirs: readonly number[]): [number, number] {
  const ratios = Array.from({ length: RESAMPLES }, () => {
    const drawn = ours.map(() => Math.floor(Math.random() * ours.length));
    const median = (values: readonly number[]) => percentile(drawn.map((i) => values[i]!), 0.5);
    return median(ours) / median(theirs);
  });
  return [percentile(ratios, 0.025), percentile(ratios, 0.975)];
}

/** Both machines, in turns. */
export async function benchNic(): Promise<void> {
  const { path: image } = await new Builder().image("python");
  const directory = await Deno.makeTempDir();
  const [card, bare] = [true, false].map((has) => new Side(has, image, directory)) as [Side, Side];
  const both = async (step: (side: Side) => Promise<void>, i: number) => {
    // Who comes first, after the other one's leaving, changes each time.
    for (const side of i % 2 === 0 ? [card, bare] : [bare, card]) await step(side);
  };
  try {
    for (let i = 0; i < BOOTS; i++) await both((side) => side.boot(), i);
    for (let i = 0; i < PAIRS; i++) await both((side) => side.restore(), i);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
  const rows: [keyof Times, string][] = [
    ["boot", "a boot, to the agent's word"],
    ["save", "a snapshot"],
    ["first", "nothing to the guest's first instruction"],
    ["byte", "nothing to the first byte"],
  ];
  for (const [key, what] of rows) {
    const [ours, theirs] = [card.times[key], bare.times[key]];
    const [low, high] = interval(ours, theirs).map((value) => value.toFixed(3));
    const remark = `the ratio is in ${low} to ${high} (95 %)`;
    const comparison = { what, unit: "ms", peer: "the same without a card", ours, theirs };
    report(ours.length < 20 ? comparison : { ...comparison, remark });
  }
}

if (import.meta.main) await benchNic();
