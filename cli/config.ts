/**
 * The config file of a workload. The fields of virt-do/cloudlet keep their names and meaning;
 * `[run]`, `[vm]` and `[image]` are ours.
 *
 * @module
 */
import { basename, dirname, resolve } from "node:path";
import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import { type LanguageName, languageNamed, languages } from "../workload/languages.ts";
import type { WrittenLanguage } from "../api/library/options.ts";
import { languageOfSource } from "../api/library/source.ts";
import type { BuildNetworkOptions, NetworkOptions } from "../api/network.ts";
import { languageVersion, splitLanguage } from "../builder/image/versions.ts";
import { CloudletError, messageOf } from "../base/errors.ts";
import { reasonOfFile } from "../base/files.ts";
import { nearest } from "../base/nearest.ts";
import { type SchemaProblem, schemaProblems } from "../base/schema_problems.ts";
import { formatReference, parseReference } from "../builder/oci/reference.ts";
import { isKernelSource } from "../builder/kernel/source.ts";
import { buildNetworkOf, networkOf } from "./config_network.ts";
import { buildNetworkTable, networkTable, text } from "./config_schema.ts";
import { parseDuration, parseMemory } from "./units.ts";
import { lazyImport } from "../base/lazy_import.ts";

/** What to do with a workload: build it, run what was built before, or both. */
export type Action = "prepare" | "run" | "prepare-and-run";

/** A checked config file; every path is absolute. */
export interface Config {
  /** The config file itself. */
  readonly path: string;
  /** Name of the workload, for people. */
  readonly workloadName: string;
  /** Language of the workload; undefined when there is no source. */
  readonly language: WrittenLanguage | undefined;
  /** What to do. */
  readonly action: Action;
  /** The server that `--remote` sends the workload to. */
  readonly server: { readonly address: string; readonly port: number };
  /** The source file, or the directory of a project; undefined when the image's command is run. */
  readonly source: string | undefined;
  /** The file of the project that is run, or cargo's program; the language's default when undefined. */
  readonly entryPoint: string | undefined;
  /** Build with optimisation. */
  readonly release: boolean;
  /** Variables added to the environment of building. */
  readonly buildEnv: Readonly<Record<string, string>>;
  /** What installing the project's packages may reach; undefined for nothing. */
  readonly buildNetwork: BuildNetworkOptions | undefined;
  /** False runs the project without the packages that it names. */
  readonly install: boolean;
  /** Dependency groups that are installed as well. */
  readonly groups: readonly string[];
  /** Whether installing is configured as this user's own tools. */
  readonly hostConfig: boolean;
  /** How the program is started. */
  readonly run: {
    /** Its arguments, without its own name. */
    readonly args: readonly string[];
    /** Variables added to its environment. */
    readonly env: Readonly<Record<string, string>>;
    /** File that is its standard input; undefined is the command's own standard input, false is none. */
    readonly stdin: string | false | undefined;
    /** Milliseconds after which it is killed. */
    readonly timeout: number | undefined;
  };
  /** The microVM. */
  readonly vm: {
    /** Number of virtual CPUs. */
    readonly vcpus: number | undefined;
    /** Memory in MiB. */
    readonly memory: number | undefined;
    /** `debian`, `built`, or the absolute path of a kernel; what suits the host when absent. */
    readonly kernel: string | undefined;
  };
  /** What the program may reach, and what reaches it; undefined for nothing. */
  readonly network: NetworkOptions | undefined;
  /** The root image. */
  readonly image: {
    /** The OCI image that it is made from; the language's own when undefined. */
    readonly from: string | undefined;
    /** Debian packages added to those of the image. */
    readonly packages: readonly string[];
    /** Files and directories of this host to add, by their path in the image. */
    readonly files: Readonly<Record<string, string>>;
    /** Shell commands whose changes belong to the image. */
    readonly run: readonly string[];
  };
}

/** Turns a reader of units into a zod transform with the reader's own message. */
function unit(read: (value: string | number) => number): z.ZodType<number> {
  return z.union([z.string(), z.number()], "expected a number or a text").transform(
    (value, context) => {
      try {
        return read(value);
      } catch (error) {
        const remedy = error instanceof CloudletError ? `; ${error.remedy}` : "";
        context.addIssue({ code: "custom", message: messageOf(error) + remedy });
        return z.NEVER;
      }
    },
  );
}

const LANGUAGES = Object.keys(languages) as LanguageName[];
const LANGUAGE = z.enum(LANGUAGES);
/** `LANGUAGE` or `LANGUAGE@VERSION` */
const language = z.unknown().transform((value, context): WrittenLanguage => {
  const { name, version } = typeof value === "string"
    ? splitLanguage(value)
    : { name: value, version: undefined };
  const known = LANGUAGE.safeParse(name);
  if (!known.success) {
    context.addIssue({ code: "invalid_value", values: LANGUAGES, input: value });
    return z.NEVER;
  }
  try {
    if (version === undefined) return known.data;
    return `${known.data}@${languageVersion(known.data, version).version}`;
  } catch (error) {
    const remedy = error instanceof CloudletError ? `; ${error.remedy}` : "";
    context.addIssue({ code: "custom", message: messageOf(error) + remedy });
    return z.NEVER;
  }
});
const path = text.min(1, "must not be empty");

