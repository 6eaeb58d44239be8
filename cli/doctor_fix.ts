/**
 * What can be done about what `cloudlet doctor` finds, and by whom.
 *
 * @module
 */
import { dirname } from "node:path";
import { cacheDir } from "../base/dirs.ts";
import { sweepTemporaryBelow } from "../base/files.ts";
import { withBuilder } from "../builder/artifacts.ts";
import { defaultKernel } from "../vmm/host_traits.ts";
import type { WorkOptions } from "./context.ts";

/** What cloudlet does itself. */
export type OwnFix =
  | "make the kernel"
  | "make the cache writable"
  | "remove what was left unfinished";

/** A way to put something right. */
export type Fix =
  /** Done by `doctor --fix`. */
  | { readonly by: "cloudlet"; readonly what: OwnFix }
  /** A command for root. */
  | { readonly by: "root"; readonly command: string };

/**
 * What gives a user a KVM device that cannot be opened.
 *
 * @param code of the error, such as `EACCES`
 * @param flags of the processor
 * @param group of the device
 * @param user who wants to open it
 */
export function fixForKvm(
  code: string,
  flags: ReadonlySet<string>,
  group: number | undefined,
  user: string,
): Fix | undefined {
  switch (code) {
    case "ENOENT":
    case "ENODEV":
    case "ENXIO": {
      const module = flags.has("vmx") ? "kvm_intel" : flags.has("svm") ? "kvm_amd" : "kvm_pvm";
      return { by: "root", command: `sudo modprobe ${module}` };
    }
    case "EACCES":
      return {
        by: "root",
        command: group === undefined || group === 0
          ? `sudo setfacl -m u:${user}:rw /dev/kvm`
          : `sudo usermod -aG kvm ${user}, and log in again`,
      };
    default:
      return undefined;
  }
}

/**
 * What makes a directory writable that is not.
 *
 * @param directory the nearest that is there
 * @param owner its user id
 * @param self the user's own id, and name
 */
export function fixForDirectory(
  directory: string,
  owner: number | null,
  self: { readonly uid: number | null; readonly name: string },
): Fix {
  return owner === self.uid
    ? { by: "cloudlet", what: "make the cache writable" }
    : { by: "root", command: `sudo chown ${self.name} ${directory}` };
}

/** What lets the shell that it is typed into, and what that starts, have more files open. */
export function fixForFiles(wanted: number): Fix {
  return { by: "root", command: `sudo prlimit --pid $$ --nofile=${wanted}:${wanted}` };
}

/**
 * The nearest directory that is there: a directory itself, or one above it.
 *
 * @param path absolute
 */
export function nearestDirectory(path: string): string {
  for (let at = path;; at = dirname(at)) {
    try {
      if (Deno.statSync(at).isDirectory || at === "/") return at;
    } catch {
      if (at === "/") return at;
    }
  }
}

/**
 * Does what cloudlet can do itself.
 *
 * @throws {CloudletError} what keeps it from being done
 */
export async function apply(what: OwnFix, options: WorkOptions): Promise<void> {
  switch (what) {
    case "make the kernel": {
      await withBuilder(
        options,
        (builder) => defaultKernel() === "debian" ? builder.debianKernel() : builder.kernel(),
      );
      return;
    }
    case "make the cache writable": {
      const directory = nearestDirectory(cacheDir());
      Deno.chmodSync(directory, (Deno.statSync(directory).mode ?? 0) & 0o777 | 0o700);
      return;
    }
    case "remove what was left unfinished":
      sweepTemporaryBelow(cacheDir(), 2); // of processes that have ended
  }
}
