/**
 * How /init starts the agent.
 *
 * @module
 */

/**
 * The command line, measured in system calls up to the first request: 880 with these flags, 1270
 * without (strace -f -c), which the emulated kernel of a software-only host takes a second longer
 * for. V8's helper threads and Deno's code cache are what is saved. The heap's limit (MiB) makes V8
 * collect the buffers of passing output early: 100 MB then cost some 30 MiB, not 80 to 110.
 *
 * @param deno path of Deno in the image
 * @param agent path of the bundled agent in the image
 */
export function agentCommand(deno: string, agent: string): string[] {
  return [
    deno,
    "run",
    "--allow-all",
    "--quiet",
    "--unstable-vsock",
    "--unstable-no-legacy-abort",
    "--no-config",
    "--no-lock",
    "--no-remote",
    "--no-npm",
    "--no-code-cache",
    "--v8-flags=--single-threaded,--max-heap-size=96,--expose-gc,--no-flush-bytecode,--no-memory-reducer",
    agent,
  ];
}

/**
/**
 * Variables of the agent alone. Deno keeps no cache, which would be in the program's home directory,
 * asks for no newer Deno, and does not put a directory with a `node` of its own in front of the PATH
 * that programs get. The others are of mallopt(3): a heap that grows by 8 MiB is faulted in by huge
 * pages, and what was freed is used again.
 */
export const agentEnvironment: Readonly<Record<string, string>> = {
  DENO_DIR: "/dev/null/deno", // where nothing can be made
  DENO_NO_UPDATE_CHECK: "1",
  DENO_DISABLE_NODE_SHIM: "1",
  MALLOC_ARENA_MAX: "1",
  MALLOC_MMAP_THRESHOLD_: String(4 * 1024 * 1024),
  MALLOC_TRIM_THRESHOLD_: String(32 * 1024 * 1024),
  MALLOC_TOP_PAD_: String(8 * 1024 * 1024),
};
