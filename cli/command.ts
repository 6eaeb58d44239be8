/**
 * What a command is to the list of them, and the help that lists them.
 *
 * @module
 */
import type { Command, CommandContext, RouteMap } from "@stricli/core";
import type { ExitCodes } from "./context.ts";

/** What a command's file gives: a command, or a group of them. */
export type Target = Command<CalledWith> | RouteMap<CalledWith>;

/** A command as the list of them has it. */
export interface Entry {
  /** What it does, in a line; as its own help says it. */
  readonly brief: string;
  /** Loading one takes a while, so none is loaded before it is called. */
  readonly load: () => Promise<Target>;
  /** Whether a program is named in it, and whatever follows that is the program's. */
  readonly takesProgram?: boolean;
  /** Exit codes of its own failures, unless they are {@linkcode EXIT}. */
  readonly exit?: ExitCodes;
}

/** Commands by their names. */
export type Commands = Readonly<Record<string, Entry>>;

/** What commands are called with. */
export interface CalledWith extends CommandContext {
  /** For a command that tells of others: the list has it, so it cannot import that. */
  readonly commands: Commands;
  /** Runs a command line; gives its exit code. */
  readonly runCommandLine: (args: readonly string[]) => Promise<number>;
}

/** What the program is, in a line. */
export const BRIEF = "Runs any program in a Linux microVM of its own";

/** The help of the program itself; that of a command is made from its parameters. */
export function rootHelp(commands: Commands): string {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  const list = Object.entries(commands).map(([name, { brief }]) =>
    `  ${name.padEnd(width)}  ${brief}`
  );
  return `USAGE
  cloudlet COMMAND [ARGUMENT...]
  cloudlet COMMAND --help
  cloudlet help [TOPIC]
  cloudlet --version

${BRIEF}

COMMANDS
${list.join("\n")}
`;
}
