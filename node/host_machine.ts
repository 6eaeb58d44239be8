/**
 * What a node needs of a machine of this host: an agent to talk to, and an end.
 *
 * @module
 */
import type { Client } from "@connectrpc/connect";
import type { Progress } from "../base/progress.ts";
import type { ProgramConfig } from "../builder/oci/manifest.ts";
import type { MachineNetwork, MachineNetworkEvent } from "./network.ts";
import type { MachineRequest } from "./node.ts";
import type { WorkloadRunner } from "../proto/gen/cloudlet/agent/agent_pb.ts";

/** The machine that is asked for, and who asks. */
export interface HostMachineRequest extends MachineRequest {
  /** Gives up: the factory then rejects, and leaves nothing behind. */
  readonly signal: AbortSignal;
  /** Where fetching, building and booting are reported. */
  readonly progress: Progress;
}

/** The copy of a machine that is asked for. */
export interface HostForkRequest extends Pick<HostMachineRequest, "id" | "signal" | "progress"> {
  /** The execution, known to the agent, that shall survive in the copy. */
  readonly execution: string;
  /** What the copy's programs may reach, from its first moment on. */
  readonly network?: MachineNetwork | undefined;
}

/** A running machine with an agent that answers. Disposing it ends everything that belongs to it. */
export interface HostMachine extends AsyncDisposable {
  /** The agent inside. */
  readonly agent: Client<typeof WorkloadRunner>;
  /** How the image wants its program started; undefined when it is the language's own. */
  readonly program?: ProgramConfig | undefined;
  /** Whether the workload that {@linkcode HostMachineRequest.layer} names is prepared in it. */
  readonly prepared?: boolean;
  /**
   * Keeps the machine as it is for later requests of the same layer; absent where it cannot be.
   *
   * @param call cancels and hears of it; those of the request when absent
   * @returns false when its snapshot could not be saved
   */
  readonly keep?:
    | ((call?: Pick<HostMachineRequest, "signal" | "progress">) => Promise<boolean>)
    | undefined;
  /** Keeps what was installed in it; absent where it cannot be. */
  keepDependencies?(key: string, signal: AbortSignal): Promise<void>;
  /**
   * Makes a machine that goes on from where this one is now, which goes on as well.
   *
   * Whatever is connected to the agent is not connected to the copy's: it holds the execution that
   * was named until `attach` is called.
   */
  fork?(request: HostForkRequest): Promise<HostMachine>;
  /**
   * Gives it a network, which programs can use when this resolves. Absent where there is none.
   *
   * @throws {CloudletError} `conflict` for a port that is taken
   */
  connect?(network: MachineNetwork, signal: AbortSignal): Promise<void>;
  /** What happens in its network, until `end` resolves; one reader at a time. */
  networkEvents?(end: Promise<unknown>): AsyncIterable<MachineNetworkEvent>;
  /** Resolves, with the reason in words, when the machine ends by itself. */
  readonly ended: Promise<string>;
  /** The last lines of the machine's console. */
  console(): string;
}

/** Makes machines. */
export type HostMachineFactory = (request: HostMachineRequest) => Promise<HostMachine>;

export type { MachineImage } from "./node.ts";
