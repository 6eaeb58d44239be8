/**
 * Running a program, as a library: in a microVM of this process, or on a server.
 *
 * @module
 */
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { create } from "@bufbuild/protobuf";
import { fileURLToPath } from "node:url";
import { COMMAND, type LanguageName } from "../agent/languages.ts";
import { CloudletError } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import {
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  type InputRequest,
  InputRequestSchema,
  SignalRequest_Signal as SignalNumber,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import {
  LogLevel,
  type RunVmmRequest,
  RunVmmRequestSchema,
  VmmService,
} from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { fromConnectError } from "../vmm/service/errors.ts";
import { outcomeName } from "../vmm/service/outcome.ts";
import { ACTIONS, languageNumber } from "./names.ts";
import { formatReference, parseReference } from "../builder/oci/reference.ts";
import { languageOfSource, readAddedFiles, readSource } from "./source.ts";

/** What to run, and how. */
export interface RunOptions {
  /**
   * Path or file URL of a source file or of a project directory. Either this or `code`, or neither
   * with an `image`: its own command is run then, or `args` in place of the command's arguments.
   */
  readonly source?: string | URL;
  /** The source text of a program of one file; needs `language`. */
  readonly code?: string;
  /** What it is written in; told by the name of a source file when absent. */
  readonly language?: LanguageName;
  /** The file of a project that is run, when it is not the language's default. */
  readonly entryPoint?: string;
  /**
   * What to do; `prepare-and-run` when absent. `prepare` keeps what it builds, and `run` of the same
   * files uses it.
   */
  readonly action?: "prepare" | "run" | "prepare-and-run";
  /** Build with optimisation. */
  readonly release?: boolean;
  /** Arguments of the program. */
  readonly args?: readonly string[];
  /** Variables added to its environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Its standard input; empty when absent. */
  readonly stdin?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /** Milliseconds after which the program is killed. */
  readonly timeout?: number;
  /** Memory of the microVM in MiB. */
  readonly memory?: number;
  /** Virtual CPUs of the microVM. */
  readonly vcpus?: number;
  /** Debian packages added to the language's image. */
  readonly packages?: readonly string[];
  /** The root file system: an OCI image as docker users write it, or more. The language's own when absent. */
  readonly image?: string | ImageOptions;
  /** `debian`, `built`, or a vmlinux; what suits the host when absent. In this process only. */
  readonly kernel?: string;
  /** False boots a microVM instead of restoring one from a snapshot; in this process only. */
  readonly snapshot?: boolean;
  /** A name for people. */
  readonly name?: string;
  /** Aborting it ends the run. */
  readonly signal?: AbortSignal;
  /** A server to run it on; in this process when absent. */
  readonly server?: ServerAddress;
  /** Hears of what is fetched, built and booted in this process. */
  readonly progress?: Progress;
}

/** A root file system. */
export interface ImageOptions {
  /**
   * An OCI image: `NAME[:TAG]`, `HOST/NAME[:TAG|@DIGEST]`, or one on this host's disk: `oci:DIR`,
   * `docker-archive:FILE`. The language's own image when absent.
   */
  readonly from?: string;
  /** Ask the registry what the tag means now, instead of using what it meant last. */
  readonly pull?: boolean;
  /** The registry may speak http. */
  readonly insecure?: boolean;
  /** Files and directories of this host to add, by the absolute path that they get in the image. */
  readonly files?: Readonly<Record<string, string | URL>>;
  /**
   * Shell commands that are run in a microVM, one after the other; what they change belongs to the
   * image, and is kept for the next runs.
   */
  readonly run?: readonly string[];
}

/** A cloudlet server. */
export interface ServerAddress {
  /** Such as `http://localhost:3000`. */
  readonly url: string;
  /** An API key, when the server wants one. */
  readonly key?: string;
}

/** One thing that happened. */
export type RunEvent =
  /** How far the run is. */
  | { readonly type: "stage"; readonly stage: "pending" | "building" | "running" }
  /** Output of the program, or of its compiler. */
  | { readonly type: "stdout" | "stderr"; readonly data: Uint8Array }
  /** What the service says about the run. */
  | { readonly type: "log"; readonly message: string }
  /** The end. */
  | { readonly type: "exit"; readonly result: RunResult };

/** How a run ended. */
export interface RunResult {
  /** Id of the run. */
  readonly id: string;
  /** The program's exit code; 128 plus the signal that ended it; 1 when nothing was started. */
  readonly exitCode: number;
  /** Whether the program ended by itself. */
  readonly ok: boolean;
  /** What ended it, such as `exited`, `timed-out` or `out-of-memory`. */
  readonly outcome: string;
  /** The same in words, when there is more to say. */
  readonly message: string;
  /** What the program used, when one ran. */
  readonly usage: RunUsage | undefined;
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
  /** Sends a signal to the program. */
  kill(signal?: "KILL" | "TERM" | "INT"): Promise<void>;
}

const STAGES: Partial<Record<Stage, "pending" | "building" | "running">> = {
  [Stage.PENDING]: "pending",
  [Stage.BUILDING]: "building",
  [Stage.RUNNING]: "running",
};

/**
 * Runs a program in a microVM of its own.
 *
 * Nothing is started before somebody iterates the run or asks for its result.
 *
 * @param options what to run, and how
 * @returns the run; dispose it to end it early
 * @throws {CloudletError} `invalid-input` when the options do not fit together
 *
 * @example Collect the output
 * ```ts
 * import { run } from "cloudlet";
 *
 * async function answer(): Promise<string> {
 *   const { stdout } = await run({ language: "python", code: "print(6 * 7)" }).output();
 *   return new TextDecoder().decode(stdout);
 * }
 * ```
 *
 * @example See the output as it comes
 * ```ts
 * import { run } from "cloudlet";
 *
 * async function show(source: string): Promise<number> {
 *   await using program = run({ source, args: ["10"], timeout: 60_000 });
 *   for await (const event of program) {
 *     if (event.type === "stdout") await Deno.stdout.write(event.data);
 *   }
 *   return (await program.result).exitCode;
 * }
 * ```
 */
export function run(options: RunOptions): Run {
  const given = [options.source, options.code].filter((value) => value !== undefined).length;
  if (given !== (fromOf(options.image) === undefined ? 1 : given % 2)) {
    throw new CloudletError("Cannot run the program: give one of source and code, or an image", {
      code: "invalid-input",
    });
  }
  return new RunOfTransport(options, () => transportFor(options));
}

/** The same over a transport that is there already. */
export function runOver(transport: Transport, options: RunOptions): Run {
  return new RunOfTransport(options, () => Promise.resolve(transport));
}

async function transportFor(options: RunOptions): Promise<Transport> {
  if (options.server !== undefined) {
    const { remoteTransport } = await import("./remote.ts");
    return remoteTransport(options.server);
  }
  const { embeddedTransport } = await import("./embedded.ts");
  return embeddedTransport(options);
}

const utf8 = new TextEncoder();

class RunOfTransport implements Run {
  readonly #options: RunOptions;
  readonly #transport: () => Promise<Transport>;
  readonly #abort = new AbortController();
  readonly #result = Promise.withResolvers<RunResult>();
  readonly #known = Promise.withResolvers<{ client: Client<typeof VmmService>; id: string }>();
  #taken = false;

  constructor(options: RunOptions, transport: () => Promise<Transport>) {
    this.#options = options;
    this.#transport = transport;
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
    for await (const event of this) {
      if (event.type === "stdout" || event.type === "stderr") parts[event.type].push(event.data);
    }
    return {
      ...await this.#result.promise,
      stdout: concat(parts.stdout),
      stderr: concat(parts.stderr),
    };
  }

  async kill(signal: "KILL" | "TERM" | "INT" = "KILL"): Promise<void> {
    const { client, id } = await this.#known.promise;
    try {
      await client.signal({ executionId: id, signal: SignalNumber[signal] });
    } catch (error) {
      throw fromConnectError(error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort(
      new CloudletError("Cannot go on: the run was disposed", { code: "cancelled" }),
    );
    if (this.#taken) await this.#result.promise.catch(() => {});
  }

  async *#events(): AsyncGenerator<RunEvent> {
    const { signal } = this.#options;
    const over = new AbortController(); // ends the feeding of standard input
    try {
      const request = await toRequest(this.#options);
      const client = createClient(VmmService, await this.#transport());
      const stop = AbortSignal.any([this.#abort.signal, ...(signal ? [signal] : [])]);
      stop.throwIfAborted();
      let stage: Stage | undefined;
      let id = "";
      for await (const response of client.run(request, { signal: stop })) {
        if (response.executionId !== "" && id === "") {
          id = response.executionId;
          this.#known.resolve({ client, id });
          if (isStream(this.#options.stdin)) {
            void feed(client, id, this.#options.stdin, over.signal);
          }
        }
        if (response.stage !== stage) {
          const name = STAGES[response.stage];
          if (name !== undefined) {
            stage = response.stage;
            yield { type: "stage", stage: name };
          }
        }
        yield* outputOf(response);
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

/** The OCI image that is asked for, if any. */
function fromOf(image: RunOptions["image"]): string | undefined {
  return typeof image === "string" ? image : image?.from;
}

async function toImage(image: string | ImageOptions) {
  const { from, pull, insecure, files, run } = typeof image === "string" ? { from: image } : image;
  return {
    // a path of this process's directory means the same to the service
    from: from === undefined ? "" : formatReference(parseReference(from)),
    pull: pull ?? false,
    insecure: insecure ?? false,
    files: await readAddedFiles(files ?? {}),
    run: [...run ?? []],
  };
}

function isStream(stdin: RunOptions["stdin"]): stdin is AsyncIterable<Uint8Array> {
  return typeof stdin === "object" && !(stdin instanceof Uint8Array);
}

async function toRequest(options: RunOptions): Promise<RunVmmRequest> {
  const path = options.source instanceof URL ? fileURLToPath(options.source) : options.source;
  const source = path === undefined ? undefined : await readSource(path);
  const language = path === undefined && options.code === undefined
    ? COMMAND
    : options.language ?? (path === undefined ? undefined : await languageOfSource(path));
  if (language === undefined) {
    throw new CloudletError(
      `Cannot run ${path ?? "the code"}: its name does not tell its language`,
      { code: "invalid-input", remedy: "say which language it is" },
    );
  }
  const { stdin } = options;
  return create(RunVmmRequestSchema, {
    workloadName: options.name ?? path?.split("/").findLast((part) => part !== "") ??
      fromOf(options.image) ?? language,
    language: languageNumber(language),
    code: options.code ?? "",
    logLevel: LogLevel.INFO,
    action: ACTIONS[options.action ?? "prepare-and-run"]!,
    memoryMib: options.memory ?? 0,
    vcpus: options.vcpus ?? 0,
    packages: [...options.packages ?? []],
    ...(options.image !== undefined && { image: await toImage(options.image) }),
    options: {
      args: [...options.args ?? []],
      env: options.env ?? {},
      release: options.release ?? false,
      ...(options.timeout !== undefined && { timeout: durationFromMs(options.timeout) }),
      files: source?.files.map(({ path, content, mode }) => ({ path, content, mode })) ?? [],
      entryPoint: options.entryPoint ?? source?.entryPoint ?? "",
      stdin: typeof stdin === "string"
        ? utf8.encode(stdin)
        : stdin instanceof Uint8Array
        ? stdin
        : new Uint8Array(),
      stdinStream: isStream(stdin),
      rawOutput: true,
    },
  });
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
    usage: usage && {
      wallTime: ms(usage.wallTime),
      userTime: ms(usage.userTime),
      systemTime: ms(usage.systemTime),
      peakMemory: Number(usage.peakMemoryBytes),
    },
  };
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
