/**
 * A run under way: what belongs to it, what is written down of it, and its one end.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import {
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { MachineNetwork } from "../node/network.ts";
import type { Machine } from "../node/node.ts";
import type { LogStream, RunChange, RunOutcome, RunState, RunStore } from "./run_store.ts";

/** How a run ended. */
export type Verdict = RunChange & { readonly outcome: RunOutcome };

const utf8 = new TextEncoder();
/** The states of a run under way, in the order in which it has them. */
const ORDER: readonly RunState[] = ["pending", "building", "running"];

/** A run under way. */
export class ActiveRun {
  readonly #store: RunStore;
  readonly #onEnd: () => void;
  readonly #abort = new AbortController();
  readonly #resources = new AsyncDisposableStack();
  readonly #known = Promise.withResolvers<Machine>();
  readonly #ended = Promise.withResolvers<void>();
  #machine: Machine | undefined;
  #verdict: Verdict | undefined;
  #state: RunState = "pending";
  #writesFail = false;

  /** What its program may reach and what reaches it, if anything. */
  network: MachineNetwork | undefined;
  /** Its id as the agent knows it: that of the run of which it is a fork, in the end. */
  readonly agentId: string;

  /**
   * @param id of the run, which the store knows already
   * @param store where it is written down
   * @param onEnd called when everything of it is gone
   * @param agentId when the agent knows it by another id
   */
  constructor(readonly id: string, store: RunStore, onEnd: () => void, agentId = id) {
    this.agentId = agentId;
    this.#store = store;
    this.#onEnd = onEnd;
    this.#known.promise.catch(() => {}); // nobody has to wait for it
  }

  /** Aborted when the run ends before its time. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** How it ended, once it has. */
  get verdict(): Verdict | undefined {
    return this.#verdict;
  }

  /** Resolves when the run has ended and everything of it is gone. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** The machine, once its agent knows the execution. */
  get machine(): Machine | undefined {
    return this.#machine;
  }

  /** The same, awaited, once its program takes input; rejects when the run ends before. */
  get whenAgentKnows(): Promise<Machine> {
    return this.#known.promise;
  }

  /** Takes something that is to be disposed when the run ends, the last taken first. */
  own(resource: Disposable | AsyncDisposable): void {
    if (!this.#resources.disposed) return void this.#resources.use(resource);
    // The run ended while the resource was being made.
    const late = new AsyncDisposableStack();
    late.use(resource);
    void this.#dispose(late);
    this.#abort.signal.throwIfAborted();
  }

  /** The machine is there. */
  started(): void {
    this.#writeDown((store) => store.update(this.id, { startedAt: Date.now() }));
  }

  /**
   * The agent has answered.
   *
   * @param runs whether it is about the program itself, which takes input, not about its preparation
   */
  agentKnows(machine: Machine, runs: boolean): void {
    this.#machine = machine;
    if (runs) this.#known.resolve(machine);
  }

  /** Writes down what the agent said. */
  note(event: ExecuteResponse): void {
    const state = event.stage === Stage.BUILDING
      ? "building"
      : event.stage === Stage.RUNNING
      ? "running"
      : this.#state;
    if (ORDER.indexOf(state) > ORDER.indexOf(this.#state)) { // a guest may say anything, again and again
      this.#state = state;
      this.#writeDown((store) => store.update(this.id, { state }));
    }
    const stdout = event.stdoutBytes ?? event.stdout;
    const stderr = event.stderrBytes ?? event.stderr;
    if (stdout !== undefined) this.log("stdout", stdout);
    if (stderr !== undefined) this.log("stderr", stderr);
  }

  /** Keeps a piece of output. */
  log(stream: LogStream, data: Uint8Array | string): void {
    const bytes = typeof data === "string" ? utf8.encode(data) : data;
    this.#writeDown((store) => store.log(this.id, stream, bytes));
  }

  /** Ends the run because something broke; the reason reaches the client. */
  fail(error: CloudletError): void {
    void this.#end({ outcome: "error", message: error.message }, error);
  }

  /** Ends the run; only the first call decides how. Resolves when everything of it is gone. */
  end(verdict: Verdict): Promise<void> {
    return this.#end(
      verdict,
      new CloudletError(`Cannot go on with the run: ${verdict.message ?? verdict.outcome}`, {
        code: "cancelled",
      }),
    );
  }

  /** Never throws or rejects: a run that ends leaves nothing behind, whatever breaks meanwhile. */
  async #end(verdict: Verdict, reason: CloudletError): Promise<void> {
    if (this.#verdict !== undefined) return await this.ended;
    this.#verdict = verdict;
    // At once: a client that learns of the end may ask for the record.
    this.#writeDown((store) =>
      store.update(this.id, { state: "failed", ...verdict, endedAt: Date.now() })
    );
    this.#abort.abort(reason);
    this.#known.reject(reason);
    await this.#dispose(this.#resources);
    try {
      this.#onEnd();
    } catch (error) {
      console.error(`Cannot tell that the run ${this.id} has ended:`, error);
    } finally {
      this.#ended.resolve();
    }
  }

  async #dispose(resources: AsyncDisposableStack): Promise<void> {
    try {
      await resources.disposeAsync();
    } catch (error) {
      console.error(`Cannot clean up after the run ${this.id}:`, error);
    }
  }

  /** The run does not depend on its record: the disk may be full. It is said once. */
  #writeDown(write: (store: RunStore) => void): void {
    try {
      write(this.#store);
    } catch (error) {
      if (!this.#writesFail) console.error(messageOf(error));
      this.#writesFail = true;
    }
  }
}
