/**
 * A node: the machines of one host, as the service sees them.
 *
 * A node may be in this process, in a child process of this host, or on another host. So requests,
 * events and results are plain data or protobuf messages, and each call has a form that a Connect
 * service can carry: one answer (a promise), a stream of answers (an `AsyncIterable` that comes
 * back), or a stream of requests (an `AsyncIterable` that goes in). The signal in
 * {@linkcode CallOptions} is the cancellation of the call. No other closure crosses this interface.
 *
 * Three things are apart: a run is the service's record, a {@linkcode Machine} is a guest that lives
 * until it is ended, and an execution is one program in it, named by `Options.execution_id`. A
 * machine may have many executions, at the same time or one after the other, and outlives them.
 *
 * @module
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { MissingFile } from "../workload/dependencies/missing.ts";
import type { InterpreterNeeds } from "../workload/interpreter_needs.ts";
import type { ProgramConfig } from "../builder/oci/manifest.ts";
import type { RootRequest } from "../builder/artifacts.ts";
import type {
  AttachRequestSchema,
  ExecuteRequestSchema,
  ExecuteResponse,
  InputRequest,
  InputResponse,
  SignalRequestSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { AdmissionLimits } from "./admission.ts";
import type { MachineNetwork, MachineNetworkEvent } from "./network.ts";
import type { ProgressEvent } from "./progress_events.ts";

/** How a call is made. */
export interface CallOptions {
  /** Cancels the call. It throws the signal's reason, as soon as nothing is left of it. */
  readonly signal?: AbortSignal;
}

/** How much a node has, and how much of it is in use. */
export interface Capacity {
  /** What there is. */
  readonly limits: AdmissionLimits;
  /** Machines that requests hold. */
  readonly machines: number;
  /** Memory of these machines in MiB. */
  readonly memory: number;
  /** What prewarmed VMs and paused clones hold; the node gives it up when a request needs it. */
  readonly idle: {
    /** Prewarmed VMs. */
    readonly machines: number;
    /** Their memory, and that of the paused clones, in MiB. */
    readonly memory: number;
  };
  /** Requests that wait for a place. */
  readonly queued: number;
}

/** One host's machines. */
export interface Node extends AsyncDisposable {
  /** How much there is and how much is in use: at this moment, or as a remote node last said. */
  readonly capacity: Capacity;
  /**
   * Makes a machine: takes a prewarmed VM, restores a snapshot or boots one. Waits in the node's
   * queue while there is no place for it.
   *
   * A caller that leaves the loop before the machine came cancels the call.
   *
   * @throws {CloudletError} `invalid-input` for what never fits, `exhausted` when the queue is full
   *   or the wait is too long, `guest` when the machine does not start, and what the builders throw
   */
  create(request: MachineRequest, options?: CallOptions): AsyncIterable<CreateEvent>;
  /** Whether a machine has kept, by {@linkcode Machine.keepDependencies}, what the key names. */
  hasDependencies(key: string): Promise<boolean>;
  /**
   * Which Debian packages have files that a build lacks, by the files' names.
   *
   * @param image a language, with its version or without one
   */
  packagesWith(
    image: string,
    files: readonly MissingFile[],
    options?: CallOptions,
  ): Promise<ReadonlyMap<string, string>>;
}

/** What {@linkcode Node.create} and {@linkcode Machine.fork} say; the machine comes last. */
export type CreateEvent = ProgressEvent | AdmittedEvent | MachineEvent;

/** The request left the queue: from now on it holds its memory. */
export interface AdmittedEvent {
  /** Which event it is. */
  readonly kind: "admitted";
}

/** The machine runs and its agent answers. The caller has to end it. */
export interface MachineEvent {
  /** Which event it is. */
  readonly kind: "machine";
  /** The machine. */
  readonly machine: Machine;
}

/** The machine that is asked for. */
export interface MachineRequest {
  /** Its name; unique among the machines of the node. */
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
   * What an idle interpreter in the machine must know of the program, when that is more than its
   * language.
   */
  readonly needs?: InterpreterNeeds | undefined;
  /** Whether an interpreter of the language waits in it; true when absent. */
  readonly idle?: boolean;
  /** Prepare the layer anew, although there is one. */
  readonly rebuild?: boolean;
}

