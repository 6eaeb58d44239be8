/**
 * The second run: what a snapshot saves.
 *
 * @module
 */
import { join } from "node:path";
import { agentBehind, connectAgent } from "../agent/client.ts";
import { Workshop } from "../builder/workshop.ts";
import { AHEAD } from "../vmm/service/identity.ts";
import { listSnapshots, snapshotStore } from "../vmm/snapshot/cache.ts";
import { Snapshot } from "../vmm/snapshot/snapshot.ts";
import { hostMillis } from "../vmm/vcpu_control.ts";
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

/** How far a restored microVM is, and when: "restored" is not "serving". */
async function benchStages(): Promise<void> {
  await (await pythonMachine("bench"))[Symbol.asyncDispose](); // makes the snapshot; uses it last of all
  const image = await new Workshop().image("python");
  const [last] = await listSnapshots();
  const times = {
    shell: [] as number[],
    entered: [] as number[],
    both: [] as number[],
    answer: [] as number[],
    byte: [] as number[],
    host: [] as number[],
  };
  let failures = 0;
  for (let i = 0; i < STAGES; i++) {
    const directory = await Deno.makeTempDir();
    try {
      const socket = join(directory, "vsock");
      const start = hostMillis();
      await using vm = await Vm.shell({
        memory: MEMORY << 20,
        vcpus: 1,
        devices: { pmem: [{ path: image.path }], vsock: { cid: 3 + i, path: socket }, rng: true },
      });
      using snapshot = Snapshot.open(join(snapshotStore().root, last!.key));
      const ready = hostMillis();
      const clockStepNs = snapshot.restore(vm) - AHEAD;
      vm.resume();
      const agent = connectAgent(agentBehind(socket));
      const entropy = crypto.getRandomValues(new Uint8Array(64));
      await agent.resume({ entropy, clockNs: BigInt(Date.now()) * 1_000_000n, clockStepNs });
      const answer = hostMillis();
      for await (const { stdoutBytes } of runHello(agent, HELLO)) {
        if (stdoutBytes === undefined) continue;
        times.byte.push(hostMillis() - ready);
        break;
      }
      const { enteredAt: entered } = vm.timeline;
      times.shell.push(ready - start);
      times.entered.push(entered - ready);
      times.both.push(entered - start);
      times.answer.push(answer - ready);
    } catch (error) {
      failures++;
      console.error(error);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
    times.host.push(await hostFirstByte());
  }
  const stage = (what: string, ours: number[], peer = "", theirs: number[] = []) =>
    report({ what, unit: "ms", peer, ours, theirs });
  stage("making a shell", times.shell);
  stage("ready shell to the guest's first instruction", times.entered);
  stage("nothing to the guest's first instruction", times.both);
  stage("ready shell to the agent's first answer", times.answer);
  stage("ready shell to the first byte", times.byte, "python3 on the host", times.host);
  console.log(`  ${STAGES - failures} of ${STAGES} restores succeeded`);
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
