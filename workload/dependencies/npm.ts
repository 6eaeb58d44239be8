/**
 * What a project of Node names: package.json, with those of its workspaces and the lock beside it.
 *
 * @module
 */
import { CloudletError, messageOf } from "../../base/errors.ts";
import {
  baseName,
  type Dependencies,
  type ManifestSource,
  MAX_MANIFEST,
  type Table,
  tableOf,
} from "./dependencies.ts";

const MANIFEST = "package.json";
const LOCKS: readonly string[] = ["npm-shrinkwrap.json", "package-lock.json"];
const LISTS = ["dependencies", "devDependencies", "optionalDependencies"];
/** npm's "Life Cycle Scripts": those that it runs when it installs. */
const SCRIPTS = ["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare"];

function objectOf(path: string, text: string): Table {
  try {
    return tableOf(JSON.parse(text.slice(0, MAX_MANIFEST)));
  } catch (cause) {
    throw new CloudletError(`Cannot read ${path}: ${messageOf(cause)}`, {
      code: "invalid-input",
      remedy: "make it valid JSON",
      cause,
    });
  }
}

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
  const manifests = source.files.filter((path) => baseName(path) === MANIFEST)
    .flatMap((path) => {
      const content = source.read(path);
      return content === undefined ? [] : [objectOf(path, content)];
    });
  const needs = manifests.flatMap(needsOf);
  if (needs.length === 0) return undefined;
  // Their scripts may read, and what they link to is, any file.
  const whole =
    manifests.some(({ scripts }) =>
      SCRIPTS.some((name) => Object.hasOwn(tableOf(scripts), name))
    ) || needs.some(([, what]) => typeof what === "string" && /^(file|link):/.test(what));
  const decides = (path: string) =>
    baseName(path) === MANIFEST || LOCKS.includes(path) || path === ".npmrc";
  const locked = source.files.some((path) => LOCKS.includes(path));
  return {
    installer: "npm",
    manifest: MANIFEST,
    names: [...new Set(needs.map(([name]) => name))],
    files: source.sources.filter(({ path }) => whole || decides(path)),
    args: [locked ? "ci" : "install"],
  };
}
