/**
 * What a project of cargo names: crates of registries and of git repositories.
 *
 * @module
 */
import { posix } from "node:path";
import { parse } from "smol-toml";
import type { File } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { isTable, type Table, tableOf } from "../tables.ts";
import { type Dependencies, type ManifestSource, MAX_MANIFEST } from "./dependencies.ts";

const MANIFEST = "Cargo.toml";
const LOCK = "Cargo.lock";
const CONFIGS: readonly string[] = [".cargo/config.toml", ".cargo/config"];
const LISTS = ["dependencies", "dev-dependencies", "build-dependencies"];

/** A manifest as a table; an empty one when it cannot be read, which cargo then says better. */
function tomlOf(text: string | undefined): Table {
  try {
    return text === undefined ? {} : parse(text.slice(0, MAX_MANIFEST));
  } catch {
    return {};
  }
}

/** Names of a manifest's crates that are not of the project itself. */
function namesOf(manifest: Table): string[] {
  const tables = [manifest, tableOf(manifest["workspace"])];
  for (const target of Object.values(tableOf(manifest["target"]))) tables.push(tableOf(target));
  return tables.flatMap((table) => LISTS.flatMap((list) => Object.entries(tableOf(table[list]))))
    .filter(([, what]) =>
      typeof what === "string" ||
      isTable(what) && ("version" in what && !("path" in what) || "git" in what)
    )
    .map(([name]) => name);
}

/** Crates of the lock that come from elsewhere. */
function lockedNames(lock: Table): string[] {
  const packages = Array.isArray(lock["package"]) ? lock["package"] : [];
  return packages.filter((entry) => isTable(entry) && typeof entry["source"] === "string")
    .map(({ name }) => String(name));
}

/** Cargo looks whether a package has targets, not what is in them. */
function asSeen(file: File): File {
  return file.path.endsWith(".rs") ? { ...file, content: new Uint8Array(0) } : file;
}

/**
 * What cargo has to fetch.
 *
 * @returns undefined for nothing, and where the project has its crates with it (`cargo vendor`)
 */
export function crateDependencies(source: ManifestSource): Dependencies | undefined {
  if (source.read(MANIFEST) === undefined) return undefined;
  const configs = CONFIGS.map((path) => tomlOf(source.read(path)));
  const vendored = configs.some((config) =>
    Object.values(tableOf(config["source"])).some((entry) => "directory" in tableOf(entry))
  );
  if (vendored) return undefined;
  const locked = source.read(LOCK) !== undefined;
  const names = locked
    ? lockedNames(tomlOf(source.read(LOCK)))
    : source.files.filter((path) => posix.basename(path) === MANIFEST)
      .flatMap((path) => namesOf(tomlOf(source.read(path))));
  if (names.length === 0) return undefined;
  const decides = (path: string) =>
    posix.basename(path) === MANIFEST || path === LOCK || CONFIGS.includes(path) ||
    path.endsWith(".rs");
  return {
    installer: "cargo",
    manifest: locked ? LOCK : MANIFEST,
    names: [...new Set(names)],
    files: source.sources.filter(({ path }) => decides(path)).map(asSeen),
    args: locked ? ["--locked"] : [],
  };
}
