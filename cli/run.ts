/**
 * Running a program for `cloudlet run`, and showing a run.
 *
 * @module
 */
import type { AccessName } from "../workload/network_access.ts";
import type { WrittenLanguage } from "../api/library/options.ts";
import { languageVersion, splitLanguage } from "../builder/image/versions.ts";
import { languageNamed } from "../workload/languages.ts";
import {
  type Run,
  run,
  type RunEvent,
  type RunOptions,
  type RunResult,
} from "../api/library/run.ts";
import type { BuildNetworkOptions, SecretOptions } from "../api/network.ts";
import { CloudletError } from "../base/errors.ts";
import { silentProgress } from "../base/progress.ts";
import { takeSignals } from "../base/signals.ts";
import type { Config } from "./config.ts";
import { RUN_EXIT } from "./context.ts";
import { type OutputGoal, OutputWriter } from "./output_files.ts";
import { OutputClosed, say, write } from "./output.ts";
import { terminalProgress } from "./progress.ts";
import { readVariableFile, readVariables } from "./variables.ts";
import { checkSource } from "./run_target.ts";
import { serverFromFlags } from "./server_address.ts";
import { openStdin } from "./stdin.ts";
import { eventLine } from "./event_line.ts";
import { networkLine } from "./network_line.ts";
import { lazyImport } from "../base/lazy_import.ts";

/** Flags of `cloudlet run`. */
export interface RunFlags {
  /** Variables: `NAME=VALUE`, or `NAME` to pass this process's. */
  readonly env?: readonly string[];
  /** Files of such variables. */
  readonly envFile?: readonly string[];
  /** What is sent besides, by its path in the run. */
  readonly file?: readonly (readonly [path: string, source: string])[];
  /** What comes back. */
  readonly output?: readonly OutputGoal[];
  /** Name of the run, while it is under way. */
  readonly name?: string;
  readonly buildEnv?: readonly string[];
  /** File that is the program's standard input; `-` is the command's own. */
  readonly stdin?: string;
  /** The program's standard input is empty. */
  readonly noStdin: boolean;
  /** Milliseconds. */
  readonly timeout?: number;
  /** MiB. */
  readonly memory?: number;
  readonly vcpus?: number;
  readonly language?: string;
  /** The file of a project that is run. */
  readonly entry?: string;
  /** A source file without the project around it. */
  readonly alone: boolean;
  readonly release?: boolean;
  /** What installing the project's packages may reach. */
  readonly buildNetwork?: readonly string[];
  /** What installing has placeholders of. */
  readonly buildSecret?: readonly (readonly [name: string, secret: SecretOptions])[];
  /** False runs the project without the packages that it names. */
  readonly install?: boolean;
  /** Whether installing is configured as this user's own tools. */
  readonly hostConfig?: boolean;
  /** Dependency groups that are installed as well. */
  readonly group?: readonly string[];
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** False boots a microVM instead of restoring one. */
  readonly snapshot: boolean;
  /** True starts a new interpreter in place of an idle one. */
  readonly cold: boolean;
  /** Tells what would be run, and runs nothing. */
  readonly dryRun: boolean;
  /** An OCI image, as docker users write it. */
  readonly image?: string;
  /** Ask the registry what the image's tag means now. */
  readonly pull?: boolean;
  /** The registry may speak http. */
  readonly insecure?: boolean;
  /** What holds where no network rule matches. */
  readonly network?: AccessName;
  /** What the program may reach. */
  readonly allow?: readonly string[];
  /** What it may not. */
  readonly deny?: readonly string[];
  /** Ports of this host that lead into the guest. */
  readonly publish?: readonly string[];
  /** How much the program may send and get a second. */
  readonly bandwidth?: string;
  /** What the program has placeholders of. */
  readonly secret?: readonly (readonly [name: string, secret: SecretOptions])[];
  /** File that gets what the network carries. */
  readonly pcap?: string;
  readonly remote: boolean;
  readonly server?: string;
}

/** Outcomes that a program's exit code does not explain. */
const EXPLAINED: ReadonlySet<string> = new Set(["exited", "signaled", "prepared"]);

/** Checks `LANGUAGE` or `LANGUAGE@VERSION`. */
function checkedLanguage(text: string): WrittenLanguage {
  const { name, version } = splitLanguage(text);
  const language = languageNamed(name).name;
  if (version === undefined) return language;
  return `${language}@${languageVersion(language, version).version}`;
}