const variables = z.record(
  text.regex(/^[^=]+$/, 'a variable\'s name must not be empty nor have "=" in it'),
  text,
).default({});

const schema = z.strictObject({
  "workload-name": text.min(1, "must not be empty").max(200, "must have at most 200 characters")
    .optional(),
  language: language.optional(),
  action: z.enum(["prepare", "run", "prepare-and-run"]).default("prepare-and-run"),
  server: z.strictObject({
    address: text.min(1, "must not be empty").default("localhost"),
    port: z.int().min(1).max(65535).default(3000),
  }).prefault({}),
  build: z.strictObject({
    "source-code-path": path.optional(),
    "entry-point": path.optional(),
    release: z.boolean().default(false),
    env: variables,
    network: buildNetworkTable,
    install: z.boolean().default(true),
    groups: z.array(text).default([]),
    "host-config": z.boolean().default(false),
  }).prefault({}),
  run: z.strictObject({
    args: z.array(text).default([]),
    env: variables,
    stdin: z.union([path, z.literal(false)]).optional(),
    timeout: unit(parseDuration).optional(),
  }).prefault({}),
  vm: z.strictObject({
    vcpus: z.int().min(1).max(64).optional(),
    memory: unit(parseMemory).optional(),
    kernel: path.optional(),
  }).prefault({}),
  network: networkTable.prefault({}),
  image: z.strictObject({
    from: path.optional(),
    packages: z.array(text.regex(/^[a-z0-9][a-z0-9+.-]+$/, "is no name of a Debian package"))
      .default([]),
    files: z.record(path.regex(/^\//, "a file's place in the image must be an absolute path"), path)
      .default({}),
    run: z.array(path).default([]),
  }).prefault({}),
});

/** Every key that may be written, each with its table: for suggestions. */
export const KEYS: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(schema.shape),
  server: ["address", "port"],
  build: [
    "source-code-path",
    "entry-point",
    "release",
    "env",
    "network",
    "install",
    "groups",
    "host-config",
  ],
  run: ["args", "env", "stdin", "timeout"],
  vm: ["vcpus", "memory", "kernel"],
  network: ["access", "allow", "deny", "publish", "bandwidth", "secrets"],
  image: ["from", "packages", "files", "run"],
};

function quote(key: string): string {
  return JSON.stringify(key);
}

/** What an unknown key may have been meant to be. */
function hint(table: readonly (string | number)[], key: string): string {
  const near = nearest(key, KEYS[table.join(".")] ?? []);
  if (near !== undefined) return `; did you mean ${quote(near)}?`;
  const other = Object.entries(KEYS).find(([, keys]) => keys.includes(key));
  if (other === undefined) return "";
  return other[0] === ""
    ? "; it belongs at the top of the file, before the first table"
    : `; it belongs in the table [${other[0]}]`;
}

async function refuse(
  file: string,
  content: string,
  problems: readonly SchemaProblem[],
): Promise<CloudletError> {
  const { positionOf } = await lazyImport<typeof import("./toml_position.ts")>(
    "./toml_position.ts",
    import.meta.url,
  );
  const placed = problems.map((problem) => ({ ...problem, at: positionOf(content, problem.path) }));
  placed.sort((a, b) => (a.at?.line ?? 0) - (b.at?.line ?? 0));
  const lines = placed.map(({ path, message, at }) => {
    const place = at === undefined ? file : `${file}:${at.line}:${at.column}`;
    return `${place}: ${path.join(".")}: ${message}`;
  });
  const list = lines.length === 1 ? ` ${lines[0]}` : lines.map((line) => `\n  ${line}`).join("");
  return new CloudletError(`Cannot use the config file:${list}`, {
    code: "invalid-input",
    remedy: lines.length === 1 ? "correct that line" : "correct those lines",
  });
}

/** What is wrong with an entry point, if anything is. */
function entryPointProblem(
  source: string | undefined,
  entryPoint: string,
  language: LanguageName | undefined,
): string | undefined {
  if (source === undefined) return "belongs to a project, and there is no source-code-path";
  const isFile = (path: string) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  };
  if (isFile(source)) return "belongs to a project, and source-code-path is a file";
  // With cargo it may be the name of a program.
  if (language === "rust" || isFile(resolve(source, entryPoint))) return undefined;
  return `${resolve(source, entryPoint)} is no file; it starts from source-code-path`;
}

