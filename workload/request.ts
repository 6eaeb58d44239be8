/**
 * Checks what a client asks for, before anything is done about it. Clients are hostile.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import {
  type ExecuteRequest,
  ExecuteRequest_Action,
  type File,
  type Options,
  type WarmRequest,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { type FileLike, isRegular } from "./file_list.ts";
import { COMMAND, type Language, languageOrCommand } from "./languages.ts";
import { type InterpreterNeeds, usualNeeds } from "./interpreter_needs.ts";

/** Limits of one request. */
export const LIMITS = {
  /** Bytes of a whole request message. */
  message: 256 * 1024 * 1024,
  /** Files of a project. */
  files: 20_000,
  /** Arguments, and environment variables. */
  strings: 4096,
  /** Bytes of one argument or variable: MAX_ARG_STRLEN of include/uapi/linux/binfmts.h, less NUL. */
  string: 131_071,
  /** Bytes of all arguments and variables. */
  allStrings: 1024 * 1024,
  /** Bytes of a path: PATH_MAX of include/uapi/linux/limits.h, with room for our directory. */
  path: 3072,
  /** Bytes of a name in a path: NAME_MAX. */
  name: 255,
  /** Bytes of a link's target: PATH_MAX, less NUL. */
  target: 4095,
  /** Names in the path of a file. */
  depth: 128,
  /** Directories of a project. */
  directories: 20_000,
  /** Longest time limit, in milliseconds: that of a timer of 31 bits. */
  timeout: 2 ** 31 - 1,
} as const;

/** A request that was found to be in order. */
export interface Job {
  readonly id: string;
  readonly workloadName: string;
  readonly language: Language;
  readonly action: ExecuteRequest_Action;
  /** Files of the workload; empty when it is one that was prepared before. */
  readonly sources: readonly File[];
  readonly args: readonly string[];
  /** The program's. */
  readonly environment: Readonly<Record<string, string>>;
  readonly buildEnvironment: Readonly<Record<string, string>>;
  /** Relative; "" is the workload's directory. */
  readonly workingDirectory: string;
  readonly entryPoint: string | undefined;
  readonly release: boolean;
  /** Milliseconds. */
  readonly timeout: number | undefined;
  /** Milliseconds. */
  readonly buildTimeout: number | undefined;
  readonly stdin: Uint8Array;
  readonly stdinStream: boolean;
  /** Whether the client wants to hear when the program waits for input. */
  readonly stdinOnDemand: boolean;
  readonly outputs: readonly string[];
  readonly rawOutput: boolean;
  /** As whom the program runs, as an image's configuration says it; "" is root. */
  readonly user: string;
  /** Absolute directory of a command; "" is the root. */
  readonly commandDirectory: string;
  /** What building made before, somewhere else; nothing when it is to be built. */
  readonly built: readonly File[];
  /** Whether what is built now need not be sent. */
  readonly builtStays: boolean;
  /** Whether an idle interpreter is left alone. */
  readonly cold: boolean;
}

function refuse(what: string, why: string): CloudletError {
  return new CloudletError(`Cannot take the request: ${what} ${why}`, { code: "invalid-input" });
}

const utf8 = new TextEncoder();

/** Length in bytes of the UTF-8 form, without making it where that can be avoided. */
function byteLength(text: string, limit: number): number {
  return text.length > limit ? text.length : utf8.encode(text).length;
}

/**
 * A relative path without surprises.
 *
 * @param what names the path in the error
 */
export function checkPath(path: string, what: string): string {
  const shown = JSON.stringify(path.slice(0, 100));
  if (path === "") throw refuse(what, "is an empty path");
  if (path.includes("\0")) throw refuse(what, `${shown} has a NUL character`);
  if (!path.isWellFormed()) throw refuse(what, `${shown} is not Unicode`);
  if (path.startsWith("/")) throw refuse(what, `${shown} is absolute`);
  if (byteLength(path, LIMITS.path) > LIMITS.path) {
    throw refuse(what, `${shown}… is longer than ${LIMITS.path} bytes`);
  }
  for (const name of path.split("/")) {
    if (name === "" || name === "." || name === "..") {
      throw refuse(what, `${shown} has an empty name, "." or ".." in it`);
    }
    if (byteLength(name, LIMITS.name) > LIMITS.name) {
      throw refuse(what, `${shown}… has a name longer than ${LIMITS.name} bytes`);
    }
  }
  return path;
}

