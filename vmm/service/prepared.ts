/**
 * Workloads that were prepared: their files, and what building made of them, kept for later runs.
 *
 * ```text
 * <cache>/workloads/<key>/workload   a cloudlet.agent.ExecuteRequest with the files and what was built
 * <cache>/workloads/.name-…          which of them a workload's name means
 * ```
 *
 * The key is made of everything that decides what building makes, so a run of the same files finds
 * them; a run without files finds those that were prepared last under its name.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { COMMAND, languageOrCommand } from "../../agent/languages.ts";
import { cacheDir } from "../../base/dirs.ts";
import { CloudletError } from "../../base/errors.ts";
import { cacheKey, filesKey, sha256, Store } from "../../base/store.ts";
import { readRef, writeRef } from "../../builder/refs.ts";
import {
  type ExecuteRequest,
  ExecuteRequestSchema,
  type File,
  FileSchema,
  OptionsSchema,
} from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Workload } from "./workload.ts";

/** Prepared workloads that are kept; those that were not used for longest go first. */
const KEEP = 64;
/** Most bytes that building may make of a workload. */
const MAX_BYTES = 128 << 20;
const MAX_FILES = 1000;

/** Whether the request itself says what to run. */
function isWhole({ code, language, options }: ExecuteRequest): boolean {
  return code !== "" || language === COMMAND || (options?.files.length ?? 0) > 0;
}

/** Whether programs of a language are built before they run. */
export function isBuilt(language: string): boolean {
  return languageOrCommand(language).build !== undefined;
}

/** Names the files of a workload and all else that decides what building makes of them. */
export function workloadKey({ language, packages, image, execute }: Workload): string {
  return cacheKey({
    format: 2,
    language,
    packages,
    ...(image !== undefined && {
      image: {
        from: image.from ?? "",
        run: image.run,
        files: filesKey(image.files),
      },
    }),
    release: execute.options?.release ?? false,
    entryPoint: execute.options?.entryPoint ?? "",
    ...(isBuilt(language) && { env: { ...execute.options?.buildEnv } }),
    code: sha256(execute.code),
    files: filesKey(execute.options?.files ?? []),
  });
}

/** Puts together the pieces of what building made; the guest that sends them is not trusted. */
export class BuiltFiles {
  readonly #pieces = new Map<string, Uint8Array[]>();
  readonly #files: File[] = [];
  #bytes = 0;

  /** Bytes so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Adds a piece.
   *
   * @throws {CloudletError} `guest` for what no agent sends, or for more than is kept
   */
  add(piece: File): void {
    const pieces = this.#pieces.get(piece.path);
    const length = pieces?.reduce((sum, part) => sum + part.length, 0) ?? 0;
    if (piece.offset !== BigInt(length)) throw refuse("the pieces of a file are out of order");
    this.#bytes += piece.content.length;
    if (this.#bytes > MAX_BYTES) throw refuse(`they are more than ${MAX_BYTES >> 20} MiB`);
    if (pieces !== undefined) {
      pieces.push(piece.content);
      return;
    }
    if (this.#files.length === MAX_FILES) throw refuse(`they are more than ${MAX_FILES}`);
    this.#pieces.set(piece.path, [piece.content]);
    this.#files.push(create(FileSchema, { path: piece.path, mode: piece.mode }));
  }

  /** The files. */
  get files(): readonly File[] {
    return this.#files.map((file) => {
      const content = new Uint8Array(Buffer.concat(this.#pieces.get(file.path)!));
      return create(FileSchema, { ...file, content });
    });
  }
}

function refuse(why: string): CloudletError {
  return new CloudletError(`Cannot keep the files that building made: ${why}`, {
    code: "guest",
    remedy: "prepare and run the workload in one go",
  });
}

/** Keeps prepared workloads. */
export class PreparedWorkloads {
  readonly #store: Store;

  /** @param root directory of the workloads */
  constructor(root: string = join(cacheDir(), "workloads")) {
    this.#store = new Store(root);
  }

  /** Keeps a workload, in place of what was kept of the same files. */
  async save(workload: Workload, built: readonly File[]): Promise<void> {
    const key = workloadKey(workload);
    const { code, workloadName, language, options } = workload.execute;
    const entry = create(ExecuteRequestSchema, {
      workloadName,
      language,
      code,
      options: create(OptionsSchema, {
        files: options?.files ?? [],
        entryPoint: options?.entryPoint ?? "",
        release: options?.release ?? false,
        built: [...built],
      }),
    });
    await this.#store.remove(key);
    await this.#store.getOrMake(key, async (directory) => {
      await Deno.writeFile(join(directory, "workload"), toBinary(ExecuteRequestSchema, entry));
    });
    await writeRef(this.#store, workload.language, { name: workload.name }, key);
    await this.#prune();
  }

  /**
   * What the agent is to be asked for a run of a workload: with what was built when it was prepared.
   *
   * @returns undefined when these files were not prepared
   * @throws {CloudletError} `not-found` when the run has no files and nothing of its name was prepared
   */
  async find(workload: Workload): Promise<ExecuteRequest | undefined> {
    const { execute, language, name } = workload;
    const own = isWhole(execute);
    const key = own ? workloadKey(workload) : await readRef(this.#store, language, { name });
    const entry = key === undefined ? undefined : await this.#read(key);
    if (entry === undefined) {
      if (own) return undefined;
      throw new CloudletError(
        `Cannot run the ${language} workload ${JSON.stringify(name)}: it has no source, and none ` +
          "of this name was prepared",
        { code: "not-found", remedy: 'prepare it with the action "prepare", or send its source' },
      );
    }
    const { files = [], built = [], entryPoint = "", release = false } = entry.options ?? {};
    return create(ExecuteRequestSchema, {
      ...execute,
      code: entry.code,
      options: { ...execute.options!, files, built, entryPoint, release },
    });
  }

  async #read(key: string): Promise<ExecuteRequest | undefined> {
    const directory = await this.#store.get(key);
    if (directory === undefined) return undefined;
    try {
      const bytes = await Deno.readFile(join(directory, "workload"));
      const now = new Date();
      await Deno.utime(directory, now, now);
      return fromBinary(ExecuteRequestSchema, bytes);
    } catch {
      await this.#store.remove(key); // damaged, or removed meanwhile: it was not prepared
      return undefined;
    }
  }

  async #prune(): Promise<void> {
    const used = new Map<string, number>();
    for (const key of await this.#store.keys()) {
      const info = await Deno.stat(join(this.#store.root, key)).catch(() => undefined);
      used.set(key, info?.mtime?.getTime() ?? 0);
    }
    const old = [...used].sort(([, a], [, b]) => b - a).slice(KEEP);
    for (const [key] of old) await this.#store.remove(key);
  }
}
