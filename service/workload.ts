/**
 * What a request to run something asks for, checked.
 *
 * @module
 */
import { PLAIN_IMAGE } from "../node/boot_parts.ts";
import { create } from "@bufbuild/protobuf";
import { checkFileKind, checkRequest } from "../workload/request.ts";
import { listedFiles } from "../workload/file_list.ts";
import { COMMAND } from "../workload/languages.ts";
import { CloudletError } from "../base/errors.ts";
import { RUN_NAME, RUN_NAME_RULE } from "../base/run_names.ts";
import { lazyImport } from "../base/lazy_import.ts";
import {
  type ExecuteRequest,
  ExecuteRequest_Action as Action,
  ExecuteRequestSchema,
  OptionsSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { Language, LogLevel, type RunVmmRequest } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { languageVersion } from "../builder/image/versions.ts";
import { formatReference, parseReference } from "../builder/oci/reference.ts";
import type { MachineImage } from "../node/node.ts";
import type { MachineNetwork } from "../node/network.ts";
import { type NetworkLimits, networkOf, type RunNetworkRequest } from "./network.ts";
import { secretOptions } from "./secrets.ts";
import type { RemarkLevel } from "./run_progress.ts";

/** Bounds of one run, set by whoever offers the service. */
export interface RunLimits {
  /** Memory in MiB of a machine that asks for none. */
  readonly defaultMemory: number;
  /** Least memory in MiB: with less no agent starts. */
  readonly minMemory: number;
  /** Most virtual CPUs. */
  readonly maxVcpus: number;
  /** Longest run in milliseconds, from the machine's start to the end. */
  readonly maxTime: number;
  /** Longest wait in milliseconds for a first word of the agent; ten minutes when absent. */
  readonly firstAnswer?: number;
  /** Whether images on this host's disk may be named; they may not when absent. */
  readonly localImages?: boolean;
  /** What programs may reach; nothing when absent. */
  readonly network?: NetworkLimits;
}

/** A checked request. */
export interface Workload {
  /** Id of the run, made up when the client gave none. */
  readonly id: string;
  readonly name: string;
  /** Of the run, which no other one under way may have; null for none. */
  readonly runName: string | null;
  readonly language: string;
  readonly action: "run" | "prepare" | "prepare-and-run";
  readonly memory: number;
  readonly vcpus: number;
  readonly packages: readonly string[];
  readonly image: MachineImage | undefined;
  /** What its program may reach and what reaches it; undefined for no network. */
  readonly network: MachineNetwork | undefined;
  /** Installing what the project names. */
  readonly build: {
    /** What that may reach; undefined for nothing. */
    readonly network: RunNetworkRequest | undefined;
    /** False when the program runs without it. */
    readonly install: boolean;
    /** Dependency groups that are wanted. */
    readonly groups: readonly string[];
  };
  readonly remarkLevel: RemarkLevel;
  /** What the agent is asked. */
  readonly execute: ExecuteRequest;
}

const LANGUAGE_NAMES: Readonly<Record<Language, string>> = {
  [Language.RUST]: "rust",
  [Language.PYTHON]: "python",
  [Language.NODE]: "node",
  [Language.DENO]: "deno",
  [Language.BASH]: "bash",
  [Language.COMMAND]: COMMAND,
};
const ACTION_NAMES = {
  [Action.RUN]: "run",
  [Action.PREPARE]: "prepare",
  [Action.PREPARE_AND_RUN]: "prepare-and-run",
} as const;

function refuse(what: string, remedy: string): CloudletError {
  return new CloudletError(`Cannot start the run: ${what}`, { code: "invalid-input", remedy });
}

/**
 * The root file system of a language's version: a Debian release's, or an OCI image.
 *
 * @throws {CloudletError} `invalid-input` for a version that there is not
 */
export function imageOfVersion(language: string, wanted: string): MachineImage {
  const { version, image } = languageVersion(language, wanted);
  return image === undefined
    ? { ...PLAIN_IMAGE, version }
    : { ...PLAIN_IMAGE, from: formatReference(parseReference(image)) };
}

/** The root file system that a request asks for; undefined when it is the language's own. */
function imageOf(
  request: RunVmmRequest,
  language: string,
  limits: RunLimits,
): MachineImage | undefined {
  const { languageVersion: version } = request;
  if (version === "") return imageWithoutVersion(request, limits);
  const chosen = imageOfVersion(language, version);
  if (request.image === undefined) return chosen;
  if (request.image.from !== "") {
    throw refuse(
      `${language}@${version} and the image ${request.image.from} were asked for`,
      "name a version or an image: an image has a version of its own",
    );
  }
  const { pull, insecure, files, run } = imageWithoutVersion(request, limits)!;
  return { ...chosen, pull, insecure, files, run };
}

function imageWithoutVersion(request: RunVmmRequest, limits: RunLimits): MachineImage | undefined {
  const { image } = request;
  if (request.language === Language.COMMAND && !image?.from) {
    throw refuse("there is neither a program nor an image", "name a source file or an image");
  }
  if (image === undefined) return undefined;
  const { pull, insecure, run } = image;
  let from: string | undefined;
  if (image.from !== "") {
    const reference = parseReference(image.from);
    if (reference.kind !== "registry" && !limits.localImages) {
      throw refuse("an image on the server's own disk was asked for", "use one of a registry");
    }
    from = formatReference(reference);
  }
  const files = image.files.map((file) => {
    const { path, content, mode, target, directory } = file;
    if (!/^[^/]/.test(path) || path.split("/").some((name) => /^\.{0,2}$/.test(name))) {
      throw refuse(`${JSON.stringify(path)} is no place for a file`, "write it as etc/name");
    }
    checkFileKind({ ...file, mode: mode & 0o777 });
    return {
      path,
      content,
      mode: mode & 0o7777,
      ...(target !== "" && { target }),
      ...(directory && { directory }),
    };
  });
  return { from, pull, insecure, files, run };
}

/**
 * The id of a run.
 *
 * @param asked for by the client; one is made up when it is empty
 * @throws {CloudletError} `invalid-input`
 */
export function newRunId(asked: string): string {
  const id = asked || crypto.randomUUID();
  if (/^[A-Za-z0-9._-]{1,128}$/.test(id)) return id;
  throw refuse(`the id ${JSON.stringify(id)} is not allowed`, "use up to 128 of [A-Za-z0-9._-]");
}

/**
 * The name of a run.
 *
 * @param asked for by the client; null when it is empty
 * @throws {CloudletError} `invalid-input`
 */
export function runNameOf(asked: string): string | null {
  if (asked === "") return null;
  if (RUN_NAME.test(asked)) return asked;
  throw refuse(
    `${JSON.stringify(asked.slice(0, 200))} is no name of a run`,
    `use ${RUN_NAME_RULE}`,
  );
}

/**
 * Which remarks a client wants to hear.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function remarkLevelOf(level: LogLevel): RemarkLevel {
  if (level in LogLevel) return level as RemarkLevel;
  throw refuse(`there is no log level number ${level}`, "use 0 to 3");
}

/** How the project's packages are installed. */
function buildOf(request: RunVmmRequest, limits: RunLimits): Workload["build"] {
  const network = networkOf(request.buildNetwork, limits.network);
  if (network !== undefined && network.publish.length > 0) {
    throw refuse("building was to publish ports", "publish them for the program");
  }
  const groups = request.dependencyGroups;
  if (groups.length > 64 || groups.some((name) => !/^[A-Za-z0-9._-]{1,100}$/.test(name))) {
    throw refuse("a dependency group has no name of one", "use letters, digits, -, _ and .");
  }
  return { network, install: !request.noInstall, groups };
}

/**
 * Checks a request.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function workloadOf(request: RunVmmRequest, limits: RunLimits): Workload {
  const language = LANGUAGE_NAMES[request.language] as string | undefined;
  if (language === undefined) {
    throw refuse(
      `there is no language number ${request.language}`,
      `use one of ${
        Object.entries(LANGUAGE_NAMES).map(([n, name]) => `${n} (${name})`).join(", ")
      }`,
    );
  }
  const action = request.action ?? Action.PREPARE_AND_RUN;
  if (!(action in ACTION_NAMES)) throw refuse(`there is no action number ${action}`, "use 0 to 2");
  const id = newRunId(request.options?.executionId ?? "");
  const name = request.workloadName;
  if (name.length > 200) throw refuse("the workload's name is too long", "use 200 characters");
  const runName = runNameOf(request.runName);
  const memory = request.memoryMib || limits.defaultMemory;
  if (memory < limits.minMemory) {
    throw refuse(
      `${memory} MiB of memory are too little: a microVM needs ${limits.minMemory} MiB`,
      `ask for ${limits.minMemory} MiB or more`,
    );
  }
  const vcpus = request.vcpus || 1;
  if (vcpus > limits.maxVcpus) {
    throw refuse(
      `${vcpus} virtual CPUs are too many: a microVM has up to ${limits.maxVcpus}`,
      `ask for at most ${limits.maxVcpus}`,
    );
  }
  for (const name of request.packages) {
    // Debian policy 5.6.1: "must consist only of lower case letters, digits, plus and minus signs,
    // and periods. They must be at least two characters long and must start with an alphanumeric".
    if (!/^[a-z0-9][a-z0-9+.-]+$/.test(name)) {
      throw refuse(`${JSON.stringify(name)} is no name of a Debian package`, "correct the name");
    }
  }
  const remarkLevel = remarkLevelOf(request.logLevel);
  const network = networkOf(request.network, limits.network);
  const options = request.options ?? create(OptionsSchema);
  const execute = create(ExecuteRequestSchema, {
    workloadName: name,
    language,
    action,
    code: request.code,
    configStr: request.configStr,
    options: { ...options, ...secretOptions(network, language, options), executionId: id },
  });
  checkRequest(execute); // as the agent will: no machine is started for what it refuses
  return {
    id,
    name,
    runName,
    language,
    action: ACTION_NAMES[action],
    memory,
    vcpus,
    packages: request.packages,
    image: imageOf(request, language, limits),
    network,
    build: buildOf(request, limits),
    remarkLevel,
    execute,
  };
}

/**
 * The workload with the program of a cargo project that is run as its entry point: what cannot be
 * told is refused before minutes of building, not after them.
 *
 * @throws {CloudletError} `invalid-input` when there is no telling, or no such program
 */
export async function withProgram(workload: Workload): Promise<Workload> {
  const { language, execute } = workload;
  const { options } = execute;
  if (language !== "rust" || options === undefined || execute.code !== "") return workload;
  if (!options.files.some(({ path }) => path === "Cargo.toml")) return workload;
  const { cargoProgram } = await lazyImport<typeof import("../workload/cargo.ts")>(
    "../workload/cargo.ts",
    import.meta.url,
  ); // and with it a parser of TOML
  const entryPoint = cargoProgram(listedFiles(options.files), options.entryPoint || undefined) ??
    "";
  if (entryPoint === options.entryPoint) return workload;
  return { ...workload, execute: { ...execute, options: { ...options, entryPoint } } };
}
