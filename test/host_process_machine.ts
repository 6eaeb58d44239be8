/**
 * For tests of the service where there is no /dev/kvm: the same agent with the same calls, but as a
 * process of this host on a Unix socket. It isolates nothing.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { connectAgent } from "../agent/client/client.ts";
import { PreparedWorkloads } from "../service/prepared.ts";
import type { HostMachine, HostMachineFactory, HostMachineRequest } from "../node/host_machine.ts";

const AGENT = fileURLToPath(new URL("../agent/main.ts", import.meta.url));
const CONFIG = fileURLToPath(new URL("../deno.json", import.meta.url));

/** Starts agents below a temporary directory, which is removed with the last of them. */
export class HostProcessMachines implements AsyncDisposable {
  readonly #directory = Deno.makeTempDirSync({ prefix: "cloudlet-test-" });
  readonly #machines = new Set<HostProcessMachine>();
  /** Prepared workloads, kept below the same directory. */
  readonly prepared = new PreparedWorkloads(`${this.#directory}/workloads`);
  /** Machines started so far. */
  count = 0;

  /** Makes a machine. */
  readonly factory: HostMachineFactory = async (request) => {
    using task = request.progress.task(`Start the agent of ${request.id}`);
    const machine = await HostProcessMachine.start(`${this.#directory}/${++this.count}`, request);
    this.#machines.add(machine);
    void machine.gone.then(() => this.#machines.delete(machine));
    task.done();
    return machine;
  };

  /** Machines that run. */
  get running(): number {
    return this.#machines.size;
  }

  /** Kills the agents, as a crash of their machines would. */
  crash(): void {
    for (const machine of this.#machines) machine.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#machines].map((machine) => machine[Symbol.asyncDispose]()));
    await Deno.remove(this.#directory, { recursive: true });
  }
}

class HostProcessMachine implements HostMachine {
  readonly agent: HostMachine["agent"];
  readonly ended: Promise<string>;
  readonly gone: Promise<void>;
  readonly #process: Deno.ChildProcess;
  readonly #directory: string;

  private constructor(process: Deno.ChildProcess, directory: string) {
    this.#process = process;
    this.#directory = directory;
    this.ended = process.status.then(({ code }) => `the agent's process ended with code ${code}`);
    this.gone = process.status.then(() => {});
    this.agent = connectAgent({ unixPath: `${directory}/agent.sock`, vsockPort: undefined });
  }

  static async start(
    directory: string,
    { signal }: HostMachineRequest,
  ): Promise<HostProcessMachine> {
    signal.throwIfAborted();
    await Deno.mkdir(directory);
    const process = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", "--cached-only", "--config", CONFIG, AGENT],
        ...["--unix", `${directory}/agent.sock`, "--root", `${directory}/root`],
      ],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const machine = new HostProcessMachine(process, directory);
    try {
      await machine.#ready(signal);
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Waits for the line that the agent prints, and drops what it prints after that. */
  async #ready(signal: AbortSignal): Promise<void> {
    const lines = this.#process.stderr.pipeThrough(new TextDecoderStream());
    const ready = Promise.withResolvers<void>();
    void (async () => {
      let text = "";
      for await (const part of lines) {
        text = (text + part).slice(-4096);
        if (text.includes("agent: ready")) ready.resolve();
      }
      ready.reject(new Error(`the agent ended: ${text}`));
    })();
    const abort = () => ready.reject(signal.reason);
    signal.addEventListener("abort", abort);
    await ready.promise.finally(() => signal.removeEventListener("abort", abort));
  }

  console(): string {
    return "";
  }

  /** Kills the agent and all that it started, as the end of a microVM would. */
  kill(): void {
    // The agent first: it must not live to tell how its programs ended.
    for (const pid of [this.#process.pid, ...descendants(this.#process.pid)]) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await this.#process.status;
    await Deno.remove(this.#directory, { recursive: true });
  }
}

function descendants(of: number): number[] {
  const children = new Map<number, number[]>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // proc_pid_stat(5): the name, in parentheses, may hold anything; state and parent follow it
      const stat = Deno.readTextFileSync(`/proc/${name}/stat`);
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...children.get(parent) ?? [], Number(name)]);
    } catch {
      // it has ended
    }
  }
  const below = (pid: number): number[] =>
    (children.get(pid) ?? []).flatMap((child) => [child, ...below(child)]);
  return below(of);
}
