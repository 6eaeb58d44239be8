/**
 * Which dependencies a workload has, and whether it may have any: the readers of manifests are loaded only
 * then.
 *
 * @module
 */
import type { File } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { lazyImport } from "../../base/lazy_import.ts";
import { listedFiles } from "../file_list.ts";
import type { Dependencies, ManifestSource } from "./dependencies.ts";

/** A workload. */
export interface DependencyQuery {
  readonly language: string;
  readonly files: readonly File[];
  /** The text of a program of one file. */
  readonly code: string;
  readonly entryPoint?: string | undefined;
  /** Dependency groups of pyproject.toml. */
  readonly groups: readonly string[];
}

/** How a block of PEP 723 begins. */
const SCRIPT_BLOCK = "# /// script";

/** The reader of a language's manifests, and what a workload that has none lacks. */
const READERS: Readonly<
  Record<string, {
    readonly mayHave: (query: DependencyQuery) => boolean;
    read(source: ManifestSource, query: DependencyQuery): Promise<Dependencies | undefined>;
  }>
> = {
  python: {
    mayHave: ({ files, code, entryPoint, groups }) =>
      groups.length > 0 || code.includes(SCRIPT_BLOCK) ||
      files.some(({ path, content }) =>
        path === entryPoint && new TextDecoder().decode(content).includes(SCRIPT_BLOCK)
      ) || hasAny(files, ["requirements.txt", "pyproject.toml"]),
    async read(source, { groups, entryPoint }) {
      const { pipDependencies } = await lazyImport<typeof import("./pip.ts")>(
        "./pip.ts",
        import.meta.url,
      );
      return pipDependencies(source, groups, entryPoint);
    },
  },
  node: {
    mayHave: ({ files }) => hasAny(files, ["package.json"]),
    async read(source) {
      const { npmDependencies } = await lazyImport<typeof import("./npm.ts")>(
        "./npm.ts",
        import.meta.url,
      );
      return npmDependencies(source);
    },
  },
  rust: {
    mayHave: ({ files }) => hasAny(files, ["Cargo.toml"]),
    async read(source) {
      const { crateDependencies } = await lazyImport<typeof import("./crates.ts")>(
        "./crates.ts",
        import.meta.url,
      );
      return crateDependencies(source);
    },
  },
  deno: {
    mayHave: ({ code, files }) => files.length > 0 || /["'](npm|jsr|https?):/.test(code),
    async read(source) {
      const { denoDependencies } = await lazyImport<typeof import("./deno_modules.ts")>(
        "./deno_modules.ts",
        import.meta.url,
      );
      return denoDependencies(source);
    },
  },
};

function hasAny(files: readonly File[], paths: readonly string[]): boolean {
  return files.some(({ path }) => paths.includes(path));
}

/**
 * The dependencies of a workload.
 *
 * @returns undefined for none
 * @throws {CloudletError} `invalid-input` for a manifest that cannot be read
 */
export async function findDependencies(query: DependencyQuery): Promise<Dependencies | undefined> {
  const reader = Object.hasOwn(READERS, query.language) ? READERS[query.language]! : undefined;
  if (reader === undefined || !reader.mayHave(query)) return undefined;
  const { files: sources, code } = query;
  return await reader.read({ ...listedFiles(sources), sources, code }, query);
}
