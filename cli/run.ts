/**
 * `cloudlet run`
 *
 * @module
 */
import { buildCommand, type CommandContext } from "@stricli/core";
import type { WrittenLanguage } from "../api/library/options.ts";
import { languageVersion, splitLanguage } from "../builder/image/versions.ts";
import { languageNamed, languages } from "../workload/languages.ts";
import {
  type Run,
  run,
  type RunEvent,
  type RunOptions,
  type RunResult,
} from "../api/library/run.ts";
import { CloudletError } from "../base/errors.ts";
import { silentProgress } from "../base/progress.ts";
import { takeSignals } from "../base/signals.ts";
import type { Config } from "./config.ts";
import { exitWith, wordsAfterDashes } from "./context.ts";
import { OutputClosed, say, write } from "./output.ts";
import { terminalProgress } from "./progress.ts";
import { defaultServer, serverFromFlags } from "./server_address.ts";
import { openStdin } from "./stdin.ts";
import { eventLine } from "./event_line.ts";
import { parseCount, parseDuration, parseMemory } from "./units.ts";
import { lazyImport } from "../base/lazy_import.ts";

/** Flags of `cloudlet run`. */
export interface RunFlags {
  /** Variables: `NAME=VALUE`, or `NAME` to pass this process's. */
  readonly env?: readonly string[];
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
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** False boots a microVM instead of restoring one. */
  readonly snapshot: boolean;
  /** True starts a new interpreter in place of an idle one. */
  readonly cold: boolean;
  /** An OCI image, as docker users write it. */
  readonly image?: string;
  /** Ask the registry what the image's tag means now. */
  readonly pull?: boolean;
  /** The registry may speak http. */
  readonly insecure?: boolean;
  readonly remote: boolean;
  readonly server?: string;
}

/** Outcomes that a program's exit code does not explain. */
const EXPLAINED: ReadonlySet<string> = new Set(["exited", "signaled", "prepared"]);

function environment(variables: readonly string[]): Record<string, string> {
  return Object.fromEntries(variables.map((text) => {
    const equals = text.indexOf("=");
    const name = equals < 0 ? text : text.slice(0, equals);
    const value = equals < 0 ? Deno.env.get(name) : text.slice(equals + 1);
    if (name === "" || value === undefined) {
      throw new CloudletError(
        `Cannot pass the variable ${JSON.stringify(text)}: ` +
          (name === "" ? "it has no name" : "it is not set here"),
        { code: "invalid-input", remedy: "write --env NAME=VALUE" },
      );
    }
    return [name, value];
  }));
}

/** Checks `LANGUAGE` or `LANGUAGE@VERSION`. */
function checkedLanguage(text: string): WrittenLanguage {
  const { name, version } = splitLanguage(text);
  const language = languageNamed(name).name;
  if (version === undefined) return language;
  return `${language}@${languageVersion(language, version).version}`;
}

/** Flags go before the config, the config before the defaults. */
function merge(
  target: string | undefined,
  args: readonly string[],
  flags: RunFlags,
  config: Config | undefined,
): RunOptions {
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
  return {
    ...(source !== undefined && { source }),
    ...(entryPoint !== undefined && { entryPoint }),
    alone: flags.alone || config !== undefined, // a config says what is sent
    args: args.length > 0 ? args : config?.run.args ?? [],
    env: { ...config?.run.env, ...environment(flags.env ?? []) },
    buildEnv: { ...config?.buildEnv, ...environment(flags.buildEnv ?? []) },
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
    ...(language !== undefined && { language: checkedLanguage(language) }),
    ...(timeout !== undefined && { timeout }),
    ...(memory !== undefined && { memory }),
    ...(vcpus !== undefined && { vcpus }),
    ...(kernel !== undefined && { kernel }),
    snapshot: flags.snapshot,
    cold: flags.cold,
    ...(remote && { server: serverFromFlags(flags, config?.server) }),
  };
}

/**
 * Runs a program, shows what it writes, and passes its end on.
 *
 * @param target a config file (`.toml`), a source file or a project directory; nothing for an
 *   image's own command
 * @param args of the program
 * @returns the program's exit code
 */
export async function runProgram(
  target: string | undefined,
  args: readonly string[],
  flags: RunFlags,
): Promise<number> {
  // Not loaded for a run without one: it checks with more than a run needs.
  const config = target?.endsWith(".toml")
    ? await (await lazyImport<typeof import("./config.ts")>("./config.ts", import.meta.url))
      .loadConfig(target)
    : undefined;
  const options = merge(target, args, flags, config);
  if (flags.noStdin && flags.stdin !== undefined) {
    throw new CloudletError("Cannot give the program its input: --stdin and --no-stdin are given", {
      code: "invalid-input",
      remedy: "leave one of them away",
    });
  }
  await using stdin = await openStdin(flags.noStdin ? false : flags.stdin ?? config?.run.stdin);
  using progress = flags.quiet || flags.json ? silentProgress : terminalProgress();
  await using program = run({ ...options, stdin: stdin.input, progress });
  let read: number | undefined = 0; // of a run that comes to nothing
  try {
    // Here, the progress says what the service would.
    const exitCode = await follow(program, {
      ...flags,
      verbose: flags.verbose && options.server !== undefined,
    });
    read = (await program.result.catch(() => undefined))?.inputRead; // a signal may have ended it
    return exitCode;
  } finally {
    await stdin.putBack(read);
  }
}

