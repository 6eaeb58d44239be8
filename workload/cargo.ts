/**
 * Which program of a cargo project is run: known from its manifests, minutes before cargo is done.
 *
 * The rules are cargo's: "Target auto-discovery", "The default-run field" and "Workspaces" in the
 * Cargo Book. Where a manifest is not understood, the answer is left to cargo.
 *
 * @module
 */
import { posix } from "node:path";
import { parse } from "smol-toml";
import { CloudletError } from "../base/errors.ts";
import type { ListedFiles } from "./file_list.ts";
import { isTable, type Table, textOf, textsOf } from "./tables.ts";

/** A program of a package. */
interface Program {
  readonly name: string;
  /** Its main file, relative to the project; undefined when it is not where cargo looks. */
  readonly path: string | undefined;
  /** Whether it is built only with features that may be off. */
  readonly optional: boolean;
}

/** A package of the project. */
interface Package {
  readonly programs: readonly Program[];
  readonly defaultRun: string | undefined;
}

/** Characters of a manifest, and members of a workspace, that are looked at: clients are hostile. */
const MAX_MANIFEST = 1 << 20;
const MAX_MEMBERS = 256;

/**
 * Says which program is run.
 *
 * @param files of a project with a Cargo.toml at its top
 * @param entryPoint name of a program or path of its main file, if one was asked for
 * @returns its name; undefined when there is only one, or when cargo has to say it
 * @throws {CloudletError} `invalid-input` when there is no such program, or no telling which
 */
export function cargoProgram(files: ListedFiles, entryPoint?: string): string | undefined {
  const packages = packagesOf(files);
  if (packages === undefined) return entryPoint;
  const programs = packages.flatMap(({ programs }) => programs);
  const names = programs.map(({ name }) => name).join(", ");
  if (entryPoint !== undefined) {
    const found = programs.find(({ name }) => name === entryPoint) ??
      programs.find(({ path }) => path === entryPoint);
    if (found !== undefined) return found.name;
    if (entryPoint.endsWith(".rs") && files.files.includes(entryPoint)) return entryPoint;
    throw refuse(`it has no program ${JSON.stringify(entryPoint)}; it has ${names || "none"}`);
  }
  if (programs.length === 0) {
    throw refuse("it has no program: no src/main.rs, nothing in src/bin and no [[bin]]");
  }
  const defaults = textsOf(packages.map(({ defaultRun }) => defaultRun));
  if (defaults.length === 1) {
    const [name] = defaults;
    if (programs.some((program) => program.name === name)) return name;
    throw refuse(`its default-run is ${JSON.stringify(name)}, and it has ${names}`);
  }
  if (programs.filter(({ optional }) => !optional).length < 2) return undefined;
  throw refuse(`it has several programs: ${names}`);
}

function refuse(why: string): CloudletError {
  return new CloudletError(`Cannot tell which program of the cargo project to run: ${why}`, {
    code: "invalid-input",
    remedy: "name one of its programs as the entry point, or as default-run in its Cargo.toml",
  });
}

/** The packages that cargo builds at the project's top; undefined when that is not understood. */
function packagesOf(files: ListedFiles): readonly Package[] | undefined {
  const manifest = manifestOf(files, "");
  if (manifest === undefined) return undefined;
  const workspace = isTable(manifest["workspace"]) ? manifest["workspace"] : undefined;
  const defaults = workspace?.["default-members"];
  const members = defaults !== undefined
    ? textsOf(defaults)
    : manifest["package"] !== undefined
    ? ["."]
    : textsOf(workspace?.["members"]);
  if (members.length > MAX_MEMBERS) return undefined;
  const meant = members.map((member) => directoriesOf(files, member));
  const excluded = textsOf(workspace?.["exclude"]).map((path) => posix.normalize(path));
  const inherited = workspace?.["package"];
  const packages: Package[] = [];
  for (const directory of new Set(meant.flat())) {
    if (directory === undefined || packages.length === MAX_MEMBERS) return undefined;
    if (excluded.some((path) => `${directory}/`.startsWith(`${path}/`))) continue;
    const found = packageOf(files, directory, isTable(inherited) ? inherited : {});
    if (found === undefined) return undefined;
    packages.push(found);
  }
  return packages.length === 0 ? undefined : packages;
}

function manifestOf(files: ListedFiles, directory: string): Table | undefined {
  const text = files.read(posix.join(directory, "Cargo.toml"));
  if (text === undefined || text.length > MAX_MANIFEST) return undefined;
  try {
    return parse(text);
  } catch {
    return undefined; // cargo says what is wrong with it
  }
}

/**
 * The directories with a manifest that a member of a workspace means: a path, whose names may have
 * one `*` each; undefined for other patterns.
 */
function directoriesOf(files: ListedFiles, member: string): string[] | undefined {
  const path = posix.normalize(member).replace(/\/$/, "");
  if (!/[*?[]/.test(path)) return [path === "." ? "" : path];
  const names = path.split("/").map((name) => name.split("*"));
  if (/[?[]/.test(path) || names.some(({ length }) => length > 2)) return undefined;
  const isMember = (directory: string) => {
    const found = directory.split("/");
    return found.length === names.length &&
      names.every(([start, end], i) =>
        end === undefined
          ? found[i] === start
          : found[i]!.startsWith(start!) && found[i]!.slice(start!.length).endsWith(end)
      );
  };
  return files.files.filter((file) => file.endsWith("/Cargo.toml")).map(posix.dirname)
    .filter(isMember);
}

function packageOf(files: ListedFiles, directory: string, inherited: Table): Package | undefined {
  const manifest = manifestOf(files, directory);
  const table = manifest?.["package"];
  if (!isTable(table)) return undefined;
  const name = textOf(table["name"]);
  if (name === undefined) return undefined;
  const own = table["edition"];
  const edition = textOf(isTable(own) ? inherited["edition"] : own) ?? "2015";
  const found = foundPrograms(files, directory, name);
  const listed: Program[] = [];
  const listedPaths = new Set<string>();
  for (const bin of Array.isArray(manifest?.["bin"]) ? manifest["bin"] : []) {
    const binName = isTable(bin) ? textOf(bin["name"]) : undefined;
    if (!isTable(bin) || binName === undefined) return undefined;
    const path = textOf(bin["path"]);
    if (path !== undefined) listedPaths.add(posix.join(directory, path));
    listed.push({
      name: binName,
      path: path === undefined
        ? found.find(({ name }) => name === binName)?.path
        : posix.join(directory, path),
      optional: textsOf(bin["required-features"]).length > 0,
    });
  }
  const rest = found.filter(({ name, path }) =>
    !listed.some((program) => program.name === name) && !listedPaths.has(path!)
  );
  const autobins = table["autobins"] ?? (manifest?.["bin"] === undefined || edition !== "2015");
  return {
    programs: autobins === false ? listed : [...listed, ...rest],
    defaultRun: textOf(table["default-run"]),
  };
}

/** The programs that cargo finds by their places. */
function foundPrograms({ files }: ListedFiles, directory: string, name: string): Program[] {
  const main = posix.join(directory, "src/main.rs");
  const programs: Program[] = [];
  if (files.includes(main)) programs.push({ name, path: main, optional: false });
  const start = posix.join(directory, "src/bin/");
  for (const path of files) {
    const found = path.startsWith(start) &&
      /^([^./][^/]*?)(\.rs|\/main\.rs)$/.exec(path.slice(start.length));
    if (found) programs.push({ name: found[1]!, path, optional: false });
  }
  return programs;
}
