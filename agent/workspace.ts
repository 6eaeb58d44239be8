/**
 * The directory of one workload: its files, what building makes of them, and what comes out.
 *
 * ```text
 * <root>/<n>/project/   the workload's files; the program runs here
 * <root>/<n>/output/    what the compiler makes
 * ```
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import type { File } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { listedFiles } from "../workload/file_list.ts";
import type { Project } from "../workload/languages.ts";

const CHUNK = 256 * 1024;
const MAX_OUTPUT_FILES = 20_000;

/** A workload's files on disk; see the module. */
export class Workspace {
  /** Absolute. */
  readonly directory: string;
  /** Absolute. */
  readonly project: string;
  /** Absolute. */
  readonly output: string;

  private constructor(directory: string) {
    this.directory = directory;
    this.project = `${directory}/project`;
    this.output = `${directory}/output`;
  }

  /**
   * Makes the directory with the files in it.
   *
   * @param directory absolute; nothing is there yet
   * @param files checked paths
   */
  static create(directory: string, files: readonly File[]): Workspace {
    const workspace = new Workspace(directory);
    try {
      Deno.mkdirSync(directory);
      Deno.mkdirSync(workspace.project);
      workspace.fill(files);
    } catch (cause) {
      workspace.remove().catch(() => {});
      throw new CloudletError(`Cannot write the workload's files: ${messageOf(cause)}`, {
        code: "guest",
        remedy: "give the microVM more memory or disk",
        cause,
      });
    }
    return workspace;
  }

  /** Puts files into a project that has none yet. */
  fill(files: readonly File[]): void {
    write(this.project, files);
  }

  /** Puts what was built elsewhere where building would have put it. */
  fillOutput(files: readonly File[]): void {
    Deno.mkdirSync(this.output);
    write(this.output, files);
  }

  /** The files as a language sees them. */
  asProject(
    files: readonly File[],
    options: { entryPoint: string | undefined; release: boolean },
  ): Project {
    return {
      directory: this.project,
      output: this.output,
      ...listedFiles(files),
      entryPoint: options.entryPoint,
      release: options.release,
      executables(directory) {
        const found: string[] = [];
        for (const entry of Deno.readDirSync(directory)) {
          const path = `${directory}/${entry.name}`;
          if (entry.isFile && ((Deno.statSync(path).mode ?? 0) & 0o111) !== 0) found.push(path);
        }
        return found.sort();
      },
    };
  }

  /**
   * Reads what the program left, in pieces of up to 256 KiB. Only regular files are read: a link
   * or a pipe that the program made is passed over.
   *
   * @param paths checked paths of files and directories below the project
   */
  read(paths: readonly string[]): Generator<File> {
    return readBelow(this.project, paths);
  }

  /**
   * Reads what building made, in the same way.
   *
   * @param paths absolute paths below {@linkcode Workspace.output}
   */
  readOutput(paths: readonly string[]): Generator<File> {
    return readBelow(this.output, paths.map((path) => path.slice(this.output.length + 1)));
  }

  /** Removes everything. */
  async remove(): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** Writes files whose paths and kinds were checked: none is below a link. */
function write(root: string, files: readonly File[]): void {
  const made = new Set<string>();
  const makeDirectory = (path: string) => {
    if (made.has(path)) return;
    Deno.mkdirSync(`${root}/${path}`, { recursive: true });
    made.add(path);
  };
  const makeParent = (path: string) => {
    const end = path.lastIndexOf("/");
    if (end > 0) makeDirectory(path.slice(0, end));
  };
  for (const file of files.filter(({ target }) => target === "")) {
    if (file.directory) {
      makeDirectory(file.path);
      continue;
    }
    makeParent(file.path);
    const path = `${root}/${file.path}`;
    Deno.writeFileSync(path, file.content, { createNew: true });
    if (file.mode !== 0 && file.mode !== 0o644) Deno.chmodSync(path, file.mode);
  }
  // Links come last: nothing can be written through one.
  for (const { path, target } of files.filter(({ target }) => target !== "")) {
    makeParent(path);
    Deno.symlinkSync(target, `${root}/${path}`);
  }
}

function* readBelow(root: string, paths: readonly string[]): Generator<File> {
  let count = 0;
  const pending = [...paths].reverse();
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const absolute = `${root}/${path}`;
    let info: Deno.FileInfo;
    try {
      info = Deno.lstatSync(absolute);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue; // the program did not make it
      throw error;
    }
    if (info.isDirectory) {
      const names = Array.from(Deno.readDirSync(absolute), ({ name }) => `${path}/${name}`);
      pending.push(...names.sort().reverse());
    } else if (info.isFile) {
      if (++count > MAX_OUTPUT_FILES) {
        throw new CloudletError(
          `Cannot send the output files: they are more than ${MAX_OUTPUT_FILES}`,
          { code: "guest", remedy: "pack them into one file" },
        );
      }
      yield* readFile(absolute, path, (info.mode ?? 0o644) & 0o777);
    }
  }
}

function* readFile(absolute: string, path: string, mode: number): Generator<File> {
  using file = Deno.openSync(absolute);
  const buffer = new Uint8Array(CHUNK);
  let offset = 0;
  for (;;) {
    const length = file.readSync(buffer) ?? 0;
    if (length === 0 && offset > 0) return;
    yield {
      $typeName: "cloudlet.agent.File",
      path,
      content: buffer.slice(0, length),
      mode,
      offset: BigInt(offset),
      target: "",
      directory: false,
    };
    if (length === 0) return;
    offset += length;
  }
}