/** Flags override the config, the config overrides the defaults. */
async function merge(
  target: string | undefined,
  args: readonly string[],
  flags: RunFlags,
  config: Config | undefined,
): Promise<RunOptions> {
  const language = flags.language ?? config?.language;
  const timeout = flags.timeout ?? config?.run.timeout;
  const memory = flags.memory ?? config?.vm.memory;
  const vcpus = flags.vcpus ?? config?.vm.vcpus;
  const remote = flags.remote || flags.server !== undefined;
  const kernel = config?.vm.kernel;
  const source = config === undefined ? target : config.source;
  const from = flags.image ?? config?.image.from;
  const { files = {}, run: commands = [] } = config?.image ?? {};
  const entryPoint = flags.entry ?? config?.entryPoint;
  if (remote && kernel !== undefined) {
    throw new CloudletError("Cannot run it on a server: the config names a kernel of this host", {
      code: "invalid-input",
      remedy: "remove [vm] kernel from the config, or --remote",
    });
  }
  const fromFiles: Record<string, string> = {};
  for (const file of flags.envFile ?? []) Object.assign(fromFiles, await readVariableFile(file));
  return {
    ...(source !== undefined && { source }),
    ...(entryPoint !== undefined && { entryPoint }),
    alone: flags.alone || config !== undefined, // a config says what is sent
    args: args.length > 0 ? args : config?.run.args ?? [],
    env: { ...config?.run.env, ...fromFiles, ...readVariables(flags.env ?? []) },
    buildEnv: { ...config?.buildEnv, ...readVariables(flags.buildEnv ?? []) },
    release: flags.release ?? config?.release ?? false,
    action: config?.action ?? "prepare-and-run",
    packages: config?.image.packages ?? [],
    ...((from !== undefined || commands.length > 0 || Object.keys(files).length > 0) && {
      image: {
        ...(from !== undefined && { from }),
        pull: flags.pull ?? false,
        insecure: flags.insecure ?? false,
        files,
        run: commands,
      },
    }),
    ...(config && { name: config.workloadName }),
    ...(flags.name !== undefined && { runName: flags.name }),
    ...(language !== undefined && { language: checkedLanguage(language) }),
    ...(timeout !== undefined && { timeout }),
    ...(memory !== undefined && { memory }),
    ...(vcpus !== undefined && { vcpus }),
    ...(kernel !== undefined && { kernel }),
    ...(flags.file && { files: Object.fromEntries(flags.file) }),
    ...(flags.output && { outputs: flags.output.map(({ path }) => path) }),
    ...networkOptions(flags, config),
    ...buildOptions(flags, config),
    ...(flags.pcap !== undefined && { pcap: flags.pcap }),
    snapshot: flags.snapshot,
    cold: flags.cold,
    ...(remote && { server: serverFromFlags(flags, config?.server) }),
  };
}

/** Flags override the config. */
function buildOptions(
  { buildNetwork: hosts = [], buildSecret = [], install, group, hostConfig }: RunFlags,
  config: Config | undefined,
): Pick<RunOptions, "buildNetwork" | "install" | "dependencyGroups" | "hostConfig"> {
  const words = hosts.filter((host) => host === "public" || host === "none");
  if (words.length > 0 && hosts.length > 1) {
    throw new CloudletError(`Cannot give building the network ${hosts.join(", ")}`, {
      code: "invalid-input",
      remedy: "say public, none, or hosts",
    });
  }
  const network: BuildNetworkOptions | undefined = hosts.length + buildSecret.length === 0
    ? config?.buildNetwork
    : {
      ...(words[0] !== undefined && { access: words[0] as "public" | "none" }),
      allow: words.length > 0 ? [] : hosts,
      secrets: Object.fromEntries(buildSecret),
    };
  return {
    ...(network !== undefined && { buildNetwork: network }),
    install: install ?? config?.install ?? true,
    hostConfig: hostConfig ?? config?.hostConfig ?? false,
    dependencyGroups: group ?? config?.groups ?? [],
  };
}

/** Flags add to the rules and ports of the config; `--network` overrides its access. */
function networkOptions(flags: RunFlags, config: Config | undefined): Pick<RunOptions, "network"> {
  const { network: access, allow, deny, publish } = flags;
  const bandwidth = flags.bandwidth ?? config?.network?.bandwidth;
  const given = [access, allow, deny, publish, flags.bandwidth, flags.secret]
    .some((value) => value !== undefined);
  if (!given) return config?.network ? { network: config.network } : {};
  const { access: configured, ...lists } = config?.network ?? {};
  const chosen = access ?? configured;
  // It overrides the lists of the config; beside those of the command line it makes no sense.
  if (access === "none") {
    return { network: { access, allow: allow ?? [], publish: publish ?? [] } };
  }
  return {
    network: {
      ...(chosen !== undefined && { access: chosen }),
      allow: [...allow ?? [], ...lists.allow ?? []],
      deny: [...deny ?? [], ...lists.deny ?? []],
      publish: [...publish ?? [], ...lists.publish ?? []],
      ...(bandwidth !== undefined && { bandwidth }),
      secrets: { ...lists.secrets, ...Object.fromEntries(flags.secret ?? []) },
    },
  };
}

/**
 * Runs a program, shows what it writes, and passes its end on.
 *
 * @param target a config file (`.toml`), a source file or a project directory; nothing for an
 *   image's own command
 * @param args of the program
 * @returns the program's exit code, or one of {@linkcode RUN_EXIT} where none was started
 */
