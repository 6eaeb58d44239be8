/**
 * Where cloudlet keeps its files: the XDG Base Directory Specification 0.8.
 *
 * @module
 */
import { join } from "node:path";
import { CloudletError } from "./errors.ts";

function home(): string {
  const value = Deno.env.get("HOME");
  if (value === undefined || value === "") {
    throw new CloudletError("Cannot find the home directory: HOME is not set", {
      code: "host",
      remedy: "set HOME, or XDG_CACHE_HOME, XDG_CONFIG_HOME and XDG_STATE_HOME",
    });
  }
  return value;
}

function xdg(variable: string, fallback: () => string): string {
  const value = Deno.env.get(variable);
  // "All paths set in these environment variables must be absolute. If [not], consider it invalid."
  return join(value !== undefined && value.startsWith("/") ? value : fallback(), "cloudlet");
}

/** Directory of everything that can be made again: packages, kernels, images, snapshots. */
export function cacheDir(): string {
  return xdg("XDG_CACHE_HOME", () => join(home(), ".cache"));
}

/** Directory of the user's configuration. */
export function configDir(): string {
  return xdg("XDG_CONFIG_HOME", () => join(home(), ".config"));
}

/** Directory of what must survive a restart: the store of runs. */
export function stateDir(): string {
  return xdg("XDG_STATE_HOME", () => join(home(), ".local", "state"));
}

/**
 * Directory of sockets of running VMs; one in the temporary directory when there is none. Anybody can
 * guess its name: it is to be made with `makePrivateDirectory`.
 */
export function runtimeDir(): string {
  const value = Deno.env.get("XDG_RUNTIME_DIR");
  if (value?.startsWith("/")) return join(value, "cloudlet");
  return join(Deno.env.get("TMPDIR") ?? "/tmp", `cloudlet-${Deno.uid() ?? 0}`);
}
