/**
 * Which commands there are. What each does is in the file of its name.
 *
 * @module
 */
import { lazyImport } from "../base/lazy_import.ts";
import type { Commands, Entry } from "./command.ts";
import { EXIT, type ExitCodes, RUN_EXIT } from "./context.ts";

/** Each command by its name. */
export const commands: Commands = {
  run: {
    brief: "Run a program in a microVM of its own",
    takesProgram: true,
    exit: RUN_EXIT,
    load: async () =>
      (await lazyImport<typeof import("./run_command.ts")>("./run_command.ts", import.meta.url))
        .runCommand,
  },
  init: {
    brief: "Write a config file, with every key and what it does",
    load: async () =>
      (await lazyImport<typeof import("./init.ts")>("./init.ts", import.meta.url)).initCommand,
  },
  serve: {
    brief: "Serve the HTTP API and VmmService",
    load: async () =>
      (await lazyImport<typeof import("./serve.ts")>("./serve.ts", import.meta.url)).serveCommand,
  },
  ps: {
    brief: "List the runs of a server",
    load: async () =>
      (await lazyImport<typeof import("./ps.ts")>("./ps.ts", import.meta.url)).psCommand,
  },
  logs: {
    brief: "Show what a run of a server wrote",
    load: async () =>
      (await lazyImport<typeof import("./ps.ts")>("./ps.ts", import.meta.url)).logsCommand,
  },
  stop: {
    brief: "End runs of a server, with their microVMs",
    load: async () =>
      (await lazyImport<typeof import("./ps.ts")>("./ps.ts", import.meta.url)).stopCommand,
  },
  fork: {
    brief: "Copy a run of a server with its microVM; both go on from the same point",
    exit: RUN_EXIT,
    load: async () =>
      (await lazyImport<typeof import("./fork.ts")>("./fork.ts", import.meta.url)).forkCommand,
  },
  shutdown: {
    brief: "End all runs of a server, with their microVMs",
    load: async () =>
      (await lazyImport<typeof import("./ps.ts")>("./ps.ts", import.meta.url)).shutdownCommand,
  },
  key: {
    brief: "Make an API key",
    load: async () =>
      (await lazyImport<typeof import("./serve.ts")>("./serve.ts", import.meta.url)).keyCommand,
  },
  boot: {
    brief: "Boot a microVM to a shell on its serial console",
    exit: RUN_EXIT,
    load: async () =>
      (await lazyImport<typeof import("./boot_command.ts")>("./boot_command.ts", import.meta.url))
        .bootCommand,
  },
  doctor: {
    brief: "Check whether this host can run microVMs, and say what to do where it cannot",
    load: async () =>
      (await lazyImport<typeof import("./doctor_command.ts")>(
        "./doctor_command.ts",
        import.meta.url,
      )).doctorCommand,
  },
  image: {
    brief: "Build, pull, list and remove root images",
    load: async () =>
      (await lazyImport<typeof import("./image.ts")>("./image.ts", import.meta.url)).imageRoutes,
  },
  kernel: {
    brief: "Build the kernel that microVMs boot",
    load: async () =>
      (await lazyImport<typeof import("./kernel.ts")>("./kernel.ts", import.meta.url)).kernelRoutes,
  },
  snapshot: {
    brief: "See and remove snapshots of microVMs",
    load: async () =>
      (await lazyImport<typeof import("./snapshot.ts")>("./snapshot.ts", import.meta.url))
        .snapshotRoutes,
  },
  help: {
    brief: "Tell of a command, or of a topic such as config",
    load: async () =>
      (await lazyImport<typeof import("./help.ts")>("./help.ts", import.meta.url)).helpCommand,
  },
  completions: {
    brief: "Print the completions for a shell",
    load: async () =>
      (await lazyImport<typeof import("./completions.ts")>("./completions.ts", import.meta.url))
        .completionsCommand,
  },
  cache: {
    brief: "See what the cache takes on the disk, and remove what is not needed",
    load: async () =>
      (await lazyImport<typeof import("./cache.ts")>("./cache.ts", import.meta.url)).cacheRoutes,
  },
};

/** The command that is called; undefined when a line calls none. */
export function calledBy([name = ""]: readonly string[]): Entry | undefined {
  return Object.hasOwn(commands, name) ? commands[name] : undefined;
}

/** The exit codes of a command line's own failures. */
export function exitCodesFor(args: readonly string[]): ExitCodes {
  return calledBy(args)?.exit ?? EXIT;
}
