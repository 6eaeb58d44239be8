/**
 * Starts a program in a session of its own, by posix_spawn(3): without a fork of Deno.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { type Credentials, withCredentials } from "./credentials.ts";
import { candidates, type Command, looksOn, startError } from "./find_program.ts";
import { checked, cString, cStringArray, EACCES, libc, memory, O_CLOEXEC } from "./libc.ts";
import { exposeChild } from "./memory_watch.ts";

/** What to start. */
export interface SpawnOptions {
  /** Program and its arguments. */
  readonly command: readonly string[];
  /** Where a program without a slash in its name is looked for, as in PATH; the agent's when absent. */
  readonly path?: string | undefined;
  /** The whole environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** Absolute working directory. */
  readonly directory: string;
  /** Whether standard input comes through a pipe; otherwise it is empty. */
  readonly stdin: boolean;
  /** As whom it runs; as root when absent. */
  readonly user?: Credentials | undefined;
}

/** A process that started. The caller owns it and the agent's ends of its pipes. */
export interface Spawned {
  /** Process id, and id of its session and process group. */
  readonly pid: number;
  /** The pipe to write to; -1 for none. */
  readonly stdin: number;
  /** The pipe to read from. */
  readonly stdout: number;
  /** The pipe to read from. */
  readonly stderr: number;
}

// <spawn.h> of glibc
const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;
const POSIX_SPAWN_SETSID = 0x80;
const SIZEOF_FILE_ACTIONS = 80;
const SIZEOF_ATTRIBUTES = 336;
const SIZEOF_SIGSET = 128;

let attributes: Uint8Array<ArrayBuffer> | undefined;

/**
 * Own session; no signal blocked, and the default action for each: Deno ignores SIGPIPE, and a shell
 * that starts something in the background, as /init starts the agent, has it ignore SIGINT and SIGQUIT.
 */
function spawnAttributes(): Uint8Array<ArrayBuffer> {
  if (attributes === undefined) {
    const c = libc();
    attributes = memory(SIZEOF_ATTRIBUTES);
    c.posix_spawnattr_init(attributes);
    c.posix_spawnattr_setsigdefault(attributes, memory(SIZEOF_SIGSET).fill(0xff));
    c.posix_spawnattr_setsigmask(attributes, memory(SIZEOF_SIGSET));
    c.posix_spawnattr_setflags(
      attributes,
      POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID,
    );
  }
  return attributes;
}

const ends = new Int32Array(new ArrayBuffer(8));
const endsBytes = new Uint8Array(ends.buffer);

/** The reading and the writing end of a new pipe. */
function pipe(): [number, number] {
  checked(libc().pipe2(endsBytes, O_CLOEXEC), "make a pipe");
  return [ends[0]!, ends[1]!];
}

/** Why nothing was started: what execvp(3) would say. */
interface Failure {
  /** The file that the error is about; undefined when there was none. */
  readonly file: string | undefined;
  readonly code: number;
}

/** Starts the first file of a name that can be executed; gives undefined then. */
function startFirst(command: Command, start: (file: string) => number): Failure | undefined {
  let failure: Failure = { file: undefined, code: 0 };
  for (const file of candidates(command)) {
    const code = start(file);
    if (code === 0) return undefined;
    // Of several, the one that is there but may not be executed tells more.
    if (failure.file === undefined || code === EACCES) failure = { file, code };
    if (!looksOn(code)) return { file, code };
  }
  return failure;
}

/**
 * Starts a program.
 *
 * @throws {StartError} when it cannot be executed
 */
export function spawn(options: SpawnOptions): Spawned {
  const { command, environment, directory, user, path = Deno.env.get("PATH") ?? "" } = options;
  const program = command[0];
  if (program === undefined) {
    throw new CloudletError("Cannot start a program: the command is empty", { code: "internal" });
  }
  const c = libc();
  const open: number[] = [];
  const openPipe = (): [number, number] => {
    const both = pipe();
    open.push(...both);
    return both;
  };
  const actions = memory(SIZEOF_FILE_ACTIONS);
  c.posix_spawn_file_actions_init(actions);
  try {
    const stdin = options.stdin ? openPipe() : undefined;
    const stdout = openPipe();
    const stderr = openPipe();
    if (stdin === undefined) {
      c.posix_spawn_file_actions_addopen(actions, 0, cString("/dev/null"), 0, 0);
    } else {
      c.posix_spawn_file_actions_adddup2(actions, stdin[0], 0);
    }
    c.posix_spawn_file_actions_adddup2(actions, stdout[1], 1);
    c.posix_spawn_file_actions_adddup2(actions, stderr[1], 2);
    c.posix_spawn_file_actions_addchdir_np(actions, cString(directory));
    const pid = new Int32Array(new ArrayBuffer(4));
    const argv = cStringArray(command);
    const envp = cStringArray(
      Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    );
    const start = (file: string) =>
      c.posix_spawn(
        new Uint8Array(pid.buffer),
        cString(file),
        actions,
        spawnAttributes(),
        argv,
        envp,
      );
    if (user !== undefined) { // or it could not open /dev/stdout, which leads to the pipe
      for (const fd of open) c.fchown(fd, user.uid, user.gid);
    }
    const wanted = { name: program, path, directory, user };
    const attempt = () => startFirst(wanted, start);
    const failure = user === undefined ? attempt() : withCredentials(user, attempt);
    if (failure !== undefined) throw startError(wanted, failure.file, failure.code);
    const theirs = [stdin?.[0], stdout[1], stderr[1]];
    for (const fd of theirs) if (fd !== undefined) c.close(fd);
    open.length = 0;
    exposeChild(pid[0]!);
    return { pid: pid[0]!, stdin: stdin?.[1] ?? -1, stdout: stdout[0], stderr: stderr[0] };
  } finally {
    for (const fd of open) c.close(fd);
    c.posix_spawn_file_actions_destroy(actions);
  }
}
