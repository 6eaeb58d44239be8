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
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { COMMAND, languageOrCommand } from "../workload/languages.ts";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError } from "../base/errors.ts";
import { cacheKey, filesKey, sha256, Store } from "../base/store.ts";
import { readRef, writeRef } from "../builder/refs.ts";
import {
  type ExecuteRequest,
  ExecuteRequestSchema,
  type File,
  OptionsSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Workload } from "./workload.ts";

/** Prepared workloads that are kept; those that were not used for longest go first. */
const KEEP = 64;

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
        ...(image.version !== undefined && { version: image.version }),
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

/** A file's content; undefined when there is none. */
async function readFileIfAny(path: string): Promise<Uint8Array | undefined> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.IsADirectory) {
      return undefined;
    }
    throw error;
  }
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
    await this.#store.replace(key, async (directory) => {
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
    using lease = await this.#store.lease(key);
    if (lease === undefined) return undefined;
    const bytes = await readFileIfAny(join(lease.path, "workload")); // the host's errors remove nothing
    try {
      if (bytes !== undefined) return fromBinary(ExecuteRequestSchema, bytes);
    } catch {
      // it is damaged
    }
    await this.#store.remove(key);
    return undefined;
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
