/**
 * What was installed for the program, a layer of the root file system (workload/dependencies/paths.ts),
 * where languages look for it.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { DEPENDENCIES } from "../workload/dependencies/paths.ts";
import { cString, errno, libc } from "./libc.ts";

// include/uapi/linux/mount.h; umount2(2)
const MS_BIND = 4096n;
const MNT_DETACH = 2;

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** What there is. */
interface Installed {
  readonly python: boolean;
  readonly deno: boolean;
  readonly cargo: boolean;
  readonly modules: boolean;
  /** Names of the locks that installing made. */
  readonly locks: readonly string[];
}

let looked: Installed | undefined;

/** It is looked for once: a layer is there from the beginning, and each look costs a program's start. */
function installed(): Installed {
  if (looked !== undefined) return looked;
  const locks = `${DEPENDENCIES}/locks`;
  return looked = {
    python: exists(`${DEPENDENCIES}/python/bin/python3`),
    deno: exists(`${DEPENDENCIES}/deno`),
    cargo: exists(`${DEPENDENCIES}/cargo`),
    modules: exists(`${DEPENDENCIES}/node_modules`),
    locks: exists(locks) ? Array.from(Deno.readDirSync(locks), ({ name }) => name) : [],
  };
}

/**
 * A program's variables with those by which it finds what was installed.
 *
 * @param variables with a PATH
 */
export function withDependencies(variables: Readonly<Record<string, string>>) {
  const result = { ...variables };
  const { python: hasPython, deno, cargo } = installed();
  if (hasPython) {
    const python = `${DEPENDENCIES}/python`;
    const path = variables["PATH"] ?? "";
    if (!path.startsWith(`${python}/bin:`)) result["PATH"] = `${python}/bin:${path}`;
    result["VIRTUAL_ENV"] ??= python;
  }
  if (deno) result["DENO_DIR"] ??= `${DEPENDENCIES}/deno`;
  if (cargo) result["CARGO_HOME"] = `${DEPENDENCIES}/cargo`;
  return result;
}

/**
 * Has a project find what it would find at home in its own directory: node_modules and the locks that
 * installing made. What the project itself has stays.
 *
 * @param project its directory
 * @returns undoes what stands in the way of removing the directory
 */
export function joinDependencies(project: string): () => void {
  const { locks, modules } = installed();
  for (const name of locks) {
    const path = `${project}/${name}`;
    if (!exists(path)) Deno.copyFileSync(`${DEPENDENCIES}/locks/${name}`, path);
  }
  const from = `${DEPENDENCIES}/node_modules`;
  const place = `${project}/node_modules`;
  if (!modules || exists(place)) return () => {};
  Deno.mkdirSync(place);
  // Not a link: packages that look around themselves see the project, and workspaces are links out of it.
  if (libc().mount(cString(from), cString(place), null, MS_BIND, null) < 0) {
    throw new CloudletError(`Cannot mount ${from}: errno ${errno()}`, { code: "guest" });
  }
  return () => void libc().umount2(cString(place), MNT_DETACH);
}
