/**
 * How interpreters are started before there is a program: each runs its usual command on a file that
 * is not there yet, with a hook of the interpreter's own that waits first. When the program comes, it
 * is run as if it had been there from the start: same main module, same traces.
 *
 * The hook writes one byte when it waits, and reads from standard input what the program is to see:
 * eight hexadecimal digits, the length of what follows in bytes; then strings that each end in NUL:
 * working directory, main file, number of arguments, arguments, variables (`NAME=value`), and an
 * empty one.
 *
 * An interpreter that waits in a snapshot wakes up many times, so the hook seeds anew what the
 * interpreter seeded when it started. Python's `random` is not imported by then. OpenSSL (Node's
 * crypto) sees that the clock went back, which restoring arranges, and seeds itself. What stays the
 * same in all clones: the secret keys of hash tables, and addresses.
 *
 * @module
 */

/** What a program sees that a waiting interpreter could not know. */
export interface WarmJob {
  /** Absolute working directory. */
  readonly directory: string;
  /** Absolute path of the main file. */
  readonly file: string;
  /** Arguments after the program's name. */
  readonly args: readonly string[];
  /** Variables on top of the language's own. */
  readonly environment: Readonly<Record<string, string>>;
}

/** How one language's interpreter waits. */
export interface WarmStart {
  /** The hook's file name, alone in a directory of its own. */
  readonly file: string;
  /** The hook. */
  readonly hook: string;
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
  /** Names of variables that an interpreter heeds only when it starts. */
  readonly startVariables: RegExp;
  /** Whether it can run a file of any name; otherwise only that of its command. */
  readonly anyFile: boolean;
  /** Names of a project's files that an interpreter heeds only when it starts. */
  readonly startFiles?: RegExp;
  /** In the text of such a file: it names others that are read at the start as well. */
  readonly startReferences?: RegExp;
  /** A program that writes a line: run before a snapshot, so that its like runs smoothly afterwards. */
  readonly rehearsal: string;
}

/** What is written to a waiting interpreter. */
export function encodeWarmJob(job: WarmJob): Uint8Array<ArrayBuffer> {
  const variables = Object.entries(job.environment).map(([name, value]) => `${name}=${value}`);
  const { directory, file, args } = job;
  const fields = [directory, file, String(args.length), ...args, ...variables, ""];
  const body = new TextEncoder().encode(fields.map((field) => `${field}\0`).join(""));
  const head = new TextEncoder().encode(body.length.toString(16).padStart(8, "0"));
  const message = new Uint8Array(new ArrayBuffer(head.length + body.length));
  message.set(head);
  message.set(body, head.length);
  return message;
}

/** Of the C library and of everything. */
const EVERYWHERE = "LANG|LANGUAGE|LC_.*|LD_.*|TZ|MALLOC_.*|GLIBC_.*|GCONV_.*|HOME|PATH";

// Python is told to run the directory of the hook, so that it does not look for the main file before
// the hook has waited: it asks a module `runpy` (Modules/main.c, pymain_run_module) for a function
// and calls it with two arguments. The module is ours, and so that no frame of Python's is below the
// program's own, neither in its traces nor in sys._getframe(), the function is made of what is
// written in C: setattr() calls a property's setter, that is object.__reduce_ex__, that the method
// __reduce__, and that is exec() with the program. The module `sitecustomize` is imported last of all
// before (Python's `site` module).
//
// Where the kernel is emulated a page fault takes two milliseconds, and so does freeing five pages. So
// save_faults() has the kernel make the pages that Python will write to its own before it waits
// (MADV_POPULATE_WRITE, 23): those of static data and what is left of its heap. And when all is said,
// Python unmaps its objects' memory piece by piece, while that of a process goes later, as a whole: so
// the last function of all that run at the exit (atexit: the first that was registered) replaces the
// one that unmaps in the allocator for arenas (PEP 445: a context and two functions) by abs(), which
// does nothing.
const PYTHON_HOOK = `
import sys
class Runpy:
    __slots__ = ()
    def __getattr__(self, name):
        if name != "_run_module_as_main":
            raise AttributeError(name)
        return wait()
def wait():
    import os
    from _functools import partial
    main = sys.modules["__main__"].__dict__
    del sys.modules["runpy"]
    os.environ.pop("PYTHONPATH", None)
    compile("pass", "", "exec")
    save_faults()
    os.write(1, b".")
    def take(length):
        taken = b""
        while len(taken) < length:
            piece = os.read(0, length - len(taken))
            if not piece:
                os._exit(0)
            taken += piece
        return taken
    fields = os.fsdecode(take(int(take(8), 16))).split("\\0")
    file = fields[1]
    end = 3 + int(fields[2])
    os.chdir(fields[0])
    sys.argv[:] = [file, *fields[3:end]]
    sys.orig_argv[1:] = sys.argv
    for field in fields[end:-2]:
        name, _, value = field.partition("=")
        os.environ[name] = value
    here = os.path.dirname(__file__)
    sys.path[:] = [os.path.dirname(file), *(path for path in sys.path if path != here)]
    sys.path_importer_cache.pop(here, None)
    sys.modules.pop("sitecustomize", None)
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", file)
    main.update(__file__=file, __cached__=None, __loader__=loader)
    with open(file, "rb") as source:
        text = source.read()
    try:
        run = partial(exec, compile(text, file, "exec", 0, True), main)
    except (SyntaxError, ValueError):
        run = partial(compile, text, file, "exec", 0, True)
    chain = {"__reduce__": staticmethod(run), "__main__": property(None, object.__reduce_ex__)}
    return partial(setattr, type("Program", (), chain)())
def save_faults():
    try:
        import _ctypes
    except ImportError:
        return
    import atexit
    from _functools import partial
    class Pointer(_ctypes._SimpleCData):
        _type_ = "P"
    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL
        _restype_ = None
    call, find = _ctypes.call_function, partial(_ctypes.dlsym, _ctypes.dlopen(None, 0))
    with open("/proc/self/maps") as maps:
        lines = [line.split(maxsplit=2) for line in maps]
    for place, access, _ in lines:
        start, end = (int(address, 16) for address in place.split("-"))
        if access == "rw-p" and end - start <= 4 << 20:
            call(find("madvise"), (Pointer(start), Pointer(end - start), 23))
    arenas = bytes(24)
    call(find("PyObject_GetArenaAllocator"), (arenas,))
    arenas = arenas[:16] + find("abs").to_bytes(8, "little")
    atexit.register(Function(find("PyObject_SetArenaAllocator")), arenas)
    del sys.modules["_ctypes"]
sys.modules["runpy"] = Runpy()
`;