/**
 * Checks what a file is: its mode, and that it is a regular file, a link or a directory.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function checkFileKind(file: FileLike): void {
  const { path, mode, content, target = "", directory = false } = file;
  if (mode > 0o777) throw refuse(`the mode of ${path}`, "is not of permission bits");
  if (isRegular(file)) return;
  const what = target === "" ? `the directory ${path}` : `the link ${path}`;
  if (target !== "" && directory) throw refuse(what, "is a directory too");
  if (content.length > 0) throw refuse(what, "has a content");
  if (mode !== 0) throw refuse(what, "has a mode");
  if (target.includes("\0")) throw refuse(what, "leads to a name with a NUL character");
  if (byteLength(target, LIMITS.target) > LIMITS.target) {
    throw refuse(what, `leads to a name longer than ${LIMITS.target} bytes`);
  }
}

/** The paths of the directories in which a file is, the innermost first. */
function* parentsOf(path: string): Generator<string> {
  for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
    yield path.slice(0, end);
  }
}

function checkFiles(files: readonly File[]): void {
  if (files.length > LIMITS.files) throw refuse("files", `are more than ${LIMITS.files}`);
  const byPath = new Map<string, File>();
  const directories = new Set<string>();
  for (const file of files) {
    checkPath(file.path, "a file name");
    checkFileKind(file);
    if (file.path.split("/").length > LIMITS.depth) {
      throw refuse(`${JSON.stringify(file.path.slice(0, 100))}…`, `is deeper than ${LIMITS.depth}`);
    }
    if (byPath.has(file.path)) throw refuse(`the file ${file.path}`, "is there twice");
    byPath.set(file.path, file);
    for (const parent of parentsOf(file.path)) {
      if (directories.has(parent)) break; // and so are those in which it is
      directories.add(parent);
    }
    if (directories.size > LIMITS.directories) {
      throw refuse("files", `are in more than ${LIMITS.directories} directories`);
    }
  }
  for (const path of directories) {
    const file = byPath.get(path);
    if (file === undefined || file.directory) continue;
    // What is written below a link could end up anywhere.
    if (file.target !== "") throw refuse(`the link ${path}`, "has files below it");
    throw refuse(`the file ${path}`, "is a directory too");
  }
}

function checkStrings(args: readonly string[], environment: Readonly<Record<string, string>>) {
  const variables = Object.entries(environment);
  if (args.length > LIMITS.strings) throw refuse("args", `are more than ${LIMITS.strings}`);
  if (variables.length > LIMITS.strings) throw refuse("env", `has more than ${LIMITS.strings}`);
  for (const [name] of variables) {
    if (name === "" || name.includes("=")) {
      throw refuse(`the variable ${JSON.stringify(name.slice(0, 100))}`, "has no valid name");
    }
  }
  let sum = 0;
  for (const text of [...args, ...variables.map(([name, value]) => `${name}=${value}`)]) {
    if (text.includes("\0")) throw refuse("an argument or variable", "has a NUL character");
    const length = byteLength(text, LIMITS.string);
    if (length > LIMITS.string) {
      throw refuse("an argument or variable", `is longer than ${LIMITS.string} bytes`);
    }
    sum += length + 1;
  }
  if (sum > LIMITS.allStrings) {
    throw refuse("args and env", `are longer than ${LIMITS.allStrings} bytes together`);
  }
}

function checkUser(user: string): string {
  if (/^[^\0\n]{0,255}$/.test(user)) return user;
  throw refuse("the user", "is longer than 255 characters or has a line break in it");
}

function checkDirectory(path: string): string {
  if (path === "") return path;
  if (!path.startsWith("/") || path.includes("\0")) {
    throw refuse("the command's directory", "is not absolute, or has a NUL character in it");
  }
  if (byteLength(path, LIMITS.path) > LIMITS.path) {
    throw refuse("the command's directory", `is longer than ${LIMITS.path} bytes`);
  }
  return path;
}

