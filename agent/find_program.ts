/**
 * Finding a command's program, and saying why it cannot be started.
 *
 * The exit codes are those of shells (POSIX.1-2017, Shell Command Language, 2.8.2) and of docker run:
 * 127 for a command that is not there, 126 for one that cannot be executed.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { type Credentials, withCredentials } from "./credentials.ts";
import { cString, EACCES, ENOENT, ENOTDIR, errorText, libc } from "./libc.ts";

const X_OK = 1; // access(2)
const SHEBANG = 256; // bytes that Linux reads of one: include/uapi/linux/binfmts.h, BINPRM_BUF_SIZE

/** A program that could not be started. */
export class StartError extends CloudletError {
  /** As a shell would give it. */
  readonly exitCode: 126 | 127;

  /** Makes an error, to be thrown. */
  constructor(message: string, exitCode: 126 | 127) {
    super(message, { code: "invalid-input" });
    this.exitCode = exitCode;
  }
}

/** A command, and where it would run. */
export interface Command {
  /** As it is called. */
  readonly name: string;
  /** Directories separated by colons, in which a name without a slash is looked for. */
  readonly path: string;
  /** Absolute working directory. */
  readonly directory: string;
  /** As whom it runs; as root when absent. */
  readonly user?: Credentials | undefined;
}

/** Files that the name may mean, in the order of the PATH; relative ones are of the directory. */
export function* candidates({ name, path, directory }: Command): Generator<string> {
  if (name.includes("/")) {
    yield name.startsWith("/") ? name : `${directory}/${name}`;
    return;
  }
  if (name === "") return;
  for (const element of path.split(":")) { // an empty one is the working directory
    const file = `${element.startsWith("/") ? "" : `${directory}/`}${element}/${name}`;
    if (statIfAny(file) !== undefined) yield file;
  }
}

/** Whether execvp(3) looks on after this error. */
export function looksOn(code: number): boolean {
  return code === ENOENT || code === ENOTDIR || code === EACCES;
}

/**
 * Why a command could not be started.
 *
 * @param tried the file that was there; undefined when there was none
 * @param code error number of the attempt
 */
export function startError(command: Command, tried: string | undefined, code: number): StartError {
  const { name, path, directory, user } = command;
  const where = directoryProblem(directory, user);
  if (where !== undefined) return where;
  const cannot = (why: string) =>
    new StartError(
      `Cannot start ${JSON.stringify(name)}: ${why}`,
      code === ENOENT || tried === undefined ? 127 : 126,
    );
  if (tried === undefined) {
    if (name === "") return cannot("its name is empty");
    return cannot(`no directory of the PATH has it: ${path === "" ? "the PATH is empty" : path}`);
  }
  const called = name.includes("/") ? "it" : tried;
  if (code === ENOENT) {
    const info = statIfAny(tried);
    if (info === undefined && isLink(tried)) return cannot(`${called} is a link to nothing`);
    if (info === undefined) return cannot("there is no such file");
    const interpreter = interpreterOf(tried);
    return cannot(
      interpreter === undefined
        ? `the dynamic linker that ${called} needs is not there`
        : `its interpreter ${interpreter} is not there`,
    );
  }
  if (code !== EACCES) return cannot(errorText(code));
  const info = statIfAny(tried);
  if (info?.isDirectory) return cannot(`${called} is a directory`);
  if (info?.isFile && ((info.mode ?? 0) & 0o111) === 0) {
    return cannot(`${called} is not executable`);
  }
  return cannot(
    user === undefined || user.uid === 0
      ? errorText(code)
      : `the user ${user.uid} may not execute ${called}`,
  );
}

/** Why a program cannot run in a directory; undefined when it can. */
function directoryProblem(directory: string, user: Credentials | undefined) {
  const info = statIfAny(directory);
  if (info === undefined) return directoryError(directory, "there is no such directory");
  if (!info.isDirectory) return directoryError(directory, "it is not a directory");
  const mayEnter = () => libc().access(cString(directory), X_OK) === 0;
  if (user === undefined || withCredentials(user, mayEnter)) return undefined;
  return directoryError(directory, `the user ${user.uid} may not enter it`);
}

/** The error of a program that cannot run in its directory. */
export function directoryError(directory: string, why: string): StartError {
  const shown = directory.length > 300 ? `${directory.slice(0, 300)}…` : directory;
  return new StartError(`Cannot run in the directory ${JSON.stringify(shown)}: ${why}`, 126);
}

function statIfAny(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch {
    return undefined;
  }
}

function isLink(path: string): boolean {
  try {
    return Deno.lstatSync(path).isSymlink;
  } catch {
    return false;
  }
}

/** What a script's first line names; undefined for what is no script. */
function interpreterOf(path: string): string | undefined {
  try {
    if (!Deno.statSync(path).isFile) return undefined;
    using file = Deno.openSync(path);
    const buffer = new Uint8Array(SHEBANG);
    const length = file.readSync(buffer) ?? 0;
    const text = new TextDecoder().decode(buffer.subarray(0, length));
    return /^#![ \t]*([^\s\0]+)/.exec(text)?.[1];
  } catch {
    return undefined;
  }
}