/** CPython. */
export const warmPython: WarmStart = {
  file: "sitecustomize.py",
  hook: PYTHON_HOOK,
  start([python], path) {
    const directory = path.slice(0, path.lastIndexOf("/"));
    return { command: [python!, directory], environment: { PYTHONPATH: directory } };
  },
  startVariables: new RegExp(`^(PYTHON.*|${EVERYWHERE})$`),
  anyFile: true,
  rehearsal: "print()",
};

// V8 asks the kernel for memory in pieces, each of whose pages costs a fault when it is first touched. So
// it goes round that of its young objects once: all of it is there then, and free for the program.
const GO_ROUND = "for (let i = 0; i < 512; i++) new Array(1024).fill(i);"; // 4 MiB

// At their end Node and Deno give V8's memory back piece by piece, which takes more than a second where
// the kernel is emulated; not so in process.exit() and Deno.exit(). So there is one behind the last
// thing that a program can see of its end, the event "exit" of `process`: when its `emit` is looked up
// for that, a listener is added behind those that there are by then.
const atEnd = (ends: string, listener: string) => `
  const { emit } = process;
  let last = false;
  Object.defineProperty(Object.getPrototypeOf(process), "emit", {
    configurable: true,
    get() {
      if (!last && this === process && ${ends}) {
        last = true;
        process.on("exit", ${listener});
      }
      return emit;
    },
    set(value) {
      Object.defineProperty(this, "emit", {
        value,
        configurable: true,
        enumerable: true,
        writable: true,
      });
    },
  });
`;

// Modules of --require run before the program, in the main thread and in each worker.
const NODE_HOOK = `"use strict";
if (require("node:worker_threads").isMainThread) {
  const fs = require("node:fs");
  process.execArgv.length = 0;
  ${GO_ROUND}
  fs.writeSync(1, ".");
  const take = (length) => {
    const taken = Buffer.alloc(length);
    for (let have = 0; have < length;) {
      const count = fs.readSync(0, taken, have, length - have, null);
      if (count === 0) process.reallyExit(0);
      have += count;
    }
    return taken.toString();
  };
  const fields = take(Number.parseInt(take(8), 16)).split("\\0");
  const [directory, file] = fields;
  const end = 3 + Number(fields[2]);
  process.chdir(directory);
  process.argv.splice(1, 1, file, ...fields.slice(3, end));
  const { reallyExit } = process;
  const exit = (code) => { // not for other codes: there may be an error still to be printed
    if (code !== 0 || process.reallyExit !== reallyExit) return;
    reallyExit.call(process, process.exitCode || 0);
  };
  ${atEnd("process._exiting", "exit")}
  const Module = require("node:module");
  const { runMain } = Module;
  Object.defineProperty(Module, "runMain", {
    configurable: true,
    get() { // once, by Node itself; bound, so that no frame of this file is in the program's traces
      Object.defineProperty(Module, "runMain", { value: runMain, writable: true });
      return runMain.bind(Module, file);
    },
  });
  for (const field of fields.slice(end, -2)) {
    const equals = field.indexOf("=");
    process.env[field.slice(0, equals)] = field.slice(equals + 1);
  }
  // Math.random takes its seed when it is first called: all that is restored from one snapshot would
  // draw the same numbers. (What has to be unpredictable comes from crypto.)
  const seed = Buffer.alloc(4);
  const source = fs.openSync("/dev/urandom");
  fs.readSync(source, seed, 0, 4, null);
  fs.closeSync(source);
  require("node:v8").setFlagsFromString("--random-seed=" + (seed.readInt32LE() || 1));
}
`;