export async function runProgram(
  target: string | undefined,
  args: readonly string[],
  flags: RunFlags,
): Promise<number> {
  if (target !== undefined) await checkSource(target, flags);
  // Not loaded for a run without one: it checks with more than a run needs.
  const config = target?.endsWith(".toml")
    ? await (await lazyImport<typeof import("./config.ts")>("./config.ts", import.meta.url))
      .loadConfig(target)
    : undefined;
  const options = await merge(target, args, flags, config);
  if (flags.noStdin && flags.stdin !== undefined) {
    throw new CloudletError("Cannot give the program its input: --stdin and --no-stdin are given", {
      code: "invalid-input",
      remedy: "leave one of them away",
    });
  }
  if (flags.dryRun) {
    await showPlan(options, flags);
    return 0;
  }
  await using stdin = await openStdin(flags.noStdin ? false : flags.stdin ?? config?.run.stdin);
  using progress = flags.quiet || flags.json ? silentProgress : terminalProgress();
  using outputs = flags.output && new OutputWriter(flags.output);
  await using program = run({ ...options, stdin: stdin.input, progress });
  let read: number | undefined = 0; // of a run that comes to nothing
  try {
    // Here, the progress says what the service would.
    const exitCode = await follow(program, {
      ...flags,
      verbose: flags.verbose && options.server !== undefined,
    }, outputs);
    read = (await program.result.catch(() => undefined))?.inputRead; // a signal may have ended it
    return exitCode;
  } finally {
    await stdin.putBack(read);
  }
}

/** Tells what would be run. */
async function showPlan(options: RunOptions, { json, quiet }: ShowFlags): Promise<void> {
  const { planOf, planText } = await lazyImport<typeof import("./dry_run.ts")>(
    "./dry_run.ts",
    import.meta.url,
  );
  using progress = quiet || json ? silentProgress : terminalProgress();
  const plan = await planOf({ ...options, progress });
  await write("stdout", json ? `${JSON.stringify(plan)}\n` : await planText(plan));
}

/** How a run is shown. */
export type ShowFlags = Pick<RunFlags, "json" | "quiet" | "verbose">;

/**
 * Shows what a run writes, and passes signals on to it and its end back.
 *
 * @param outputs takes the files that come back
 * @returns the program's exit code, or one of {@linkcode RUN_EXIT} where none was started
 */
export async function follow(
  program: Run,
  flags: ShowFlags,
  outputs?: OutputWriter,
): Promise<number> {
  const state = { running: false, exitCode: 0 };
  // The program is asked to end, then its microVM is ended, then nothing is waited for.
  let next: "ask" | "end" | "leave" = "ask";
  using _signals = takeSignals((signal, exitCode) => {
    state.exitCode ||= exitCode;
    if (next === "ask" && state.running) {
      program.kill(signal === "SIGINT" ? "INT" : "TERM").catch(() => {});
      next = "end";
    } else if (next !== "leave") {
      void program[Symbol.asyncDispose]();
      next = "leave";
    } else Deno.exit(state.exitCode);
  });
  try {
    let result: RunResult | undefined;
    for await (const event of program) {
      if (event.type === "stage") state.running = event.stage !== "pending";
      if (event.type === "exit") result = event.result;
      if (event.type === "file") outputs?.write(event);
      // Whoever pressed Ctrl-C knows why the program ended.
      await show(event, { ...flags, quiet: flags.quiet || state.exitCode !== 0 });
    }
    if (result === undefined) {
      throw new CloudletError("Cannot tell how it ended", { code: "internal" });
    }
    for (const path of outputs?.finish() ?? []) {
      if (!flags.quiet && !flags.json) {
        say(`cloudlet: the program has made no ${JSON.stringify(path)}`);
      }
    }
    return exitCodeOfResult(result);
  } catch (error) {
    if (state.exitCode !== 0 && !(error instanceof OutputClosed)) return state.exitCode;
    throw error;
  }
}

/** Exit code of a run whose program may never have started. */
function exitCodeOfResult({ outcome, exitCode }: RunResult): number {
  switch (outcome) {
    case "build-failed": // the compiler's code would be taken for the program's
      return RUN_EXIT.cannotRun;
    case "not-started":
      return exitCode === RUN_EXIT.notFound ? exitCode : RUN_EXIT.cannotRun;
    case "error":
      return RUN_EXIT.failure;
    default:
      return exitCode;
  }
}

async function show(event: RunEvent, { json, verbose, quiet }: ShowFlags): Promise<void> {
  if (json) return await write("stdout", eventLine(event));
  switch (event.type) {
    case "stdout":
      return await write("stdout", event.data);
    case "stderr":
      return await write("stderr", event.data);
    case "network":
      if (!quiet) say(`cloudlet: ${networkLine(event)}`);
      return;
    case "log":
      if (verbose) say(`cloudlet: ${event.message}`);
      return;
    case "exit":
      if (
        (!quiet || event.result.outcome === "not-started") && event.result.message !== "" &&
        !EXPLAINED.has(event.result.outcome)
      ) {
        say(`cloudlet: ${event.result.message}`);
      }
      if (!quiet && event.result.outcome === "prepared") {
        say('cloudlet: prepared; the action "run" starts it as it is');
      }
  }
}
