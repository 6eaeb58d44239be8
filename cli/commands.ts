/**
 * Which commands there are, and the help that lists them. What each does is in the file of its name.
 *
 * @module
 */
import type { Command, CommandContext, RouteMap } from "@stricli/core";
import { lazyImport } from "../base/lazy_import.ts";

/** What a command's file gives: a command, or a group of them. */
export type Target = Command<CommandContext> | RouteMap<CommandContext>;

/** A command as the list of them has it. */
export interface Entry {
  /** What it does, in a line; as its own help says it. */
  readonly brief: string;
  /** Loading one takes a while, so none is loaded before it is called. */
  readonly load: () => Promise<Target>;
}

/** Each command by its name. */
export const commands: Readonly<Record<string, Entry>> = {
  run: {
    brief: "Run a program in a microVM of its own",
    load: async () =>
      (await lazyImport<typeof import("./run.ts")>("./run.ts", import.meta.url)).runCommand,
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
  cache: {
    brief: "See what the cache takes on the disk, and remove what is not needed",
    load: async () =>
      (await lazyImport<typeof import("./cache.ts")>("./cache.ts", import.meta.url)).cacheRoutes,
  },
};

/** What the program is, in a line. */
export const BRIEF = "Runs any program in a Linux microVM of its own";

/** The help of the program itself; that of a command is made from its parameters. */
export function rootHelp(): string {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  const list = Object.entries(commands).map(([name, { brief }]) =>
    `  ${name.padEnd(width)}  ${brief}`
  );
  return `USAGE
  cloudlet COMMAND [ARGUMENT...]
  cloudlet COMMAND --help
  cloudlet --version

${BRIEF}

COMMANDS
${list.join("\n")}
`;
}
