/**
 * The second run: what a snapshot saves.
 *
 * @module
 */
import { join } from "node:path";
import { agentBehind, connectAgent, KEEP_ALIVE } from "../agent/client/client.ts";
import { silentProgress } from "../base/progress.ts";
import { Builder } from "../builder/artifacts.ts";
import { BEHIND, newIdentity } from "../node/clone_identity.ts";
import { hardwareOf, vmConfig } from "../node/hardware.ts";
import { listSnapshots, snapshotStore } from "../node/snapshots.ts";
import { Snapshot } from "../vmm/snapshot/snapshot.ts";
import { hostMillis } from "../vmm/vcpu/vcpu_control.ts";
import { Vm } from "../vmm/vm.ts";
import { MEMORY, pythonMachine, runHello } from "./python_machine.ts";
import { inTurns, report } from "./report.ts";

const MAIN = new URL("../mod.ts", import.meta.url).pathname;
const TIMES = 10;

async function succeed(program: string, args: readonly string[]): Promise<void> {
  const { success, stdout } = await new Deno.Command(program, {
    args: [...args],
    stderr: "inherit",
  }).output();
  if (!success || new TextDecoder().decode(stdout) !== "hello\n") {
    throw new Error(`Cannot measure: ${program} ${args.join(" ")} did not say hello`);
  }
}

const STAGES = 30;
const HELLO = 'print("hello")\n';

/** Python on the host: milliseconds from its start to its first byte. */
async function hostFirstByte(): Promise<number> {
  const start = performance.now();
  const child = new Deno.Command("python3", { args: ["-c", HELLO], stdout: "piped" }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  const took = performance.now() - start;
  while (!(await reader.read()).done) { /* to its end */ }
  await child.status;
  return took;
}

/** An empty VM is ready when it was made some time ago. */
const SETTLE = 100; // ms

/** How far a restored microVM is, and when: "restored" is not "serving". */
async function benchStages(): Promise<void> {
  await (await pythonMachine("bench"))[Symbol.asyncDispose](); // makes the snapshot; uses it last of all
  const image = await new Builder().image("python");
  const [last] = await listSnapshots();
  const directory = await Deno.makeTempDir();
  const hardware = hardwareOf({ image: image.path }, { memory: MEMORY, vcpus: 1 });
  const shell = (name: string) =>
    Vm.shell(vmConfig(hardware, join(directory, name), silentProgress));
  const open = () => Snapshot.open(join(snapshotStore().root, last!.key));
  const times = {
    alone: [] as number[],
    beside: [] as number[],
    ready: [] as number[],
    waiting: [] as number[],
    answer: [] as number[],
    byte: [] as number[],
    host: [] as number[],
  };
  let right = 0;

  /** From nothing to the guest's first instruction. */
  async function entered(name: string): Promise<number> {
    const start = hostMillis();
    await using vm = await shell(name);
    using snapshot = await open();
    snapshot.restore(vm);
    vm.resume();
    while (vm.timeline.enteredAt === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    return vm.timeline.enteredAt - start;
  }

  try {
    for (let i = 0; i < STAGES; i++) times.alone.push(await entered("1"));
    // As in a server: another VM is there, and with it the threads that VMs share.
    await using _other = await shell("0");
    for (let i = 0; i < STAGES; i++) {
      times.beside.push(await entered("1"));
      try {
        await using vm = await shell("1");
        using snapshot = await open();
        await new Promise((resolve) => setTimeout(resolve, SETTLE));
        const start = hostMillis();
        const clockStepNs = snapshot.restore(vm) + BEHIND;
        const restored = hostMillis();
        vm.resume();
        const agent = connectAgent(agentBehind(join(directory, "1")));
        await agent.resume({ ...newIdentity(), clockStepNs }, KEEP_ALIVE);
        times.answer.push(hostMillis() - start);
        for await (const { stdoutBytes } of runHello(agent, HELLO)) {
          if (stdoutBytes === undefined) continue;
          times.byte.push(hostMillis() - start);
          break;
        }
        times.ready.push(vm.timeline.enteredAt - start);
        times.waiting.push(vm.timeline.enteredAt - restored);
        right++;
      } catch (error) {
        console.error(error);
      }
      times.host.push(await hostFirstByte());
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
  const stage = (what: string, ours: number[], peer = "", theirs: number[] = []) =>
    report({ what, unit: "ms", peer, ours, theirs });
  stage("nothing to the guest's first instruction, first VM of a process", times.alone);
  stage("nothing to the guest's first instruction, beside another VM", times.beside);
  stage("empty VM to the guest's first instruction", times.ready);
  stage("paused clone to the guest's first instruction", times.waiting);
  stage("empty VM to the agent's first answer", times.answer);
  stage("empty VM to the first byte", times.byte, "python3 on the host", times.host);
  console.log(`  ${right} of ${STAGES} restores succeeded`);
}

/** `cloudlet run hello.py` from a snapshot, beside a fresh boot and beside Python on the host. */
export async function benchSnapshot(): Promise<void> {
  await benchStages();
  const directory = await Deno.makeTempDir();
  try {
    const hello = join(directory, "hello.py");
    await Deno.writeTextFile(hello, HELLO);
    const cloudlet = (...flags: string[]) =>
      succeed(Deno.execPath(), ["run", "-A", "--quiet", MAIN, "run", "--quiet", ...flags, hello]);
    await cloudlet(); // makes the snapshot
    const host = await inTurns(TIMES, () => cloudlet(), () => succeed("python3", [hello]));
    report({
      what: "cloudlet run hello.py, again",
      unit: "ms",
      peer: "python3 on the host",
      ...host,
    });
    const boot = await inTurns(1, () => cloudlet(), () => cloudlet("--no-snapshot"));
    report({ what: "cloudlet run hello.py, again", unit: "ms", peer: "a fresh boot", ...boot });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

if (import.meta.main) await benchSnapshot();
