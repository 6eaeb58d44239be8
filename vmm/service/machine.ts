/**
 * What the service needs of a microVM: an agent to talk to, and an end.
 *
 * @module
 */
import type { Client } from "@connectrpc/connect";
import type { InterpreterNeeds } from "../../agent/interpreter_needs.ts";
import type { Progress } from "../../base/progress.ts";
import type { ProgramConfig } from "../../builder/oci/manifest.ts";
import type { RootRequest } from "../../builder/artifacts.ts";
import type { WorkloadRunner } from "../../proto/gen/cloudlet/agent/agent_pb.ts";

/** The microVM that a run asks for. */
export interface MachineRequest {
  /** Id of the run; unique among the machines of this host. */
  readonly id: string;
  /** Name of the language whose image is needed, such as "python". */
  readonly language: string;
  /** Memory in MiB. */
  readonly memory: number;
  /** Number of virtual CPUs. */
  readonly vcpus: number;
  /** Debian packages added to those of the language. */
  readonly packages: readonly string[];
  /** The root file system, when it is not the language's own as it is. */
  readonly image?: MachineImage | undefined;
  /**
   * Names a prepared workload. The machine has it, when one was kept with it; otherwise it can be
   * kept when it has it.
   */
  readonly layer?: string | undefined;
  /**
   * What an interpreter that waits in the machine must know of the program, when that is more than
   * its language.
   */
  readonly needs?: InterpreterNeeds | undefined;
  /** Prepare the layer anew, although there is one. */
  readonly rebuild?: boolean;
  /** Gives up: the factory then rejects, and leaves nothing behind. */
  readonly signal: AbortSignal;
  /** Where fetching, building and booting are reported. */
  readonly progress: Progress;
}

/** A root file system: an OCI image or the language's own, with what is added to it. */
export type MachineImage = Omit<RootRequest, "language" | "packages">;

/** The copy of a machine that is asked for. */
export interface ForkRequest extends Pick<MachineRequest, "id" | "signal" | "progress"> {
  /** The execution, known to the agent, that shall survive in the copy. */
  readonly execution: string;
}

/** A running machine with an agent that answers. Disposing it ends everything that belongs to it. */
export interface Machine extends AsyncDisposable {
  /** The agent inside. */
  readonly agent: Client<typeof WorkloadRunner>;
  /** How the image wants its program started; undefined when it is the language's own. */
  readonly program?: ProgramConfig | undefined;
  /** Whether the workload that {@linkcode MachineRequest.layer} names is prepared in it. */
  readonly prepared?: boolean;
  /** Keeps the machine as it is for later requests of the same layer; absent where it cannot be. */
  readonly keep?: (() => Promise<void>) | undefined;
  /**
   * Makes a machine that goes on from where this one is now, which goes on as well.
   *
   * Whatever is connected to the agent is not connected to the copy's: it holds the execution that
   * was named until `attach` is called.
   */
  fork?(request: ForkRequest): Promise<Machine>;
  /** Resolves, with the reason in words, when the machine ends by itself. */
  readonly ended: Promise<string>;
  /** The last lines of the machine's console. */
  console(): string;
}

/** Makes machines. */
export type MachineFactory = (request: MachineRequest) => Promise<Machine>;
