/**
 * Running a program, as a library: in a microVM of this process, or on a server.
 *
 * @module
 */
import type { Transport } from "@connectrpc/connect";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { create } from "@bufbuild/protobuf";
import { fileURLToPath } from "node:url";
import {
  COMMAND,
  type LanguageName,
  languageNamed,
  languageOrCommand,
} from "../../workload/languages.ts";
import { CloudletError } from "../../base/errors.ts";
import { splitLanguage } from "../../builder/image/versions.ts";
import { formatReference, parseReference } from "../../builder/oci/reference.ts";
import {
  LogLevel,
  type RunVmmRequest,
  RunVmmRequestSchema,
} from "../../proto/gen/vmmorchestrator/vmm_pb.ts";
import { ACTIONS, languageNumber, versionOf } from "../names.ts";
import { toBuildNetwork, toNetwork } from "../network.ts";
import {
  checkOptions,
  fromOf,
  type ImageOptions,
  type RunOptions,
  type ServerAddress,
} from "./options.ts";
import { type ForkOptions, isStream, type Run, RunOfTransport } from "./run_stream.ts";
import { OutputFiles } from "./output_files.ts";
import {
  languageOfSource,
  readAddedFiles,
  readSentFiles,
  readSource,
  withAdded,
} from "./source.ts";
import { lazyImport } from "../../base/lazy_import.ts";

export type { ImageOptions, RunOptions, ServerAddress, WrittenLanguage } from "./options.ts";
export type {
  ForkOptions,
  OutputFile,
  Run,
  RunEvent,
  RunOutput,
  RunResult,
  RunUsage,
} from "./run_stream.ts";
export type { OutputPiece } from "./output_files.ts";
export type {
  BuildNetworkOptions,
  NetworkOptions,
  NetworkReport,
  SecretOptions,
} from "../network.ts";

const utf8 = new TextEncoder();

/**
 * Runs a program in a microVM of its own; the library's `run` with nothing left to load.
 *
 * @param options what to run, and how
 * @returns the run; dispose it to end it early
 * @throws {CloudletError} `invalid-input` when the options do not fit together
 */
export function run(options: RunOptions): Run {
  checkOptions(options);
  return runOf(options, () => transportFor(options));
}

/** The same over a transport that is there already. */
export function runOver(transport: Transport, options: RunOptions): Run {
  return runOf(options, () => Promise.resolve(transport));
}

