/**
 * What can be typed after `cloudlet`: read off the commands' own parameters, for completions.
 *
 * The kind of a value is its placeholder, as the help shows it.
 *
 * @module
 */
import type { RouteMap } from "@stricli/core";
import { imageNames } from "../builder/image/declarations.ts";
import { joinLanguage, LANGUAGE_VERSIONS } from "../builder/image/versions.ts";
import type { CalledWith, Commands, Target } from "./command.ts";
import { HELP_TOPICS } from "./help_topics.ts";

/** What completes a value: names of files, a list that is asked for then, or one that is known now. */
export type Values =
  | { readonly kind: "files" | "directories" | "runs" | "images" | "oci-images" | "nothing" }
  | { readonly kind: "words"; readonly words: readonly string[] };

/** A flag. */
export interface CompletedFlag {
  /** With their dashes. */
  readonly names: readonly string[];
  readonly brief: string;
  /** Undefined for a flag without a value. */
  readonly values: Values | undefined;
}

/** A command, a group of them, or the program itself. */
export interface CompletedCommand {
  /** The words that lead to it; none for the program itself. */
  readonly path: readonly string[];
  readonly subcommands: readonly { readonly name: string; readonly brief: string }[];
  readonly flags: readonly CompletedFlag[];
  /** What its words are. */
  readonly words: Values;
  /** Whether what follows its first word belongs to a program. */
  readonly takesProgram: boolean;
}

const NOTHING: Values = { kind: "nothing" };
const FILES: Values = { kind: "files" };
const HELP: CompletedFlag = { names: ["--help", "-h"], brief: "show help", values: undefined };

/** Values by their placeholder. */
const VALUES: Readonly<Record<string, (commands: Commands) => Values>> = {
  file: () => FILES,
  program: () => FILES,
  "SRC:DST": () => FILES,
  kernel: () => FILES,
  directory: () => ({ kind: "directories" }),
  id: () => ({ kind: "runs" }),
  image: () => ({ kind: "images" }),
  "oci-image": () => ({ kind: "oci-images" }),
  language: () => ({
    kind: "words",
    words: [
      ...Object.keys(LANGUAGE_VERSIONS),
      ...Object.entries(LANGUAGE_VERSIONS).flatMap(([language, versions]) =>
        versions.map(({ version }) => joinLanguage(language, version))
      ),
    ],
  }),
  "root-image": () => ({ kind: "words", words: imageNames() }),
  shell: () => ({ kind: "words", words: ["bash", "zsh", "fish"] }),
  topic: (commands) => ({
    kind: "words",
    words: [...Object.keys(HELP_TOPICS), ...Object.keys(commands)],
  }),
};

function valuesOf(placeholder: string | undefined, commands: Commands): Values {
  return placeholder !== undefined && Object.hasOwn(VALUES, placeholder)
    ? VALUES[placeholder]!(commands)
    : NOTHING;
}

function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** Every command, the program itself first. */
export async function completedCommands(commands: Commands): Promise<CompletedCommand[]> {
  const root: CompletedCommand = {
    path: [],
    subcommands: Object.entries(commands).map(([name, { brief }]) => ({ name, brief })),
    flags: [HELP, { names: ["--version", "-v"], brief: "show the version", values: undefined }],
    words: NOTHING,
    takesProgram: false,
  };
  const all = [root];
  for (const [name, entry] of Object.entries(commands)) {
    all.push(...below([name], await entry.load(), entry.takesProgram ?? false, commands));
  }
  return all;
}

function* below(
  path: readonly string[],
  target: Target,
  takesProgram: boolean,
  commands: Commands,
): Generator<CompletedCommand> {
  if ("parameters" in target) {
    yield { path, subcommands: [], ...parametersOf(target, commands), takesProgram };
    return;
  }
  const entries = (target as RouteMap<CalledWith>).getAllEntries();
  yield {
    path,
    subcommands: entries.map(({ name, target }) => ({
      name: name["convert-camel-to-kebab"],
      brief: target.brief,
    })),
    flags: [HELP],
    words: NOTHING,
    takesProgram,
  };
  for (const { name, target } of entries) {
    yield* below(
      [...path, name["convert-camel-to-kebab"]],
      target as Target,
      takesProgram,
      commands,
    );
  }
}

function parametersOf(
  { parameters }: Extract<Target, { readonly parameters: unknown }>,
  commands: Commands,
): Pick<CompletedCommand, "flags" | "words"> {
  const { flags = {}, aliases = {}, positional } = parameters;
  const completed = Object.entries(flags).flatMap(([name, flag]): CompletedFlag[] => {
    if ("hidden" in flag && flag.hidden) return [];
    const letters = Object.entries(aliases).filter(([, of]) => of === name);
    const names = [`--${kebab(name)}`, ...letters.map(([letter]) => `-${letter}`)];
    const { brief } = flag;
    if (flag.kind === "boolean") {
      // One that is on unless it is said is only worth its negation.
      const shown = flag.default === true ? [`--no-${kebab(name)}`] : names;
      return [{ names: shown, brief, values: undefined }];
    }
    if (flag.kind === "counter") return [{ names, brief, values: undefined }];
    const values: Values = flag.kind === "enum"
      ? { kind: "words", words: flag.values }
      : valuesOf(flag.placeholder, commands);
    return [{ names, brief, values }];
  });
  const word = positional?.kind === "array" ? positional.parameter : positional?.parameters[0];
  return { flags: [...completed, HELP], words: valuesOf(word?.placeholder, commands) };
}