/** A root file system: an OCI image or the language's own, with what is added to it. */
export type MachineImage = Omit<RootRequest, "language" | "packages">;

/** What is known of a machine from its beginning to its end. */
export interface MachineFacts {
  /** Its name. */
  readonly id: string;
  /** How the image wants its program started; undefined when it is the language's own. */
  readonly program: ProgramConfig | undefined;
  /** Whether the workload that {@linkcode MachineRequest.layer} names is prepared in it. */
  readonly prepared: boolean;
  /** Whether {@linkcode Machine.keep} can keep it for later requests of the same layer. */
  readonly keepable: boolean;
  /** Whether it can be copied. */
  readonly forkable: boolean;
}

/** A running machine whose agent answers. */
export interface Machine extends AsyncDisposable {
  /** What is known of it. */
  readonly facts: MachineFacts;
  /** Resolves with the reason, in words, when the machine ends by itself. */
  readonly ended: Promise<string>;

  /**
   * Prepares a workload, runs it, or both. The execution ends with the call.
   *
   * @throws {ConnectError} what the agent refused, or that its connection broke
   */
  execute(
    request: MessageInitShape<typeof ExecuteRequestSchema>,
    options?: CallOptions,
  ): AsyncIterable<ExecuteResponse>;
  /** Goes on with an execution that has no client, such as one in a fork. */
  attach(
    request: MessageInitShape<typeof AttachRequestSchema>,
    options?: CallOptions,
  ): AsyncIterable<ExecuteResponse>;
  /** Sends a signal to all processes of an execution. */
  signal(
    request: MessageInitShape<typeof SignalRequestSchema>,
    options?: CallOptions,
  ): Promise<void>;
  /** Feeds the standard input of an execution. */
  input(requests: AsyncIterable<InputRequest>, options?: CallOptions): Promise<InputResponse>;

  /**
   * Gives the machine a network, until it ends. Programs can use it when this resolves.
   *
   * @throws {CloudletError} `conflict` when a port is taken, or the machine has no network card
   */
  connect(network: MachineNetwork, options?: CallOptions): Promise<void>;
  /** What a person may want to know of its network, until the call or the machine ends. */
  networkEvents(options?: CallOptions): AsyncIterable<MachineNetworkEvent>;

  /**
   * Keeps what was installed in it (workload/dependencies/paths.ts) for machines whose image has it.
   *
   * @param key names it
   * @throws {CloudletError} `invalid-input` when it is too large, `conflict` where nothing can be kept
   */
  keepDependencies(key: string, options?: CallOptions): Promise<void>;
  /** Keeps the machine as it is for later requests of its layer; it then goes on. */
  keep(options?: CallOptions): AsyncIterable<KeepEvent>;
  /**
   * Makes a machine that goes on from where this one is now, which goes on as well.
   *
   * No connection to this machine's agent exists in the copy. It holds the execution that was named
   * until {@linkcode attach} is called.
   *
   * @throws {CloudletError} `conflict` when this machine cannot be copied, and as
   *   {@linkcode Node.create}
   */
  fork(request: ForkRequest, options?: CallOptions): AsyncIterable<CreateEvent>;
  /** The last lines of its console. */
  console(options?: CallOptions): Promise<string>;
  /** Ends it. Resolves when its memory and its place are free; the same as disposing. */
  end(): Promise<void>;
}

/** The copy of a machine that is asked for. */
export interface ForkRequest {
  /** Its name, as in {@linkcode MachineRequest}. */
  readonly id: string;
  /** The execution that shall survive in the copy. */
  readonly execution: string;
  /**
   * What the copy's programs may reach, from its first moment on: connections of the original are
   * reset. None when absent.
   */
  readonly network?: MachineNetwork | undefined;
}

/** What {@linkcode Machine.keep} says; whether it was kept comes last. */
export type KeepEvent = ProgressEvent | {
  /** Which event it is. */
  readonly kind: "kept";
  /** False when the snapshot could not be saved, such as on a full disk; the machine goes on. */
  readonly kept: boolean;
};