function milliseconds(duration: Options["timeout"], what: string): number | undefined {
  if (duration === undefined) return undefined;
  const value = Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  if (!(value > 0)) throw refuse(what, "is not above zero");
  return Math.min(Math.ceil(value), LIMITS.timeout);
}

/**
 * Checks a request.
 *
 * @throws {CloudletError} `invalid-input` for what is out of order
 */
export function checkRequest(request: ExecuteRequest): Job {
  const language = languageOrCommand(request.language);
  if (ExecuteRequest_Action[request.action] === undefined) {
    throw refuse("the action", `${request.action} is unknown`);
  }
  if (byteLength(request.workloadName, LIMITS.name) > LIMITS.name) {
    throw refuse("the workload's name", `is longer than ${LIMITS.name} bytes`);
  }
  const options = request.options;
  const files = options?.files ?? [];
  if (request.code !== "" && files.some(({ path }) => path === language.sourceFile)) {
    throw refuse("code", `and the file ${language.sourceFile} are both there`);
  }
  checkFiles(files);
  checkFiles(options?.built ?? []);
  const id = options?.executionId ?? "";
  if (!/^[A-Za-z0-9._-]{0,128}$/.test(id)) {
    throw refuse("the execution id", "is not 1 to 128 of A-Z a-z 0-9 . _ -");
  }
  const args = options?.args ?? [];
  const environment = options?.env ?? {};
  checkStrings(args, environment);
  const buildEnvironment = options?.buildEnv ?? {};
  checkStrings([], buildEnvironment);
  const workingDirectory = options?.workingDirectory ?? "";
  if (workingDirectory !== "" && workingDirectory !== ".") {
    checkPath(workingDirectory, "the working directory");
  }
  const entryPoint = options?.entryPoint ?? "";
  if (entryPoint !== "") checkPath(entryPoint, "the entry point");
  const outputs = options?.outputs ?? [];
  if (outputs.length > LIMITS.strings) throw refuse("outputs", `are more than ${LIMITS.strings}`);
  for (const path of outputs) checkPath(path, "an output");
  return {
    id: id === "" ? crypto.randomUUID() : id,
    workloadName: request.workloadName,
    language,
    action: request.action,
    sources: sources(request, language, files),
    args,
    environment,
    buildEnvironment,
    workingDirectory: workingDirectory === "." ? "" : workingDirectory,
    entryPoint: entryPoint === "" ? undefined : entryPoint,
    release: options?.release ?? false,
    timeout: milliseconds(options?.timeout, "the timeout"),
    buildTimeout: milliseconds(options?.buildTimeout, "the build timeout"),
    stdin: options?.stdin ?? new Uint8Array(),
    stdinStream: options?.stdinStream ?? false,
    stdinOnDemand: options?.stdinOnDemand ?? false,
    outputs,
    rawOutput: options?.rawOutput ?? false,
    built: options?.built ?? [],
    builtStays: options?.builtStays ?? false,
    cold: options?.cold ?? false,
    user: checkUser(options?.user ?? ""),
    commandDirectory: checkDirectory(options?.commandDirectory ?? ""),
  };
}

/**
 * Checks for what program an interpreter shall be idle.
 *
 * @throws {CloudletError} `invalid-input` for what is out of order
 */
export function checkWarmRequest(
  request: WarmRequest,
): { readonly language: Language; readonly needs: InterpreterNeeds } {
  const language = languageOrCommand(request.language);
  const { entryPoint, files } = request;
  checkFiles(files);
  if (entryPoint === "") return { language, needs: { ...usualNeeds(language), files } };
  return { language, needs: { entryPoint: checkPath(entryPoint, "the entry point"), files } };
}

function sources(
  request: ExecuteRequest,
  language: Language,
  files: readonly File[],
): readonly File[] {
  if (request.code === "" && files.length > 0) return files;
  if (language.name === COMMAND) return files;
  // A RUN without a source is of what was prepared; an empty program is prepared or both.
  if (request.code === "" && request.action === ExecuteRequest_Action.RUN) return files;
  const code: File = {
    $typeName: "cloudlet.agent.File",
    path: language.sourceFile,
    content: utf8.encode(request.code),
    mode: 0,
    offset: 0n,
    target: "",
    directory: false,
  };
  return [...files, code];
}
