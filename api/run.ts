/**
 * Running a program, as a library: in a microVM of this process, or on a server.
 *
 * @module
 */
import type { Transport } from "@connectrpc/connect";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { create } from "@bufbuild/protobuf";
import { fileURLToPath } from "node:url";
import { COMMAND, type LanguageName } from "../agent/languages.ts";
import { CloudletError } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import { formatReference, parseReference } from "../builder/oci/reference.ts";
import {
  LogLevel,
  type RunVmmRequest,
  RunVmmRequestSchema,
} from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { ACTIONS, languageNumber } from "./names.ts";
import { type ForkOptions, isStream, type Run, RunOfTransport } from "./run_stream.ts";
import { languageOfSource, readAddedFiles, readSource } from "./source.ts";

export type { ForkOptions, Run, RunEvent, RunOutput, RunResult, RunUsage } from "./run_stream.ts";

const utf8 = new TextEncoder();

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
  /** Variables added to the environment of building it. */
  readonly buildEnv?: Readonly<Record<string, string>>;
  /** Its standard input; empty when absent. */
  readonly stdin?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /** Milliseconds after which the program is killed. */
  readonly timeout?: number;
  /** True starts a new interpreter in place of the one that waits in the snapshot. */
  readonly cold?: boolean;
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
  return runOf(options, () => transportFor(options));
}

/** The same over a transport that is there already. */
export function runOver(transport: Transport, options: RunOptions): Run {
  return runOf(options, () => Promise.resolve(transport));
}

function runOf(options: RunOptions, transport: () => Promise<Transport>): Run {
  return new RunOfTransport({
    signal: options.signal,
    stdin: options.stdin,
    call: async (client, signal) => client.run(await toRequest(options), { signal }),
  }, transport);
}

/**
 * Copies a run of a server; see {@linkcode Run.fork}.
 *
 * @param server where it runs
 * @param id of the run
 * @param options of the copy
 */
export function forkRun(server: ServerAddress, id: string, options: ForkOptions = {}): Run {
  return new RunOfTransport({
    signal: options.signal,
    call: (client, signal) => {
      const request = { executionId: id, forkId: options.id ?? "", logLevel: LogLevel.INFO };
      return Promise.resolve(client.fork(request, { signal }));
    },
  }, async () => (await import("./remote.ts")).remoteTransport(server));
}

async function transportFor(options: RunOptions): Promise<Transport> {
  if (options.server !== undefined) {
    const { remoteTransport } = await import("./remote.ts");
    return remoteTransport(options.server);
  }
  const { embeddedTransport } = await import("./embedded.ts");
  return embeddedTransport(options);
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
      buildEnv: options.buildEnv ?? {},
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
      cold: options.cold ?? false,
      rawOutput: true,
    },
  });
}
