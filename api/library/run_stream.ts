/**
 * A run as whoever asked for it sees it: its events, its end, and what can be done to it meanwhile.
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { create } from "@bufbuild/protobuf";
import { CloudletError } from "../../base/errors.ts";
import {
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  type InputRequest,
  InputRequestSchema,
  SignalRequest_Signal as SignalNumber,
} from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { type NetworkReport, toReport } from "../network.ts";
import { LogLevel, VmmService } from "../../proto/gen/vmmorchestrator/vmm_pb.ts";
import { fromConnectError } from "../../service/connect_errors.ts";
import type { OutputFiles, OutputPiece } from "./output_files.ts";
import { outcomeName } from "../../service/outcome.ts";

/** One thing that happened. */
export type RunEvent =
  /** How far the run is. */
  | { readonly type: "stage"; readonly stage: "pending" | "building" | "running" }
  /** Output of the program, or of its compiler. */
  | { readonly type: "stdout" | "stderr"; readonly data: Uint8Array }
  /** A piece of a file that was asked for; each file begins with one at the offset 0. */
  | { readonly type: "file" } & OutputPiece
  /** What happened in the program's network that its user may want to know. */
  | { readonly type: "network" } & NetworkReport
  /** What the service says about the run. */
  | { readonly type: "log"; readonly message: string }
  /** The end. */
  | { readonly type: "exit"; readonly result: RunResult };

/** How a run ended. */
export interface RunResult {
  /** Id of the run. */
  readonly id: string;
  /**
   * The program's exit code, or 128 plus the signal that ended it; 127 when the program is not there,
   * 126 when it cannot be executed, and 1 when nothing was started for another reason.
   */
  readonly exitCode: number;
  /** Whether the program ended by itself. */
  readonly ok: boolean;
  /** What ended it, such as `exited`, `timed-out` or `out-of-memory`. */
  readonly outcome: string;
  /** The same in words, when there is more to say. */
  readonly message: string;
  /** What the program used, when one ran. */
  readonly usage: RunUsage | undefined;
  /** How many bytes of its standard input were read, when it had any and that is known. */
  readonly inputRead?: number;
}

/** What a program and the children that it waited for used. */
export interface RunUsage {
  /** Milliseconds that it ran. */
  readonly wallTime: number;
  /** Milliseconds of processor time in user mode. */
  readonly userTime: number;
  /** Milliseconds of processor time in the kernel. */
  readonly systemTime: number;
  /** Largest resident set of one process, in bytes. */
  readonly peakMemory: number;
}

/** A result with everything that was written. */
export interface RunOutput extends RunResult {
  /** Standard output. */
  readonly stdout: Uint8Array;
  /** Standard error. */
  readonly stderr: Uint8Array;
  /** The files that were asked for. */
  readonly files: readonly OutputFile[];
}

/** A file that came back from a run. */
export interface OutputFile {
  /** As it was asked for; in a directory, with the names that lead to it. */
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  /** Its content. */
  readonly data: Uint8Array;
}

/** The copy of a run that is asked for. */
export interface ForkOptions {
  /** Its id; made up when absent. */
  readonly id?: string;
  /** Aborting it ends the copy. */
  readonly signal?: AbortSignal;
}

/** A run under way; iterate it to see what happens as it happens. */
export interface Run extends AsyncIterable<RunEvent>, AsyncDisposable {
  /**
   * How it ended. When nobody iterates, the events are dropped; so begin to iterate before you
   * await this.
   *
   * Rejects with a {@linkcode CloudletError} when the run could not be carried out. A program that
   * fails is no error: it has a result.
   */
  readonly result: Promise<RunResult>;
  /** Waits for the end and gives all that was written; instead of iterating. */
  output(): Promise<RunOutput>;
  /**
   * Copies the running program with its whole microVM: both go on from the same point, each with
   * random numbers, a clock and a host name of its own. The copy's events begin there. What the
   * program itself drew at random before, both have.
   *
   * Nothing is copied before somebody iterates the fork or asks for its result. It lives on when the
   * original ends.
   *
   * @param options of the copy
   * @returns the copy; it ends with `conflict` where the program does not run yet, or where nobody
   *   has iterated the original or asked for its result
   */
  fork(options?: ForkOptions): Run;
  /**
   * Sends a signal to the program, once the service has taken the run.
   *
   * Rejects with `conflict` when nobody has iterated the run or asked for its result.
   */
  kill(signal?: "KILL" | "TERM" | "INT"): Promise<void>;
}

