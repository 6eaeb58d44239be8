/**
 * `cloudlet init`
 *
 * @module
 */
import { buildCommand } from "@stricli/core";
import { basename, join, resolve } from "node:path";
import { languageOfSource } from "../api/library/source.ts";
import { CloudletError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { joinLanguage, languageVersion, splitLanguage } from "../builder/image/versions.ts";
import {
  type LanguageName,
  languageNamed,
  languageOfFile,
  languages,
} from "../workload/languages.ts";
import { configText } from "./config_keys.ts";
import { say, writeLine } from "./output.ts";

/** A first program of each language. */
const HELLO: Readonly<Record<LanguageName, string>> = {
  python: 'print("Hello from a microVM")\n',
  node: 'console.log("Hello from a microVM");\n',
  deno: 'console.log("Hello from a microVM");\n',
  rust: 'fn main() {\n    println!("Hello from a microVM");\n}\n',
  bash: 'echo "Hello from a microVM"\n',
};

/** The file that is written. */
const CONFIG = "config.toml";

/** What is to be run of a directory. */
interface Found {
  readonly source: string;
  readonly entryPoint?: string;
}

/** What a directory has to run in a language; undefined when it has nothing. */
async function find(directory: string, language: LanguageName): Promise<Found | undefined> {
  const names: string[] = [];
  for await (const { name, isFile } of Deno.readDir(directory)) if (isFile) names.push(name);
  const { entryPoints } = languages[language];
  if (await languageOfSource(directory) === language) return { source: "." };
  if (entryPoints.some((name) => names.includes(name))) return { source: "." };
  const sources = names.filter((name) => languageOfFile(name)?.name === language).sort();
  if (sources.length <= 1) return sources[0] === undefined ? undefined : { source: sources[0] };
  return { source: ".", entryPoint: sources[0]! };
}

/** The language of a directory's files, when they are all of one. */
async function languageOf(directory: string): Promise<LanguageName | undefined> {
  const whole = await languageOfSource(directory);
  if (whole !== undefined) return whole;
  const found = new Set<LanguageName>();
  for await (const { name, isFile } of Deno.readDir(directory)) {
    const language = isFile ? languageOfFile(name)?.name : undefined;
    if (language !== undefined) found.add(language);
  }
  return found.size === 1 ? [...found][0] : undefined;
}

/** Whether anything is there, a link that leads nowhere included. */
async function isThere(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, (error) => {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  });
}

async function init(directory: string, written: string | undefined, force: boolean): Promise<void> {
  const { name, version } = splitLanguage(written ?? "");
  const asked = written === undefined ? undefined : languageNamed(name).name;
  const exact = asked === undefined || version === undefined
    ? undefined
    : languageVersion(asked, version).version;
  await Deno.mkdir(directory, { recursive: true });
  const path = join(directory, CONFIG);
  if (!force && await isThere(path)) {
    throw new CloudletError(`Cannot write ${path}: there is one already`, {
      code: "conflict",
      remedy: "give --force to replace it, or another directory",
    });
  }
  const language = asked ?? await languageOf(directory);
  if (language === undefined) {
    throw new CloudletError("Cannot write a config: the files here do not tell a language", {
      code: "invalid-input",
      remedy: `name it with --language: ${Object.keys(languages).join(", ")}`,
    });
  }
  const made: string[] = [];
  let found = await find(directory, language);
  if (found === undefined) {
    found = { source: `hello${languages[language].extensions[0]}` };
    const hello = join(directory, found.source);
    await Deno.writeTextFile(hello, HELLO[language], { createNew: true });
    made.push(hello);
  }
  const text = configText({
    ".workload-name": JSON.stringify(basename(resolve(directory)).slice(0, 200) || "program"),
    ".language": JSON.stringify(joinLanguage(language, exact)),
    "build.source-code-path": JSON.stringify(found.source),
    ...(found.entryPoint && { "build.entry-point": JSON.stringify(found.entryPoint) }),
  });
  if (force) await writeFileAtomic(path, text);
  else await Deno.writeTextFile(path, text, { createNew: true });
  for (const one of [...made, path]) writeLine(one);
  say(`Run it with: cloudlet run ${path}`);
}

/** The command `init`. */
export const initCommand = buildCommand({
  docs: {
    brief: "Write a config file, with every key and what it does",
    fullDescription: "The config is for the program that is in the directory, or for a first one " +
      "that is written as well. Nothing is overwritten but with --force, and then only the config.",
  },
  parameters: {
    flags: {
      language: {
        kind: "parsed",
        parse: String,
        optional: true,
        placeholder: "language",
        brief: `language: ${Object.keys(languages).join(", ")}; that of the files when absent`,
      },
      force: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "replace the config that is there",
      },
    },
    positional: {
      kind: "tuple",
      parameters: [{
        brief: "where it is written; the current directory when absent",
        parse: String,
        placeholder: "directory",
        default: ".",
      }],
    },
  },
  async func(flags: { readonly language?: string; readonly force: boolean }, directory: string) {
    await init(directory, flags.language, flags.force);
  },
});
