/**
 * A machine of the node in this process.
 *
 * @module
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { CloudletError } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import type {
  AttachRequestSchema,
  ExecuteRequestSchema,
  ExecuteResponse,
  InputRequest,
  InputResponse,
  SignalRequestSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { HostMachine } from "./host_machine.ts";
import type {
  CallOptions,
  CreateEvent,
  ForkRequest,
  KeepEvent,
  Machine,
  MachineFacts,
} from "./node.ts";
import type { MachineNetwork, MachineNetworkEvent } from "./network.ts";
import { eventProgress, progressQueue } from "./progress_events.ts";

/** What a machine needs of its node. */
export interface MachineOwner {
  /** Finds a place for a copy, and has it made. */
  fork(
    request: ForkRequest,
    make: (signal: AbortSignal, progress: Progress) => Promise<HostMachine>,
    options: CallOptions,
  ): AsyncIterable<CreateEvent>;
  /** The machine is gone: its place is free. */
  ended(): void;
}

/** See the module. */
export class LocalMachine implements Machine {
  readonly facts: MachineFacts;
  readonly ended: Promise<string>;
  /** The machine itself; for tests. */
  readonly host: HostMachine;
  readonly #owner: MachineOwner;
  #ending: Promise<void> | undefined;

  /**
   * @param id its name
   * @param host its own from now on
   * @param owner of its place
   */
  constructor(id: string, host: HostMachine, owner: MachineOwner) {
    this.host = host;
    this.#owner = owner;
    this.ended = host.ended;
    this.facts = {
      id,
      program: host.program,
      prepared: host.prepared === true,
      keepable: host.keep !== undefined,
      forkable: host.fork !== undefined,
    };
  }

  execute(
    request: MessageInitShape<typeof ExecuteRequestSchema>,
    options: CallOptions = {},
  ): AsyncIterable<ExecuteResponse> {
    return this.host.agent.execute(request, options);
  }

  attach(
    request: MessageInitShape<typeof AttachRequestSchema>,
    options: CallOptions = {},
  ): AsyncIterable<ExecuteResponse> {
    return this.host.agent.attach(request, options);
  }

  async signal(
    request: MessageInitShape<typeof SignalRequestSchema>,
    options: CallOptions = {},
  ): Promise<void> {
    await this.host.agent.signal(request, options);
  }

  input(
    requests: AsyncIterable<InputRequest>,
    options: CallOptions = {},
  ): Promise<InputResponse> {
    return this.host.agent.input(requests, options);
  }

  async connect(network: MachineNetwork, { signal }: CallOptions = {}): Promise<void> {
    if (this.host.connect === undefined) {
      throw new CloudletError(
        `Cannot give the machine ${this.facts.id} a network: it has no card`,
        {
          code: "conflict",
          remedy: "give a network to what runs in a microVM",
        },
      );
    }
    await this.host.connect(network, signal ?? new AbortController().signal);
  }

  async *networkEvents({ signal }: CallOptions = {}): AsyncGenerator<MachineNetworkEvent> {
    const { promise: left, resolve } = Promise.withResolvers<void>();
    if (signal?.aborted) return;
    const leave = () => resolve();
    signal?.addEventListener("abort", leave);
    try {
      yield* this.host.networkEvents?.(Promise.race([left, this.ended])) ?? [];
    } finally {
      signal?.removeEventListener("abort", leave);
    }
  }

  async keepDependencies(key: string, { signal }: CallOptions = {}): Promise<void> {
    if (this.host.keepDependencies === undefined) {
      throw new CloudletError(`Cannot keep what is in the machine ${this.facts.id}`, {
        code: "conflict",
        remedy: "install packages in a microVM",
      });
    }
    await this.host.keepDependencies(key, signal ?? new AbortController().signal);
  }

  async *keep({ signal }: CallOptions = {}): AsyncGenerator<KeepEvent> {
    const { keep } = this.host;
    if (keep === undefined) {
      throw new CloudletError(`Cannot keep the machine ${this.facts.id}: it has no layer`, {
        code: "conflict",
        remedy: "ask for a machine with a layer, from a node with snapshots",
      });
    }
    const events = progressQueue<KeepEvent>();
    const call = { signal: signal ?? new AbortController().signal };
    const progress = eventProgress((event) => events.push(event));
    yield { kind: "kept", kept: yield* events.during(keep({ ...call, progress })) };
  }

  fork(request: ForkRequest, options: CallOptions = {}): AsyncIterable<CreateEvent> {
    const { host, facts } = this;
    if (host.fork === undefined) {
      throw new CloudletError(`Cannot fork the machine ${facts.id}: it cannot be copied`, {
        code: "conflict",
        remedy: "fork what runs in a microVM",
      });
    }
    const make = (signal: AbortSignal, progress: Progress) =>
      host.fork!({ ...request, signal, progress });
    return this.#owner.fork(request, make, options);
  }

  console(): Promise<string> {
    return Promise.resolve(this.host.console());
  }

  end(): Promise<void> {
    return this.#ending ??= (async () => {
      try {
        await this.host[Symbol.asyncDispose]();
      } finally {
        this.#owner.ended();
      }
    })();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }
}