/** Node.js. */
export const warmNode: WarmStart = {
  file: "hook.cjs",
  hook: NODE_HOOK,
  start: ([node, ...args], path) => ({
    command: [node!, "--require", path, ...args],
    environment: {},
  }),
  startVariables: new RegExp(`^(NODE_.*|UV_.*|OPENSSL_.*|SSL_.*|${EVERYWHERE})$`),
  anyFile: true,
  rehearsal: "console.log()",
};

// Modules of --preload run before the program is looked for. TypeScript, to have its compiler ready.
const DENO_HOOK = `
const waiting: boolean = !("WorkerGlobalScope" in globalThis);
if (waiting) {
  ${GO_ROUND}
  let unloaded = false;
  addEventListener("unload", () => unloaded = true);
  const { process } = globalThis as any;
  const { exit } = Deno;
  ${atEnd("unloaded", "() => exit()")}
  Deno.stdout.writeSync(new TextEncoder().encode("."));
  const take = (length: number): string => {
    const taken = new Uint8Array(length);
    for (let have = 0; have < length;) {
      const count = Deno.stdin.readSync(taken.subarray(have));
      if (count === null) Deno.exit(0);
      have += count;
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(taken);
  };
  const fields = take(Number.parseInt(take(8), 16)).split("\\0");
  const end = 3 + Number(fields[2]);
  Deno.chdir(fields[0]);
  const value = Object.freeze(fields.slice(3, end));
  Object.defineProperty(Deno, "args", { value, configurable: true, enumerable: true });
  for (const field of fields.slice(end, -2)) {
    const equals = field.indexOf("=");
    Deno.env.set(field.slice(0, equals), field.slice(equals + 1));
  }
  // Deno's generator behind crypto takes a new seed after 64 KiB (rand::rngs::ThreadRng). That of
  // Math.random never does, so that another one takes its place: xoshiro128** of Blackman and Vigna.
  crypto.getRandomValues(new Uint8Array(65536));
  crypto.getRandomValues(new Uint8Array(65536));
  const s = crypto.getRandomValues(new Uint32Array(4));
  const turn = (x: number, by: number) => (x << by) | (x >>> (32 - by));
  const next = (): number => {
    const result = Math.imul(turn(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = turn(s[3]!, 11);
    return result;
  };
  const { random } = { random: () => ((next() >>> 5) * 67108864 + (next() >>> 6)) / 2 ** 53 };
  Object.defineProperty(Math, "random", { value: random, writable: true, configurable: true });
}
`;

/** Deno. */
export const warmDeno: WarmStart = {
  file: "hook.ts",
  hook: DENO_HOOK,
  start: ([deno, run, ...args], path) => ({
    command: [deno!, run!, `--preload=${path}`, ...args],
    environment: {},
  }),
  startVariables: new RegExp(`^(DENO_.*|V8_.*|NO_COLOR|FORCE_COLOR|RUST_.*|${EVERYWHERE})$`),
  anyFile: false,
  startFiles: /^(deno\.jsonc?|deno\.lock|package\.json|\.npmrc|tsconfig\.(.+\.)?json)$/,
  startReferences: /"(importMap|vendor|lock|links|patch)"\s*:/,
  rehearsal: "console.log()",
};

// $BASH_ENV is read before the script; without arguments of its own, bash keeps those set in it.
const BASH_HOOK = `
unset BASH_ENV
printf .
IFS= read -r -N 8 REPLY || exit 0
IFS= read -r -d '' REPLY && [ "$REPLY" = "$PWD" ] || {
  cd -- "$REPLY"
  unset OLDPWD
  export OLDPWD
}
IFS= read -r -d '' cloudlet_count # the file: the one of the command line
IFS= read -r -d '' cloudlet_count
set --
while [ $# -lt "$cloudlet_count" ]; do
  IFS= read -r -d '' REPLY
  set -- "$@" "$REPLY"
done
unset cloudlet_count
while IFS= read -r -d '' REPLY && [ -n "$REPLY" ]; do
  export "$REPLY"
done
unset REPLY
RANDOM=$SRANDOM
IFS= read -r HOSTNAME </proc/sys/kernel/hostname
SECONDS=0
`;

/** GNU bash. */
export const warmBash: WarmStart = {
  file: "hook.sh",
  hook: BASH_HOOK,
  start: (command, path) => ({ command, environment: { BASH_ENV: path } }),
  // ... and names that are no identifiers, or that belong to the shell
  startVariables: new RegExp(
    `^(BASH.*|SHELL.*|.*ID|IFS|ENV|POSIXLY_CORRECT|OPT.*|PWD|OLDPWD|_|REPLY|\\d.*|.*\\W.*|` +
      `${EVERYWHERE})$`,
  ),
  anyFile: false,
  rehearsal: "echo",
};
