/**
 * How interpreters are started before there is a program: each runs its usual command on a file that
 * is not there yet, with a hook of the interpreter's own that waits first. When the program comes, it
 * runs as if it had been there from the start: same main module, same traces.
 *
 * A hook writes one byte when it waits, and reads the program's start (hook_protocol.ts) from standard
 * input.
 *
 * An idle interpreter in a snapshot wakes up in each of its clones, so the hook seeds anew what the
 * interpreter seeded when it started. Python's `random` is not imported by then. OpenSSL (Node's
 * crypto) sees that its seed has become too old, which restoring arranges (node/clone_identity.ts), and
 * seeds itself. What stays the same in all clones: the secret keys of hash tables, and addresses.
 *
 * For the same reason the hook corrects what the interpreter took from the wall clock when it started.
 * The monotonic clock stands still between the snapshot and its clones and needs no correction.
 *
 * @module
 */
import bash from "./hooks/bash.sh" with { type: "text" };
import deno from "./hooks/deno.ts" with { type: "text" };
import node from "./hooks/node.cjs" with { type: "text" };
import python from "./hooks/python.py" with { type: "text" };
import type { Language } from "../workload/languages.ts";

/** How one language's interpreter is started idle. */
export interface InterpreterHook {
  /** The hook's file name, alone in a directory of its own. */
  readonly fileName: string;
  /** The hook. */
  readonly text: string;
  /**
   * The command and further variables that make the interpreter start with the hook.
   *
   * @param command that would run the program
   * @param path absolute, of the hook
   */
  start(command: readonly string[], path: string): {
    readonly command: readonly string[];
    readonly environment: Readonly<Record<string, string>>;
  };
}

/** By the language's name. */
const HOOKS: ReadonlyMap<Language["name"], InterpreterHook> = new Map([
  ["python", {
    fileName: "sitecustomize.py",
    text: python,
    start(command, path) {
      const directory = path.slice(0, path.lastIndexOf("/"));
      return {
        command: [...command.slice(0, -1), directory],
        environment: { PYTHONPATH: directory },
      };
    },
  }],
  ["node", {
    fileName: "hook.cjs",
    text: node,
    start: ([node, ...args], path) => ({
      command: [node!, "--require", path, ...args],
      environment: {},
    }),
  }],
  ["deno", {
    fileName: "hook.ts",
    text: deno,
    start: ([deno, run, ...args], path) => ({
      command: [deno!, run!, `--preload=${path}`, ...args],
      environment: {},
    }),
  }],
  ["bash", {
    fileName: "hook.sh",
    text: bash,
    start: (command, path) => ({ command, environment: { BASH_ENV: path } }),
  }],
]);

/** The hook of a language's interpreter; undefined when it cannot be idle. */
export function hookOf({ name }: Language): InterpreterHook | undefined {
  return HOOKS.get(name);
}
