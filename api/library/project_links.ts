/**
 * Symbolic links of a project: where they lead, and what they are in the microVM.
 *
 * @module
 */
import { dirname, join, relative } from "node:path";

/** What becomes of a link. */
export type LinkFate =
  | { readonly kind: "sent"; readonly target: string }
  | { readonly kind: "left-out"; readonly why: "nowhere" | "out" };

const MAX_LINKS = 40; // as Linux: include/linux/namei.h MAXSYMLINKS

/** Whether an absolute path is a directory or below it. */
export function isWithin(directory: string, path: string): boolean {
  const way = relative(directory, path);
  return way !== ".." && !way.startsWith("../");
}

/**
 * What becomes of a link. One that leads to something in the project stays as it is, unless it gets
 * there by an absolute path or by way of another directory: then it is made relative.
 *
 * @param root absolute path of the project, without links in it
 * @param path of the link, relative to the root; only its last name is a link
 */
export async function linkFate(root: string, path: string): Promise<LinkFate> {
  let real: string;
  let target: string;
  try {
    real = await Deno.realPath(join(root, path));
    target = await Deno.readLink(join(root, path));
  } catch {
    return { kind: "left-out", why: "nowhere" }; // what it leads to is missing, or it leads in circles
  }
  if (!isWithin(root, real)) return { kind: "left-out", why: "out" };
  if (await staysWithin(root, dirname(path), target)) return { kind: "sent", target };
  return { kind: "sent", target: relative(join(root, dirname(path)), real) || "." };
}

/** Whether the way of a link, from the directory that it is in, never leaves the root. */
async function staysWithin(root: string, directory: string, target: string): Promise<boolean> {
  if (target.startsWith("/")) return false;
  const names = directory === "." ? [] : directory.split("/");
  const pending = target.split("/").reverse();
  let links = 0;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      if (names.pop() === undefined) return false;
      continue;
    }
    names.push(name);
    const here = join(root, ...names);
    if (!(await Deno.lstat(here)).isSymlink) continue;
    const next = await Deno.readLink(here);
    if (next.startsWith("/") || ++links > MAX_LINKS) return false;
    names.pop();
    pending.push(...next.split("/").reverse());
  }
  return true;
}
