/**
 * Loadable modules: which ones some modules need, and in which order they are inserted. A package
 * has no modules.dep (depmod makes it when the package is installed), so the modules themselves are
 * asked: their `.modinfo` section says `depends=a,b`.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { EI_CLASS, Elf64_Ehdr, Elf64_Shdr, ELFCLASS64, ELFMAG } from "../../ffi/uapi/elf.ts";

/** A module as it is to be inserted. */
export interface KernelModule {
  /** Name in the kernel: with underscores. */
  readonly name: string;
  /** The ELF object. */
  readonly bytes: Uint8Array;
}

/** Where modules come from. */
export interface ModuleSource {
  /** The bytes of a module, decompressed; undefined when there is none of that name. */
  read(name: string): Promise<Uint8Array | undefined>;
  /** Whether the kernel has it built in. */
  builtIn(name: string): boolean;
}

const { e_shoff, e_shentsize, e_shnum, e_shstrndx } = Elf64_Ehdr.offsets;
const { sh_offset, sh_size } = Elf64_Shdr.offsets;
const MODINFO = new TextEncoder().encode(".modinfo\0");

/** The name under which the kernel knows a module of that file name. */
export function moduleName(file: string): string {
  return file.replace(/\.ko(\.(xz|gz|zst))?$/, "").replaceAll("-", "_");
}

function refuse(name: string, why: string): CloudletError {
  return new CloudletError(`Cannot use the kernel module ${name}: ${why}`, {
    code: "untrusted",
    remedy: "remove the package from the cache and let it be fetched again",
  });
}

/**
 * What a module says of itself.
 *
 * @param name for messages
 * @returns values by key, in the order in which they are there
 * @throws {CloudletError} `untrusted` when it is no module
 */
export function moduleInfo(bytes: Uint8Array, name: string): Map<string, string[]> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (
    bytes.length < Elf64_Ehdr.size || view.getUint32(0) !== ELFMAG ||
    view.getUint8(EI_CLASS) !== ELFCLASS64 || view.getUint16(e_shentsize, true) !== Elf64_Shdr.size
  ) throw refuse(name, "it is no 64-bit ELF object");
  const number = (at: number) => Number(view.getBigUint64(at, true));
  const table = number(e_shoff);
  const count = view.getUint16(e_shnum, true);
  if (table + count * Elf64_Shdr.size > bytes.length) {
    throw refuse(name, "its sections are cut off");
  }
  const section = (index: number) => {
    if (index >= count) throw refuse(name, "it names a section that it does not have");
    const at = table + index * Elf64_Shdr.size;
    const start = number(at + sh_offset);
    const end = start + number(at + sh_size);
    if (end > bytes.length) throw refuse(name, "a section is cut off");
    return { nameOffset: view.getUint32(at, true), start, end };
  };
  const names = section(view.getUint16(e_shstrndx, true));
  const info = new Map<string, string[]>();
  for (let index = 1; index < count; index++) {
    // A section without bytes in the file (.bss) may point anywhere.
    const nameAt = names.start + view.getUint32(table + index * Elf64_Shdr.size, true);
    // Only as far as the name that is looked for: others may be as long as the file, and all the same.
    if (nameAt + MODINFO.length > names.end) continue;
    if (!MODINFO.every((byte, i) => bytes[nameAt + i] === byte)) continue;
    const { start, end } = section(index);
    for (const entry of new TextDecoder().decode(bytes.subarray(start, end)).split("\0")) {
      const equals = entry.indexOf("=");
      if (equals < 0) continue;
      const key = entry.slice(0, equals);
      const values = info.get(key) ?? [];
      values.push(entry.slice(equals + 1));
      info.set(key, values);
    }
    break; // as Linux does, kernel/module/main.c, find_sec(): the first of that name
  }
  return info;
}

/** Modules that have to be inserted before this one. */
interface Needs {
  /** `depends`: without them it cannot be inserted. */
  readonly hard: readonly string[];
  /** The first half of `softdep` (modprobe.d(5)): if they are there; it may also be an alias. */
  readonly soft: readonly string[];
}

function needsOf(info: ReadonlyMap<string, readonly string[]>): Needs {
  const names = (list: readonly string[]) => list.filter((name) => name !== "").map(moduleName);
  return {
    hard: names((info.get("depends") ?? []).flatMap((list) => list.split(","))),
    soft: names(
      (info.get("softdep") ?? []).flatMap((list) =>
        (/pre: (.*?)(?: post:|$)/.exec(list)?.[1] ?? "").split(/\s+/)
      ),
    ),
  };
}

/**
 * The wanted modules with all that they depend on, each after what it needs.
 *
 * @param wanted names; those that the kernel has built in are left out
 * @throws {CloudletError} `not-found` for a module that is not there, `untrusted` for one that
 *   depends on itself
 */
export async function orderModules(
  wanted: readonly string[],
  source: ModuleSource,
): Promise<KernelModule[]> {
  const ordered = new Map<string, KernelModule>();
  const visit = async (name: string, path: readonly string[], optional = false): Promise<void> => {
    if (ordered.has(name) || source.builtIn(name)) return;
    if (path.includes(name)) {
      throw refuse(name, `it depends on itself, by way of ${path.join(", ")}`);
    }
    const bytes = await source.read(name);
    if (bytes === undefined) {
      if (optional) return;
      throw new CloudletError(
        `Cannot use the packaged kernel: it has no module ${name}` +
          (path.length === 0 ? "" : `, which ${path.at(-1)} needs`),
        { code: "not-found", remedy: 'use the kernel that cloudlet builds: kernel = "built"' },
      );
    }
    const { hard, soft } = needsOf(moduleInfo(bytes, name));
    for (const need of soft) await visit(need, [...path, name], true);
    for (const need of hard) await visit(need, [...path, name]);
    ordered.set(name, { name, bytes });
  };
  for (const name of wanted) await visit(moduleName(name), []);
  return [...ordered.values()];
}