const STAGES: Partial<Record<Stage, "pending" | "building" | "running">> = {
  [Stage.PENDING]: "pending",
  [Stage.BUILDING]: "building",
  [Stage.RUNNING]: "running",
};

const utf8 = new TextEncoder();

/** What a {@linkcode RunOfTransport} follows. */
export interface Begin {
  /** Makes the call whose responses tell what happens. */
  readonly call: (
    client: Client<typeof VmmService>,
    signal: AbortSignal,
  ) => Promise<AsyncIterable<ExecuteResponse>>;
  /** Fed to the program when it is a stream. */
  readonly stdin?: string | Uint8Array | AsyncIterable<Uint8Array> | undefined;
  /** Aborting it ends the run. */
  readonly signal?: AbortSignal | undefined;
  /** The files that the call asked for; none when absent. */
  readonly outputs?: () => OutputFiles | undefined;
}

/** A run behind a transport. */
export class RunOfTransport implements Run {
  readonly #begin: Begin;
  readonly #transport: () => Promise<Transport>;
  readonly #abort = new AbortController();
  readonly #result = Promise.withResolvers<RunResult>();
  readonly #known = Promise.withResolvers<{ client: Client<typeof VmmService>; id: string }>();
  #taken = false;

  /**
   * @param begin what is followed
   * @param transport to the service; called when somebody wants to know
   */
  constructor(begin: Begin, transport: () => Promise<Transport>) {
    this.#begin = begin;
    let made: Promise<Transport> | undefined;
    this.#transport = () => made ??= transport(); // a copy's is the same: there the original runs
    this.#result.promise.catch(() => {}); // it is thrown to whoever iterates
    this.#known.promise.catch(() => {});
  }

  get result(): Promise<RunResult> {
    // Whoever iterates in this very turn, or did so before, gets the events.
    queueMicrotask(() => {
      if (!this.#taken) void this.#drain();
    });
    return this.#result.promise;
  }

  async #drain(): Promise<void> {
    try {
      for await (const _event of this);
    } catch {
      // the result has it
    }
  }

  [Symbol.asyncIterator](): AsyncIterator<RunEvent> {
    if (this.#taken) {
      throw new CloudletError("Cannot iterate the run: its events are being taken already", {
        code: "conflict",
        remedy: "iterate once, and not after output() or result",
      });
    }
    this.#taken = true;
    return this.#events();
  }

  async output(): Promise<RunOutput> {
    const parts: Record<"stdout" | "stderr", Uint8Array[]> = { stdout: [], stderr: [] };
    const files = new Map<string, { mode: number; pieces: Uint8Array[] }>();
    for await (const event of this) {
      if (event.type === "stdout" || event.type === "stderr") parts[event.type].push(event.data);
      if (event.type !== "file") continue;
      if (event.offset === 0) files.set(event.path, { mode: event.mode, pieces: [] });
      files.get(event.path)?.pieces.push(event.data);
    }
    return {
      ...await this.#result.promise,
      stdout: concatBytes(parts.stdout),
      stderr: concatBytes(parts.stderr),
      files: Array.from(files, ([path, { mode, pieces }]) => ({
        path,
        mode,
        data: concatBytes(pieces),
      })),
    };
  }

  async kill(signal: "KILL" | "TERM" | "INT" = "KILL"): Promise<void> {
    const { client, id } = await this.#whenKnown();
    try {
      await client.signal({ executionId: id, signal: SignalNumber[signal] });
    } catch (error) {
      throw fromConnectError(error);
    }
  }