/**
 * Checks the text of a config file.
 *
 * @param content the text
 * @param file its path: for messages, and what relative paths in it start from
 * @throws {CloudletError} `invalid-input`, naming file, line and key of everything that is wrong
 */
export async function parseConfig(content: string, file: string): Promise<Config> {
  let data: unknown;
  try {
    data = parse(content);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const why = error.message.split("\n")[0]!.replace(/^Invalid TOML document: /, "");
    throw new CloudletError(
      `Cannot use the config file: ${file}:${error.line}:${error.column}: ${why}\n\n` +
        error.codeblock.trimEnd(),
      { code: "invalid-input", remedy: "the file must be TOML, see toml.io", cause: error },
    );
  }
  const checked = schema.safeParse(data);
  if (!checked.success) {
    throw await refuse(
      file,
      content,
      schemaProblems(checked.error, data, { object: "a table", hint }),
    );
  }
  const values = checked.data;

  const base = dirname(resolve(file));
  const problems: SchemaProblem[] = [];
  const existing = (keys: string[], value: string, kinds: "file" | "file or directory") => {
    const path = resolve(base, value);
    try {
      const info = Deno.statSync(path);
      if (info.isDirectory && kinds === "file") {
        problems.push({ path: keys, message: `${path} is a directory, not a file` });
      }
    } catch (error) {
      const why = error instanceof Deno.errors.NotFound ? "does not exist" : messageOf(error);
      problems.push({ path: keys, message: `${path} ${why}` });
    }
    return path;
  };
  const optionalFile = (keys: string[], value: string | undefined) =>
    value === undefined ? undefined : existing(keys, value, "file");

  const code = values.build["source-code-path"];
  if (code === undefined && values.image.from === undefined) {
    problems.push({
      path: ["build", "source-code-path"],
      message: "is missing; only an image can be run without a source ([image] from)",
    });
  }
  const source = code === undefined
    ? undefined
    : existing(["build", "source-code-path"], code, "file or directory");
  const entryPoint = values.build["entry-point"];
  const language = values.language ??
    (source === undefined ? undefined : await languageOfSource(source, entryPoint));
  if (entryPoint !== undefined) {
    const name = language && languageNamed(splitLanguage(language).name).name;
    const message = entryPointProblem(source, entryPoint, name);
    if (message !== undefined) problems.push({ path: ["build", "entry-point"], message });
  }
  const files = Object.fromEntries(
    Object.entries(values.image.files).map(([goal, value]) => [
      goal,
      existing(["image", "files", goal], value, "file or directory"),
    ]),
  );
  let from: string | undefined;
  try {
    from = values.image.from && formatReference(parseReference(values.image.from, base));
  } catch (error) {
    problems.push({ path: ["image", "from"], message: messageOf(error) });
  }
  const stdin = values.run.stdin === false
    ? false
    : optionalFile(["run", "stdin"], values.run.stdin);
  const kernel = values.vm.kernel !== undefined && isKernelSource(values.vm.kernel)
    ? values.vm.kernel
    : optionalFile(["vm", "kernel"], values.vm.kernel);
  const network = networkOf(values.network, problems);
  const buildNetwork = buildNetworkOf(values.build.network, problems);
  if (language === undefined && source !== undefined && problems.length === 0) {
    problems.push({
      path: ["language"],
      message: "is missing, and the name of the source does not tell it; write one of " +
        LANGUAGES.map(quote).join(", "),
    });
  }
  if (problems.length > 0) throw await refuse(file, content, problems);

  return {
    path: resolve(file),
    workloadName: values["workload-name"] ?? basename(source ?? values.image.from!),
    language,
    action: values.action,
    server: values.server,
    source,
    entryPoint,
    release: values.build.release,
    buildEnv: values.build.env,
    buildNetwork,
    install: values.build.install,
    groups: values.build.groups,
    hostConfig: values.build["host-config"],
    run: { args: values.run.args, env: values.run.env, stdin, timeout: values.run.timeout },
    vm: { vcpus: values.vm.vcpus, memory: values.vm.memory, kernel },
    network,
    image: { ...values.image, from, files },
  };
}

/**
 * Reads and checks a config file.
 *
 * @param file its path
 * @throws {CloudletError} `not-found` when it is missing, `invalid-input` when something is wrong
 */
export async function loadConfig(file: string): Promise<Config> {
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(file);
  } catch (cause) {
    throw new CloudletError(`Cannot read the config file ${file}: ${reasonOfFile(cause)}`, {
      code: "not-found",
      remedy: "give the path of a config.toml or of a source file",
      cause,
    });
  }
  let content: string;
  try {
    content = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CloudletError(`Cannot use the config file: ${file} is not UTF-8 text`, {
      code: "invalid-input",
      remedy: "save the file as UTF-8",
      cause,
    });
  }
  return await parseConfig(content, file);
}