/** How a run is shown. */
export type ShowFlags = Pick<RunFlags, "json" | "quiet" | "verbose">;

/**
 * Shows what a run writes, and passes signals on to it and its end back.
 *
 * @returns the program's exit code
 */
export async function follow(program: Run, flags: ShowFlags): Promise<number> {
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
      // Whoever pressed Ctrl-C knows why the program ended.
      await show(event, { ...flags, quiet: flags.quiet || state.exitCode !== 0 });
    }
    if (result === undefined) {
      throw new CloudletError("Cannot tell how it ended", { code: "internal" });
    }
    return result.exitCode;
  } catch (error) {
    if (state.exitCode !== 0 && !(error instanceof OutputClosed)) return state.exitCode;
    throw error;
  }
}

async function show(event: RunEvent, { json, verbose, quiet }: ShowFlags): Promise<void> {
  if (json) return await write("stdout", eventLine(event));
  switch (event.type) {
    case "stdout":
      return await write("stdout", event.data);
    case "stderr":
      return await write("stderr", event.data);
    case "log":
      if (verbose) say(`cloudlet: ${event.message}`);
      return;
    case "exit":
      if (!quiet && !EXPLAINED.has(event.result.outcome) && event.result.message !== "") {
        say(`cloudlet: ${event.result.message}`);
      }
      if (!quiet && event.result.outcome === "prepared") {
        say('cloudlet: prepared; the action "run" starts it as it is');
      }
  }
}

/** The command `run`. */
export const runCommand = buildCommand({
  docs: {
    brief: "Run a program in a microVM of its own",
    fullDescription: "Runs what a config file, a source file or a project directory tells, shows " +
      "what the program writes as it comes, and ends with the program's exit code. What is " +
      "missing, a kernel or an image, is built first.",
    customUsage: [
      "config.toml",
      "hello.py -- --its-own-flag",
      "--env NAME=VALUE project/",
      "--entry tools/cli.py project/",
      "--image alpine:3 -- cat /etc/os-release",
    ],
  },
  parameters: {
    flags: {
      env: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        brief: "NAME=VALUE for the program's environment; NAME passes this one's",
      },
      stdin: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "file that is the program's standard input; - is the command's own, the default",
      },
      noStdin: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "the program's standard input is empty: the command's own is left alone",
      },
      timeout: {
        kind: "parsed",
        parse: parseDuration,
        optional: true,
        brief: "time after which the program is killed: 90, 500ms, 1m30s",
      },
      memory: {
        kind: "parsed",
        parse: parseMemory,
        optional: true,
        brief: "memory of the microVM: 512M, 2G",
      },
      vcpus: {
        kind: "parsed",
        parse: (text: string) => parseCount(text, 1),
        optional: true,
        brief: "virtual CPUs of the microVM",
      },
      language: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: `what it is written in: ${Object.keys(languages).join(", ")}; or python@3.11, ` +
          "of the versions that `image ls --available` lists",
      },
      entry: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "file of a project that is run, or the name of a program of cargo",
      },
      alone: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "send a source file without the project around it",
      },
      release: { kind: "boolean", optional: true, brief: "build with optimisation" },
      buildEnv: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        brief: "NAME=VALUE for the compiler's environment; NAME passes this one's",
      },
      json: { kind: "boolean", default: false, brief: "print what happens as JSON, one a line" },
      quiet: { kind: "boolean", default: false, brief: "show no progress" },
      verbose: { kind: "boolean", default: false, brief: "show what the service says" },
      snapshot: {
        kind: "boolean",
        default: true,
        brief: "restore the microVM from a snapshot, made when it is missing; or boot it",
      },
      cold: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "start a new interpreter, not the idle one of the snapshot",
      },
      image: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: "OCI image to run it in, as docker users write it; oci:DIR; docker-archive:FILE",
      },
      pull: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "ask the registry for a newer image of the tag",
      },
      insecure: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "the registry may speak http",
      },
      remote: { kind: "boolean", default: false, brief: "run it on the server of the config" },
      server: {
        kind: "parsed",
        parse: String,
        optional: true,
        brief: `run it on this server, such as ${defaultServer}`,
      },
    },
    aliases: { e: "env", t: "timeout", m: "memory", q: "quiet", v: "verbose" },
    positional: {
      kind: "array",
      parameter: {
        brief: "config file, source or project; then its arguments; with --image, -- and a command",
        parse: String,
        placeholder: "program",
      },
    },
  },
  async func(this: CommandContext, flags: RunFlags, ...words: string[]) {
    const isCommand = flags.image !== undefined && words.length === wordsAfterDashes(this);
    const target = isCommand ? undefined : words[0];
    const args = isCommand ? words : words.slice(1);
    if (target === undefined && flags.image === undefined) {
      throw new CloudletError("Cannot run anything: neither a program nor an image is named", {
        code: "invalid-input",
        remedy: "see `cloudlet run --help`",
      });
    }
    exitWith(this, await runProgram(target, args, flags));
  },
});