  fork(options: ForkOptions = {}): Run {
    return new RunOfTransport({
      signal: options.signal,
      call: async (client, signal) => {
        const { id } = await this.#whenKnown();
        const request = { executionId: id, forkId: options.id ?? "", logLevel: LogLevel.INFO };
        return client.fork(request, { signal });
      },
    }, this.#transport);
  }

  /** The run, once the service has taken it. */
  async #whenKnown(): Promise<{ client: Client<typeof VmmService>; id: string }> {
    // What starts it may come later in this very turn.
    if (!this.#taken) await new Promise((resolve) => setTimeout(resolve, 0));
    if (this.#taken) return await this.#known.promise;
    throw new CloudletError("Cannot reach the run: nothing has started it", {
      code: "conflict",
      remedy: "iterate it, or ask for its result, first",
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort(
      new CloudletError("Cannot go on: the run was disposed", { code: "cancelled" }),
    );
    if (this.#taken) await this.#result.promise.catch(() => {});
  }

  async *#events(): AsyncGenerator<RunEvent> {
    const { signal, stdin } = this.#begin;
    const over = new AbortController(); // ends the feeding of standard input
    try {
      const client = createClient(VmmService, await this.#transport());
      const stop = AbortSignal.any([this.#abort.signal, ...(signal ? [signal] : [])]);
      stop.throwIfAborted();
      let stage: Stage | undefined;
      let id = "";
      let unfed = isStream(stdin) ? stdin : undefined;
      let later = false;
      for await (const response of await this.#begin.call(client, stop)) {
        if (response.executionId !== "" && id === "") {
          id = response.executionId;
          this.#known.resolve({ client, id });
        }
        later ||= response.inputLater;
        // A service that knows nothing of demand says neither.
        if (unfed && (response.inputWanted || (response.stage === Stage.RUNNING && !later))) {
          void feed(client, id, unfed, over.signal);
          unfed = undefined;
        }
        if (response.stage !== stage) {
          const name = STAGES[response.stage];
          if (name !== undefined) {
            stage = response.stage;
            yield { type: "stage", stage: name };
          }
        }
        yield* outputOf(response);
        if (response.output !== undefined) {
          const outputs = this.#begin.outputs?.();
          if (outputs !== undefined) yield { type: "file", ...outputs.take(response.output) };
        }
        if (response.stage === Stage.DONE || response.stage === Stage.FAILED) {
          const result = resultOf(response, id);
          this.#result.resolve(result);
          yield { type: "exit", result };
          return;
        }
      }
      throw new CloudletError("Cannot tell how the run ended: the service closed the stream", {
        code: "unavailable",
      });
    } catch (error) {
      const known = fromConnectError(error);
      this.#result.reject(known);
      this.#known.reject(known);
      throw known;
    } finally {
      over.abort();
      this.#abort.abort(); // when the iteration was left early
      const left = new CloudletError("Cannot tell how the run ended: it was left", {
        code: "cancelled",
      });
      this.#result.reject(left); // no effect once it is settled
      this.#known.reject(left);
    }
  }
}

/** Whether standard input comes piece by piece. */
export function isStream(
  stdin: Begin["stdin"],
): stdin is AsyncIterable<Uint8Array> {
  return typeof stdin === "object" && !(stdin instanceof Uint8Array);
}

/** Sends standard input; a program that ends or closes it is no error. */
async function feed(
  client: Client<typeof VmmService>,
  executionId: string,
  input: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  async function* requests(): AsyncGenerator<InputRequest> {
    yield create(InputRequestSchema, { executionId });
    for await (const data of input) {
      if (signal.aborted) return;
      yield create(InputRequestSchema, { data });
    }
    yield create(InputRequestSchema, { end: true });
  }
  try {
    await client.input(requests(), { signal });
  } catch {
    // The run is over or broken, and its own stream says how.
  }
}

function* outputOf(response: ExecuteResponse): Generator<RunEvent> {
  if (response.network !== undefined) {
    yield { type: "network", ...toReport(response.network) };
    return;
  }
  const stdout = response.stdoutBytes ?? encoded(response.stdout);
  const stderr = response.stderrBytes ?? encoded(response.stderr);
  if (response.stage === Stage.DEBUG) {
    if (response.stderr !== undefined) {
      yield { type: "log", message: response.stderr.replace(/\n$/, "") };
    }
    return;
  }
  if (stdout !== undefined) yield { type: "stdout", data: stdout };
  if (stderr !== undefined) yield { type: "stderr", data: stderr };
}

function encoded(text: string | undefined): Uint8Array | undefined {
  return text === undefined ? undefined : utf8.encode(text);
}

function resultOf(response: ExecuteResponse, id: string): RunResult {
  const { usage, outcome } = response;
  const ms = (duration: Parameters<typeof durationMs>[0] | undefined) =>
    duration === undefined ? 0 : durationMs(duration);
  return {
    id,
    exitCode: response.exitCode ?? (response.stage === Stage.DONE ? 0 : 1),
    ok: response.stage === Stage.DONE,
    outcome: outcome === undefined
      ? response.stage === Stage.DONE ? "exited" : "error"
      : outcomeName(outcome.kind),
    message: outcome?.message ?? "",
    ...(response.inputRead !== undefined && { inputRead: Number(response.inputRead) }),
    usage: usage && {
      wallTime: ms(usage.wallTime),
      userTime: ms(usage.userTime),
      systemTime: ms(usage.systemTime),
      peakMemory: Number(usage.peakMemoryBytes),
    },
  };
}
