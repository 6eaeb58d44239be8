/**
 * The languages that workloads are written in: one declaration for each.
 *
 * The command line reads the file extensions, and the agent in the microVM most of the rest. Nothing
 * here touches a file or starts anything. What only the host needs is not here, since a change would
 * make a new agent: packages are in builder/image/declarations.ts.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import {
  bashInputs,
  denoInputs,
  nodeInputs,
  pythonInputs,
  type StartupInputs,
} from "./startup_inputs.ts";
import { jsonTable } from "./tables.ts";

/** Name of a language, as in the configuration file and in requests. */
export type LanguageName = "python" | "node" | "rust" | "deno" | "bash";

/** Stands in requests where there is no language: the arguments are a whole command of the image. */
export const COMMAND = "command";

/** A workload's files, as a language sees them. */
export interface Project {
  /** Absolute directory of the files. */
  readonly directory: string;
  /** Absolute directory for what building makes; not inside {@linkcode Project.directory}. */
  readonly output: string;
  /** Paths of the files and links, relative to the directory. */
  readonly files: readonly string[];
  /** The file that the user named as the one to run, if any. */
  readonly entryPoint: string | undefined;
  /** Whether to build with optimisation. */
  readonly release: boolean;
  /** Text of a file of the project, with links followed; undefined when there is none. */
  read(path: string): string | undefined;
  /** Paths of executable files directly in a directory below {@linkcode Project.output}. */
  executables(directory: string): readonly string[];
}

/** How one language is built and run. */
export interface Language {
  /** As in the configuration file and in requests. */
  readonly name: LanguageName | typeof COMMAND;
  /** Extensions of its source files, with the dot; the first is that of a workload of one file. */
  readonly extensions: readonly [string, ...string[]];
  /** Name of the source file of a workload of one file. */
  readonly sourceFile: string;
  /** Files that are run when a project has them and the user names none, the best first. */
  readonly entryPoints: readonly string[];
  /**
   * Variables that its programs start with. Programs see them, so there are none without need: what an
   * interpreter wants to be told is an argument of {@linkcode Language.run}.
   */
  readonly environment: Readonly<Record<string, string>>;
  /** Variables of building. */
  readonly buildEnvironment?: Readonly<Record<string, string>>;
  /**
   * The command that builds the project.
   *
   * @returns program and arguments, or undefined when there is nothing to build
   */
  build?(project: Project): readonly string[] | undefined;
  /**
   * What building made and running needs: absolute paths below {@linkcode Project.output}. Another
   * microVM that gets them at the same places need not build.
   */
  built?(project: Project): readonly string[];
  /**
   * The command that runs the built project, without the user's arguments. An interpreter's command
   * ends with the file that it runs.
   */
  run(project: Project): readonly string[];
  /** What its interpreter reads only when it starts; absent when it cannot be idle. */
  readonly startup?: StartupInputs;
}

/** A language that programs are written in. */
export interface RealLanguage extends Language {
  readonly name: LanguageName;
}

/** An absolute path inside the project. */
function inside(project: Project, path: string): string {
  return `${project.directory}/${path}`;
}

/** Whether the project has a file, maybe behind a link to a directory. */
function hasFile(project: Project, path: string): boolean {
  return project.files.includes(path) || project.read(path) !== undefined;
}

/** The file to run or compile: the user's, the language's default, or the only one there is. */
export function entryPoint(language: Language, project: Project): string {
  const { files } = project;
  if (project.entryPoint !== undefined) {
    if (hasFile(project, project.entryPoint)) return project.entryPoint;
    throw new CloudletError(
      `Cannot run ${JSON.stringify(project.entryPoint)}: the workload has no such file`,
      { code: "invalid-input", remedy: "name a file of the project, relative to its directory" },
    );
  }
  const usual = language.entryPoints.find((name) => files.includes(name));
  if (usual !== undefined) return usual;
  const sources = files.filter((path) =>
    !path.includes("/") && language.extensions.some((extension) => path.endsWith(extension))
  );
  if (sources.length === 1) return sources[0]!;
  throw new CloudletError(
    `Cannot tell which file of the ${language.name} project to run: it has ` +
      (sources.length === 0 ? "no source file" : `${sources.length} source files`) +
      ` at its top and none is named ${language.entryPoints.join(", ")}`,
    { code: "invalid-input", remedy: "name the entry point" },
  );
}

const python: RealLanguage = {
  name: "python",
  extensions: [".py"],
  sourceFile: "main.py",
  entryPoints: ["main.py", "__main__.py", "app.py"],
  environment: {},
  run: (project) => [
    "python3",
    "-u", // output is seen when it is printed, as on a terminal
    "-B", // no bytecode is written: the next run is in another microVM
    inside(project, entryPoint(python, project)),
  ],
  startup: pythonInputs,
};

