/**
 * Programs of an unpacked root file system, run on the host: the compiler that builds the kernel.
 *
 * They run in namespaces of their own (user, mount, PID), made by the static busybox that lies in
 * that very root, so the host needs no tool and the user no right. They can read and write what
 * is bound into the root and nothing else. This keeps builds apart from the host's files; it is
 * not the wall around untrusted code, which is the microVM.
 *
 * @module
 */
import { join } from "node:path";
import { CloudletError } from "../base/errors.ts";

/** How to run a program inside a root. */
export interface SandboxOptions {
  /** Host directory that is `/` for the program; holds a static `bin/busybox`. */
  readonly root: string;
  /** Program and arguments, as seen inside. */
  readonly command: readonly string[];
  /** The whole environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Host directories by the path at which they appear inside. */
  readonly binds?: Readonly<Record<string, string>>;
  /** Gets what the program prints, standard output and error together. */
  readonly onOutput?: (chunk: Uint8Array) => void;
  /** Ends the program and everything that it started. */
  readonly signal?: AbortSignal;
}

// Process 1 of the namespace. When it ends the kernel ends all others, so it ends when its input
// does: the pipe from cloudlet, which closes however cloudlet ends.
const INIT = `
set -e
root=$1; binds=$2; shift 2
bb=$root/bin/busybox
"$bb" mkdir -p "$root/dev" "$root/proc" "$root/tmp"
"$bb" mount --rbind /dev "$root/dev"
"$bb" mount -t proc proc "$root/proc" 2>/dev/null || true
while [ "$binds" -gt 0 ]; do
  "$bb" mkdir -p "$root$2"
  "$bb" mount --bind "$1" "$root$2"
  shift 2; binds=$((binds - 1))
done
exec 3<&0
trap 'exit 143' TERM
{ "$bb" cat <&3 >/dev/null; kill -TERM 1; } &
set +e
"$bb" chroot "$root" "$@" 3<&- </dev/null &
wait $!
`;

async function attempt(options: SandboxOptions, userNamespace: boolean): Promise<number> {
  const busybox = join(options.root, "bin/busybox");
  const binds = Object.entries(options.binds ?? {});
  const child = new Deno.Command(busybox, {
    args: [
      "unshare",
      ...(userNamespace ? ["-r"] : []),
      ...["-m", "-p", "-f", busybox, "sh", "-c", INIT, "init", options.root],
      String(binds.length),
      ...binds.flatMap(([inside, outside]) => [outside, inside]),
      ...options.command,
    ],
    clearEnv: true,
    env: { ...options.env },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const end = () => void child.stdin.close().catch(() => {}); // closed already: it has ended
  options.signal?.addEventListener("abort", end, { once: true });
  if (options.signal?.aborted) end();
  const drain = async (stream: ReadableStream<Uint8Array>) => {
    for await (const chunk of stream) options.onOutput?.(chunk);
  };
  try {
    const [status] = await Promise.all([child.status, drain(child.stdout), drain(child.stderr)]);
    return status.code;
  } finally {
    options.signal?.removeEventListener("abort", end);
    end();
  }
}

async function works(root: string, userNamespace: boolean): Promise<boolean> {
  const busybox = join(root, "bin/busybox");
  const { success } = await new Deno.Command(busybox, {
    args: ["unshare", ...(userNamespace ? ["-r"] : []), "-m", "-p", "-f", busybox, "true"],
    stdout: "null",
    stderr: "null",
  }).output();
  return success;
}

/**
 * Runs a program with `options.root` as its `/`.
 *
 * @returns its exit code
 * @throws {CloudletError} `host` when neither user namespaces nor root rights are to be had,
 *   `cancelled` when the signal was raised
 */
export async function runInRoot(options: SandboxOptions): Promise<number> {
  const userNamespace = await works(options.root, true);
  if (!userNamespace && !(Deno.uid() === 0 && await works(options.root, false))) {
    throw new CloudletError("Cannot run the build tools: user namespaces are not available", {
      code: "host",
      remedy: "allow them (sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu " +
        "kernel.apparmor_restrict_unprivileged_userns=0) or run this one command as root",
    });
  }
  const code = await attempt(options, userNamespace);
  if (options.signal?.aborted) {
    throw new CloudletError(`Cannot finish ${options.command[0]}: it was cancelled`, {
      code: "cancelled",
    });
  }
  return code;
}