function runOf(options: RunOptions, transport: () => Promise<Transport>): Run {
  let outputs: OutputFiles | undefined;
  return new RunOfTransport({
    signal: options.signal,
    stdin: options.stdin,
    outputs: () => outputs,
    async call(client, signal) {
      const { request, directory } = await toRequest(options);
      if (options.outputs !== undefined && request.options !== undefined) {
        outputs = new OutputFiles(options.outputs, directory);
        request.options.outputs = [...outputs.paths];
      }
      return client.run(request, { signal });
    },
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
  return new RunOfTransport(
    {
      signal: options.signal,
      call: (client, signal) => {
        const request = { executionId: id, forkId: options.id ?? "", logLevel: LogLevel.INFO };
        return Promise.resolve(client.fork(request, { signal }));
      },
    },
    async () =>
      (await lazyImport<typeof import("../client/remote.ts")>(
        "../client/remote.ts",
        import.meta.url,
      )).remoteTransport(server),
  );
}

async function transportFor(options: RunOptions): Promise<Transport> {
  if (options.server !== undefined) {
    const { remoteTransport } = await lazyImport<typeof import("../client/remote.ts")>(
      "../client/remote.ts",
      import.meta.url,
    );
    return remoteTransport(options.server);
  }
  const { embeddedTransport } = await lazyImport<typeof import("../client/embedded.ts")>(
    "../client/embedded.ts",
    import.meta.url,
  );
  return embeddedTransport(options);
}

async function toImage(image: string | ImageOptions, remark: (text: string) => void) {
  const { from, pull, insecure, files, run } = typeof image === "string" ? { from: image } : image;
  return {
    // a path of this process's directory means the same to the service
    from: from === undefined ? "" : formatReference(parseReference(from)),
    pull: pull ?? false,
    insecure: insecure ?? false,
    files: await readAddedFiles(files ?? {}, remark),
    run: [...run ?? []],
  };
}

/** The name of a language that may be written with a version. */
function nameOf(written: RunOptions["language"]): LanguageName | undefined {
  return written === undefined ? undefined : languageNamed(splitLanguage(written).name).name;
}

/**
 * What the service is asked for, and the directory where the program runs, relative to the workload's
 * top.
 *
 * @throws {CloudletError} `not-found` or `invalid-input`
 */
export async function toRequest(
  options: RunOptions,
): Promise<{ readonly request: RunVmmRequest; readonly directory: string }> {
  const path = options.source instanceof URL ? fileURLToPath(options.source) : options.source;
  const { entryPoint, alone = false } = options;
  const known = options.language ??
    (path === undefined ? undefined : await languageOfSource(path, entryPoint));
  const source = path === undefined
    ? undefined
    : await readSource(path, { entryPoint, language: nameOf(known), alone });
  const written = path === undefined && options.code === undefined ? COMMAND : known;
  const remark = (text: string) => options.progress?.info(text);
  source?.remarks.forEach(remark);
  if (written === undefined) {
    throw new CloudletError(
      `Cannot run ${path ?? "the code"}: its name does not tell its language`,
      { code: "invalid-input", remedy: "say which language it is" },
    );
  }
  const { name: language, version } = splitLanguage(written);
  const { stdin } = options;
  const directory = source?.workingDirectory ?? "";
  const added = await readSentFiles(options.files ?? {}, directory, remark);
  const host = options.hostConfig === true ? await configOfHost(language, remark) : undefined;
  const request = create(RunVmmRequestSchema, {
    workloadName: options.name ?? path?.split("/").findLast((part) => part !== "") ??
      fromOf(options.image) ?? language,
    runName: options.runName ?? "",
    language: languageNumber(languageOrCommand(language).name),
    languageVersion: versionOf(language, version),
    code: options.code ?? "",
    logLevel: LogLevel.INFO,
    action: ACTIONS[options.action ?? "prepare-and-run"]!,
    memoryMib: options.memory ?? 0,
    vcpus: options.vcpus ?? 0,
    packages: [...options.packages ?? []],
    ...(options.image !== undefined && { image: await toImage(options.image, remark) }),
    ...(options.network !== undefined && { network: toNetwork(options.network) }),
    ...(options.buildNetwork !== undefined &&
      { buildNetwork: toBuildNetwork(options.buildNetwork, host?.secrets) }),
    noInstall: options.install === false,
    dependencyGroups: [...options.dependencyGroups ?? []],
    options: {
      args: [...options.args ?? []],
      env: options.env ?? {},
      buildEnv: { ...host?.env, ...options.buildEnv },
      release: options.release ?? false,
      ...(options.timeout !== undefined && { timeout: durationFromMs(options.timeout) }),
      files: withAdded(source?.files ?? [], added),
      entryPoint: source?.entryPoint ?? entryPoint ?? "",
      workingDirectory: directory,
      stdin: typeof stdin === "string"
        ? utf8.encode(stdin)
        : stdin instanceof Uint8Array
        ? stdin
        : new Uint8Array(),
      stdinStream: isStream(stdin),
      stdinOnDemand: true,
      cold: options.cold ?? false,
      rawOutput: true,
    },
  });
  return { request, directory };
}

async function configOfHost(language: string, remark: (text: string) => void) {
  const { hostConfig } = await lazyImport<typeof import("./host_config.ts")>(
    "./host_config.ts",
    import.meta.url,
  ); // and with it a parser of TOML
  const config = await hostConfig(language);
  config.remarks.forEach(remark);
  return config;
}