/** The `main` of package.json, when it is one. */
function packageMain(project: Project): string | undefined {
  const text = project.read("package.json");
  if (text === undefined) return undefined;
  const { main } = jsonTable("package.json", text);
  if (typeof main !== "string") return undefined;
  const path = main.replace(/^\.\//, "");
  return [path, `${path}.js`, `${path}/index.js`].find((name) => hasFile(project, name));
}

const node: RealLanguage = {
  name: "node",
  extensions: [".js", ".mjs", ".cjs"],
  sourceFile: "main.js",
  entryPoints: ["index.js", "main.js", "index.mjs", "main.mjs", "index.cjs", "main.cjs"],
  environment: {},
  run(project) {
    const main = project.entryPoint === undefined ? packageMain(project) : undefined;
    return ["node", inside(project, main ?? entryPoint(node, project))];
  },
  startup: nodeInputs,
};

/** Where cargo puts the programs. */
function cargoPrograms(project: Project): readonly string[] {
  return project.executables(`${project.output}/${project.release ? "release" : "debug"}`);
}

/** Whether cargo builds the project, rather than rustc a file of it. */
function isCargo(project: Project): boolean {
  const { files, entryPoint } = project;
  return files.includes("Cargo.toml") &&
    !(entryPoint?.endsWith(".rs") === true && hasFile(project, entryPoint));
}

const rust: RealLanguage = {
  name: "rust",
  extensions: [".rs"],
  sourceFile: "main.rs",
  entryPoints: ["main.rs", "src/main.rs"],
  environment: {},
  buildEnvironment: {
    CARGO_HOME: "/tmp/.cargo",
    CARGO_NET_OFFLINE: "true",
    CARGO_TERM_COLOR: "never",
    // As cargo does by itself since 1.77: the standard library's alone is 10 MiB.
    CARGO_PROFILE_RELEASE_STRIP: "debuginfo",
  },
  build(project) {
    if (isCargo(project)) {
      return [
        "cargo",
        "build",
        "--offline",
        "--manifest-path",
        inside(project, "Cargo.toml"),
        "--target-dir",
        project.output,
        ...(project.release ? ["--release"] : []),
        ...(project.entryPoint === undefined ? [] : ["--bin", project.entryPoint]),
      ];
    }
    return [
      "rustc",
      "--edition=2021",
      "--crate-name=workload",
      ...(project.release ? ["-O", "-Cstrip=debuginfo"] : []),
      "-o",
      `${project.output}/workload`,
      inside(project, entryPoint(rust, project)),
    ];
  },
  built: (project) => isCargo(project) ? cargoPrograms(project) : [`${project.output}/workload`],
  run(project) {
    if (!isCargo(project)) return [`${project.output}/workload`];
    const built = cargoPrograms(project);
    const wanted = project.entryPoint === undefined
      ? built
      : built.filter((path) => path.endsWith(`/${project.entryPoint}`));
    if (wanted.length === 1) return [wanted[0]!];
    const names = built.map((path) => path.slice(path.lastIndexOf("/") + 1)).join(", ");
    throw new CloudletError(
      wanted.length === 0
        ? `Cannot run the cargo project: it has no such program; it has ${names || "none"}`
        : `Cannot tell which program of the cargo project to run: it has ${names}`,
      { code: "invalid-input", remedy: "name the program as the entry point" },
    );
  },
};

/**
 * Deno looks for a newer Deno when it starts, unless this variable is there. Empty, it is no user's,
 * and is taken away before the program comes.
 */
const UNCHECKED = { DENO_NO_UPDATE_CHECK: "" } as const;
const FORGET_UNCHECKED = Object.keys(UNCHECKED)
  .map((name) => `Deno.env.get("${name}")===""&&Deno.env.delete("${name}")`).join(";");

const deno: RealLanguage = {
  name: "deno",
  extensions: [".ts", ".tsx", ".mts", ".jsx"],
  sourceFile: "main.ts",
  entryPoints: ["main.ts", "mod.ts", "index.ts", "main.js", "index.js"],
  environment: UNCHECKED,
  run: (project) => [
    "deno",
    "run",
    `--preload=data:application/javascript,${encodeURIComponent(FORGET_UNCHECKED)}`,
    "--allow-all",
    "--quiet",
    "--no-prompt",
    "--no-code-cache", // the next run is in another microVM
    inside(project, entryPoint(deno, project)),
  ],
  startup: denoInputs,
};

const bash: RealLanguage = {
  name: "bash",
  extensions: [".sh", ".bash"],
  sourceFile: "main.sh",
  entryPoints: ["main.sh", "run.sh", "index.sh"],
  environment: {},
  run: (project) => ["bash", inside(project, entryPoint(bash, project))],
  startup: bashInputs,
};

/** No language: what an image without a source runs. */
const command: Language = {
  name: COMMAND,
  extensions: [".sh"],
  sourceFile: "",
  entryPoints: [],
  environment: {},
  run: () => [],
};

/** Every language, by name. */
export const languages: Readonly<Record<LanguageName, RealLanguage>> = {
  python,
  node,
  rust,
  deno,
  bash,
};

/**
 * The language of that name.
 *
 * @throws {CloudletError} `invalid-input` when there is none
 */
export function languageNamed(name: string): RealLanguage {
  if (Object.hasOwn(languages, name)) return languages[name as LanguageName];
  throw new CloudletError(`Cannot run the language ${JSON.stringify(name.slice(0, 64))}: unknown`, {
    code: "invalid-input",
    remedy: `use one of ${Object.keys(languages).join(", ")}`,
  });
}

/**
 * The same, with {@linkcode COMMAND} for none.
 *
 * @throws {CloudletError} `invalid-input` when there is none
 */
export function languageOrCommand(name: string): Language {
  return name === COMMAND ? command : languageNamed(name);
}

/** The language that a source file's name tells, or undefined. */
export function languageOfFile(path: string): RealLanguage | undefined {
  return Object.values(languages).find(({ extensions }) =>
    extensions.some((extension) => path.endsWith(extension))
  );
}
