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

/**
 * A program's variables with those by which it finds what was installed.
 *
 * @param variables with a PATH
 */
export function withDependencies(variables: Readonly<Record<string, string>>) {
  const result = { ...variables };
  const python = `${DEPENDENCIES}/python`;
  if (exists(`${python}/bin/python3`)) {
    const path = variables["PATH"] ?? "";
    if (!path.startsWith(`${python}/bin:`)) result["PATH"] = `${python}/bin:${path}`;
    result["VIRTUAL_ENV"] ??= python;
  }
  if (exists(`${DEPENDENCIES}/deno`)) result["DENO_DIR"] ??= `${DEPENDENCIES}/deno`;
  if (exists(`${DEPENDENCIES}/cargo`)) result["CARGO_HOME"] = `${DEPENDENCIES}/cargo`;
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
  const locks = `${DEPENDENCIES}/locks`;
  if (exists(locks)) {
    for (const { name } of Deno.readDirSync(locks)) {
      if (!exists(`${project}/${name}`)) {
        Deno.copyFileSync(`${locks}/${name}`, `${project}/${name}`);
      }
    }
  }
  const modules = `${DEPENDENCIES}/node_modules`;
  const place = `${project}/node_modules`;
  if (!exists(modules) || exists(place)) return () => {};
  Deno.mkdirSync(place);
  // Not a link: packages that look around themselves see the project, and workspaces are links out of it.
  if (libc().mount(cString(modules), cString(place), null, MS_BIND, null) < 0) {
    throw new CloudletError(`Cannot mount ${modules}: errno ${errno()}`, { code: "guest" });
  }
  return () => void libc().umount2(cString(place), MNT_DETACH);
}
