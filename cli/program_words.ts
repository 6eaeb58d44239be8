/**
 * Where a command line stops being cloudlet's: the first word that is no flag of the command names
 * the program, and all that follows belongs to it.
 *
 * ```text
 * cloudlet run -e A=1 hello.py --name bob    flags of ours: -e A=1; hello.py has --name bob
 * cloudlet run hello.py -- --name bob        the same: one `--` directly after the program is dropped
 * cloudlet run --image x -- cat --name       `--` before the program: whatever follows is its command
 * ```
 *
 * @module
 */
import type { CommandContext } from "@stricli/core";

/** Flags of a command, as the parser has them. */
export interface FlagSet {
  /** By their names. */
  readonly flags?: Readonly<Record<string, { readonly kind: string }>>;
  /** Names by their letters. */
  readonly aliases?: Readonly<Record<string, string | undefined>>;
}

/** A command line in its two parts. */
export interface ProgramLine {
  /** The command's own flags, with their values. */
  readonly own: readonly string[];
  /** The program, and what belongs to it. */
  readonly words: readonly string[];
  /** Where the `--` stood that was dropped. */
  readonly dashes: "before" | "after" | undefined;
}

/** A context of a command that takes a program. */
export interface WithProgram extends CommandContext {
  /** See {@linkcode ProgramLine.dashes}. */
  readonly dashes?: ProgramLine["dashes"];
}

// As the parser has them: what matches none of these is no flag to it.
const LONG = /^--([a-z][a-z-.\d_]+)$/i;
const SHORT = /^-([a-z]+)$/i;
const WITH_VALUE = /^(--[a-z][a-z-.\d_]+|-[a-z])=./i;

/**
 * Splits what follows the name of a command.
 *
 * @param args those words
 * @param parameters of the command: which of its flags are followed by a value
 */
export function splitAtProgram(args: readonly string[], parameters: FlagSet): ProgramLine {
  let at = 0;
  while (at < args.length && isFlag(args[at]!)) {
    at += takesNext(args[at]!, parameters) && args[at + 1] !== "--" ? 2 : 1;
  }
  const own = args.slice(0, at);
  if (args[at] === "--") return { own, words: args.slice(at + 1), dashes: "before" };
  const after = args[at + 1] === "--";
  const words = [...args.slice(at, at + 1), ...args.slice(at + (after ? 2 : 1))];
  return { own, words, dashes: after ? "after" : undefined };
}

function isFlag(word: string): boolean {
  return LONG.test(word) || SHORT.test(word) || WITH_VALUE.test(word);
}

/** Whether a flag's value is the next word. */
function takesNext(word: string, { flags = {}, aliases = {} }: FlagSet): boolean {
  if (WITH_VALUE.test(word)) return false;
  const long = LONG.exec(word)?.[1];
  const name = long === undefined
    ? aliases[SHORT.exec(word)?.[1] ?? ""]
    : long.replaceAll(/-([a-z])/gi, (_, letter: string) => letter.toUpperCase());
  const kind = name !== undefined && Object.hasOwn(flags, name) ? flags[name]!.kind : "boolean";
  return kind === "parsed" || kind === "enum";
}
