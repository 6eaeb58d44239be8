/**
 * What a project of Node names: package.json, with those of its workspaces and the lock beside it.
 *
 * @module
 */
import { posix } from "node:path";
import { jsonTable, type Table, tableOf } from "../tables.ts";
import { type Dependencies, type ManifestSource, MAX_MANIFEST } from "./dependencies.ts";

const MANIFEST = "package.json";
const LOCKS: readonly string[] = ["npm-shrinkwrap.json", "package-lock.json"];
const LISTS = ["dependencies", "devDependencies", "optionalDependencies"];
/** npm's "Life Cycle Scripts": those that it runs when it installs. */
const SCRIPTS = ["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare"];

/** A package's needs by name. */
function needsOf(manifest: Table): [name: string, what: unknown][] {
  return LISTS.flatMap((list) => Object.entries(tableOf(manifest[list])));
}

function isInstalled(path: string): boolean {
  return path.startsWith("node_modules/");
}

/**
 * What npm has to install.
 *
 * @returns undefined for nothing, and where the project has its node_modules with it
 * @throws {CloudletError} `invalid-input` for a manifest that cannot be read
 */
export function npmDependencies(source: ManifestSource): Dependencies | undefined {
  const text = source.read(MANIFEST);
  if (text === undefined || source.files.some(isInstalled)) return undefined;
  const manifests = source.files.filter((path) => posix.basename(path) === MANIFEST)
    .flatMap((path) => {
      const content = source.read(path);
      return content === undefined ? [] : [jsonTable(path, content.slice(0, MAX_MANIFEST))];
    });
  const needs = manifests.flatMap(needsOf);
  if (needs.length === 0) return undefined;
  // Their scripts may read, and what they link to is, any file.
  const whole =
    manifests.some(({ scripts }) =>
      SCRIPTS.some((name) => Object.hasOwn(tableOf(scripts), name))
    ) || needs.some(([, what]) => typeof what === "string" && /^(file|link):/.test(what));
  const decides = (path: string) =>
    posix.basename(path) === MANIFEST || LOCKS.includes(path) || path === ".npmrc";
  const locked = source.files.some((path) => LOCKS.includes(path));
  return {
    installer: "npm",
    manifest: MANIFEST,
    names: [...new Set(needs.map(([name]) => name))],
    files: source.sources.filter(({ path }) => whole || decides(path)),
    args: [locked ? "ci" : "install"],
  };
}
