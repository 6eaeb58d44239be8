/**
 * What a project of Python names: requirements.txt with the files that it includes, pyproject.toml (PEP 621
 * and, where they are asked for, its dependency groups, PEP 735), or a script's own block (PEP 723).
 *
 * @module
 */
import { posix } from "node:path";
import { parse, TomlError } from "smol-toml";
import { CloudletError } from "../../base/errors.ts";
import type { File } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { type Table, tableOf, textsOf } from "../tables.ts";
import { type Dependencies, madeFile, type ManifestSource, MAX_MANIFEST } from "./dependencies.ts";

const REQUIREMENTS = "requirements.txt";
const PYPROJECT = "pyproject.toml";
/** What pip reads where the project has no such file. */
const MADE = "dependencies.txt";
/** Files that include one another. */
const MOST_FILES = 64;
/** PEP 508: a name. */
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?/;

function refuse(path: string, why: string): CloudletError {
  return new CloudletError(`Cannot read ${path}: ${why}`, {
    code: "invalid-input",
    remedy: "correct the file",
  });
}

/** The lines of a requirements file, joined where they go on, without comments. */
function linesOf(text: string): string[] {
  return text.slice(0, MAX_MANIFEST).replaceAll(/\\\r?\n/g, " ").split(/\r?\n/)
    .map((line) => line.replace(/(^|\s)#.*$/, "").trim())
    .filter((line) => line !== "");
}

/** What a name or a place is called. */
function labelOf(requirement: string): string {
  return NAME.exec(requirement)?.[0] ?? requirement.slice(0, 100);
}

/** Whether it is a directory or an archive of the project, which pip then needs. */
function isLocal(requirement: string): boolean {
  return /^(\.|\/|file:)/.test(requirement) || /@\s*file:/.test(requirement) ||
    !/^[\w.+-]+:/.test(requirement) && /^[^\s;[<>=!~@]*\//.test(requirement) ||
    /^[^\s;@]+\.(whl|tar\.gz|zip)$/.test(requirement) && !requirement.includes("://");
}

interface Requirements {
  readonly names: string[];
  readonly files: File[];
  local: boolean;
}

/** A requirements file, and those that it includes. */
function addRequirements(source: ManifestSource, path: string, found: Requirements): void {
  if (found.files.some((file) => file.path === path)) return;
  if (found.files.length === MOST_FILES) {
    throw refuse(REQUIREMENTS, `it includes more than ${MOST_FILES} files`);
  }
  const text = source.read(path);
  if (text === undefined) throw refuse(path, "the project has no such file, which is included");
  // What is linked here would be gone when the program runs: it is copied.
  const copied = text.replaceAll(/^\s*(?:-e|--editable)(?:\s+|=)/gm, "");
  found.files.push(madeFile(path, copied));
  for (const line of linesOf(copied)) {
    const included = /^(?:-r|--requirement|-c|--constraint)(?:\s*=\s*|\s*)(\S+)/.exec(line);
    const constraint = /^(?:-c|--constraint)/.test(line);
    if (included !== null) {
      const to = posix.normalize(posix.join(posix.dirname(path), included[1]!));
      if (/^[a-z]+:\/\//.test(included[1]!)) continue; // pip fetches it
      const names = constraint ? { ...found, names: [] } : found;
      addRequirements(source, to, names);
      found.local ||= names.local;
      continue;
    }
    if (line.startsWith("-")) continue; // an option
    found.names.push(labelOf(line));
    found.local ||= isLocal(line);
  }
}

function ofRequirements(source: ManifestSource): Dependencies | undefined {
  const found: Requirements = { names: [], files: [], local: false };
  addRequirements(source, REQUIREMENTS, found);
  if (found.names.length === 0) return undefined;
  const own = new Map(found.files.map((file) => [file.path, file]));
  return {
    installer: "pip",
    manifest: REQUIREMENTS,
    names: found.names,
    files: found.local ? source.sources.map((file) => own.get(file.path) ?? file) : found.files,
    args: ["-r", REQUIREMENTS],
  };
}

function tomlOf(path: string, text: string): Table {
  try {
    return parse(text.slice(0, MAX_MANIFEST));
  } catch (error) {
    if (error instanceof TomlError) throw refuse(path, error.message);
    throw error;
  }
}

/** PEP 735: a group's requirements, with those of the groups that it includes. */
function groupOf(groups: Table, name: string, depth = 0): string[] {
  const key = Object.keys(groups).find((key) => normalized(key) === normalized(name));
  if (key === undefined) {
    throw refuse(PYPROJECT, `it has no dependency group ${JSON.stringify(name)}`);
  }
  if (depth > 16) throw refuse(PYPROJECT, "its dependency groups include one another");
  const members = groups[key];
  if (!Array.isArray(members)) throw refuse(PYPROJECT, `the dependency group ${key} is no list`);
  return members.flatMap((member) => {
    if (typeof member === "string") return [member];
    const included = tableOf(member)["include-group"];
    return typeof included === "string" ? groupOf(groups, included, depth + 1) : [];
  });
}

/** PEP 503 */
function normalized(name: string): string {
  return name.toLowerCase().replaceAll(/[-_.]+/g, "-");
}

function ofPyproject(
  source: ManifestSource,
  text: string,
  groups: readonly string[],
): Dependencies | undefined {
  const table = tomlOf(PYPROJECT, text);
  const project = tableOf(table["project"]);
  const dynamic = textsOf(project["dynamic"]).includes("dependencies");
  const wanted = [
    ...textsOf(project["dependencies"]),
    ...groups.flatMap((group) => groupOf(tableOf(table["dependency-groups"]), group)),
  ];
  if (wanted.length === 0 && !dynamic) return undefined;
  const list = madeFile(MADE, `${wanted.join("\n")}\n`);
  return {
    installer: "pip",
    manifest: PYPROJECT,
    names: dynamic ? [...wanted.map(labelOf), "what its build says"] : wanted.map(labelOf),
    // Only its own build can say what it needs.
    files: dynamic ? [...source.sources, list] : [list],
    args: dynamic ? [".", "-r", MADE] : ["-r", MADE],
  };
}

/** PEP 723: the block `script` of comments. */
function ofScript(code: string): Dependencies | undefined {
  const block = /^# \/\/\/ script\r?\n((?:#(?:| .*)\r?\n)+?)# \/\/\/\r?$/m.exec(
    code.slice(0, MAX_MANIFEST),
  );
  if (block === null) return undefined;
  const text = block[1]!.split(/\r?\n/).map((line) => line.replace(/^# ?/, "")).join("\n");
  const wanted = textsOf(tomlOf("the script's block", text)["dependencies"]);
  if (wanted.length === 0) return undefined;
  return {
    installer: "pip",
    manifest: "the script's own block",
    names: wanted.map(labelOf),
    files: [madeFile(MADE, `${wanted.join("\n")}\n`)],
    args: ["-r", MADE],
  };
}

/**
 * What pip has to install.
 *
 * @param groups of pyproject.toml that are wanted besides its dependencies
 * @param entryPoint the file that is run, whose own block counts before all others
 * @returns undefined for nothing
 * @throws {CloudletError} `invalid-input` for a manifest that cannot be read
 */
export function pipDependencies(
  source: ManifestSource,
  groups: readonly string[],
  entryPoint?: string,
): Dependencies | undefined {
  const script = ofScript(
    source.code || (entryPoint === undefined ? "" : source.read(entryPoint) ?? ""),
  );
  if (script !== undefined) return script;
  const pyproject = source.read(PYPROJECT);
  if (groups.length > 0 && pyproject === undefined) {
    throw refuse(PYPROJECT, "there is none, and dependency groups were asked for");
  }
  if (groups.length === 0 && source.read(REQUIREMENTS) !== undefined) return ofRequirements(source);
  return pyproject === undefined ? undefined : ofPyproject(source, pyproject, groups);
}
