/**
 * `/etc/ld.so.cache`, which ldconfig(8) makes: where the dynamic linker, and `ldconfig -p`, find
 * libraries. Without it the linker tries a dozen directories for each library, and finds none in those
 * of /etc/ld.so.conf.
 *
 * Source: glibc 2.41, sysdeps/generic/dl-cache.h (struct cache_file_new), elf/cache.c, elf/ldconfig.c.
 *
 * ```text
 * "glibc-ld.so.cache" "1.1"    count, bytes of strings, flags, offset of extensions, 3 words unused
 * entries of 24 bytes          flags, name, path (offsets of strings in the file), 0, 0
 * strings                      each with a NUL at its end
 * ```
 *
 * @module
 */
import {
  DT_NULL,
  DT_SONAME,
  DT_STRTAB,
  EI_CLASS,
  EI_DATA,
  Elf64_Ehdr,
  Elf64_Phdr,
  ELFCLASS64,
  ELFDATA2LSB,
  ELFMAG,
  EM_X86_64,
  ET_DYN,
  PT_DYNAMIC,
  PT_LOAD,
} from "../../ffi/uapi/elf.ts";
import { CloudletError } from "../../base/errors.ts";
import { type ByteSource, openSource } from "../archive/source.ts";
import { type DirectoryNode, type FileNode, fileNode, type Tree } from "../tree.ts";
import { namesIn, readText } from "./text.ts";

/** A library of the cache. */
export interface Library {
  /** Its DT_SONAME, by which programs ask for it. */
  readonly name: string;
  /** Absolute path. */
  readonly path: string;
}

const MAGIC = "glibc-ld.so.cache1.1";
const HEADER = 48;
const ENTRY = 24;
const FLAGS = 0x0303; // FLAG_ELF_LIBC6 | FLAG_X8664_LIB64
const LITTLE_ENDIAN = 2; // cache_file_new_flags_endian_little
const BUILT_IN = ["/lib", "/usr/lib"]; // after those of ld.so.conf
const MAX_LINKS = 8;
const MAX_DYNAMIC = 64 * 1024; // bytes
const MAX_NAME = 255;

/** Adds the cache where the image has ldconfig. */
export function addLinkerCache(tree: Tree): void {
  if (tree.lookup("usr/sbin/ldconfig") === undefined) return;
  const libraries = findLibraries(tree);
  if (libraries.length > 0) tree.add("etc/ld.so.cache", fileNode(encodeCache(libraries)));
}

/** The libraries in the linker's directories, in the order of the cache. */
export function findLibraries(tree: Tree): Library[] {
  const libraries: Library[] = [];
  const seen = new Set<DirectoryNode>();
  for (const directory of [...configured(tree), ...BUILT_IN]) {
    const node = tree.trail(directory.slice(1))?.at(-1)?.directory;
    if (node === undefined || seen.has(node)) continue;
    seen.add(node);
    const names = new Set<string>();
    for (const name of [...node.children.keys()].sort()) {
      if (!/^(lib|ld-).*\.so/.test(name)) continue;
      const file = target(tree, `${directory}/${name}`);
      const soname = file === undefined ? undefined : sonameOf(file, name);
      if (soname === undefined) continue;
      // A link for the compiler, libx.so, is in the cache by its own name (ldconfig.c, search_dir).
      const forCompiler = node.children.get(name)?.type === "symlink" && name.endsWith(".so") &&
        soname.startsWith(name);
      const known = !forCompiler && node.children.has(soname) ? soname : name;
      if (!names.has(known)) libraries.push({ name: known, path: `${directory}/${known}` });
      names.add(known);
    }
  }
  // Stable: of equal names, the first directory's comes first.
  return libraries.sort((a, b) => compareLibraryNames(b.name, a.name));
}

/** Directories of /etc/ld.so.conf and what it includes (ldconfig(8)). */
function configured(tree: Tree): string[] {
  const parse = (path: string, depth: number): string[] =>
    (readText(tree, path) ?? "").split("\n").flatMap((line) => {
      const text = line.replace(/#.*/, "").trim();
      const included = /^include\s+(\S+)$/.exec(text)?.[1];
      if (included === undefined) return text.startsWith("/") ? [text.replace(/\/+$/, "")] : [];
      const [, directory, pattern] = /^\/?(.*)\/([^/]*)$/.exec(included) ?? [];
      if (directory === undefined || depth > 4) return [];
      const [before, after] = pattern!.split("*", 2);
      return namesIn(tree, directory)
        .filter((name) => name.startsWith(before!) && name.endsWith(after ?? ""))
        .flatMap((name) => parse(`${directory}/${name}`, depth + 1));
    });
  return parse("etc/ld.so.conf", 0);
}

/** The file at a path, through symbolic links. */
function target(tree: Tree, path: string): FileNode | undefined {
  for (let links = 0; links < MAX_LINKS; links++) {
    const node = tree.lookup(path);
    if (node?.type === "file") return node;
    if (node?.type !== "symlink") return undefined;
    const parts = node.target.startsWith("/") ? [] : path.split("/").slice(0, -1);
    for (const part of node.target.split("/")) {
      if (part === "..") parts.pop();
      else parts.push(part);
    }
    path = parts.join("/");
  }
  return undefined;
}

/** The name that a shared library has inside; its file's name when it has none. */
function sonameOf(node: FileNode, name: string): string | undefined {
  using source = openSource(node.content, name);
  try {
    return readSoname(source, name);
  } catch (error) {
    if (error instanceof CloudletError || error instanceof RangeError) return undefined; // no ELF file
    throw error;
  }
}

function readSoname(source: ByteSource, fallback: string): string | undefined {
  const at = (offset: number, length: number) => {
    const bytes = source.read(offset, length);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
  if (source.size < Elf64_Ehdr.size) return undefined;
  const header = at(0, Elf64_Ehdr.size);
  const ehdr = Elf64_Ehdr.offsets;
  if (
    header.getUint32(0) !== ELFMAG || header.getUint8(EI_CLASS) !== ELFCLASS64 ||
    header.getUint8(EI_DATA) !== ELFDATA2LSB ||
    header.getUint16(ehdr.e_machine, true) !== EM_X86_64 ||
    header.getUint16(ehdr.e_type, true) !== ET_DYN
  ) return undefined;
  const table = Number(header.getBigUint64(ehdr.e_phoff, true));
  const count = header.getUint16(ehdr.e_phnum, true);
  const phdr = Elf64_Phdr.offsets;
  const loads: { offset: number; address: number; size: number }[] = [];
  let dynamic: { offset: number; size: number } | undefined;
  for (let i = 0; i < count; i++) {
    const view = at(table + i * Elf64_Phdr.size, Elf64_Phdr.size);
    const type = view.getUint32(phdr.p_type, true);
    const offset = Number(view.getBigUint64(phdr.p_offset, true));
    const address = Number(view.getBigUint64(phdr.p_vaddr, true));
    const size = Number(view.getBigUint64(phdr.p_filesz, true));
    if (type === PT_LOAD) loads.push({ offset, address, size });
    if (type === PT_DYNAMIC) dynamic = { offset, size };
  }
  if (dynamic === undefined || dynamic.size > MAX_DYNAMIC) return undefined;
  let strings: number | undefined;
  let name: number | undefined;
  const entries = at(dynamic.offset, dynamic.size);
  for (let i = 0; i + 16 <= dynamic.size; i += 16) {
    const tag = Number(entries.getBigInt64(i, true));
    const value = Number(entries.getBigUint64(i + 8, true));
    if (tag === DT_NULL) break;
    if (tag === DT_STRTAB) strings = value;
    if (tag === DT_SONAME) name = value;
  }
  if (strings === undefined || name === undefined) return fallback;
  const segment = loads.find(({ address, size }) => strings >= address && strings < address + size);
  if (segment === undefined) return undefined;
  const start = strings - segment.address + segment.offset + name;
  const bytes = source.read(start, Math.min(MAX_NAME + 1, source.size - start));
  const end = bytes.indexOf(0);
  const soname = new TextDecoder().decode(bytes.subarray(0, end));
  return end > 0 && /^[\w.+-]+$/.test(soname) ? soname : undefined;
}

/** As the linker's binary search compares names: runs of digits as numbers (_dl_cache_libcmp). */
export function compareLibraryNames(a: string, b: string): number {
  let i = 0;
  let j = 0;
  const digit = (text: string, at: number) => at < text.length && /\d/.test(text[at]!);
  while (i < a.length) {
    if (digit(a, i) && digit(b, j)) {
      const [x] = /^\d+/.exec(a.slice(i))!;
      const [y] = /^\d+/.exec(b.slice(j))!;
      if (Number(x) !== Number(y)) return Number(x) - Number(y);
      i += x.length;
      j += y.length;
    } else if (digit(a, i)) return 1;
    else if (digit(b, j)) return -1;
    else if (a[i] !== b[j]) return a.charCodeAt(i) - (j < b.length ? b.charCodeAt(j) : 0);
    else {
      i++;
      j++;
    }
  }
  return j < b.length ? -b.charCodeAt(j) : 0;
}

/** The cache as a file. */
function encodeCache(libraries: readonly Library[]): Uint8Array {
  const strings: string[] = [];
  let end = HEADER + libraries.length * ENTRY;
  const place = (text: string) => {
    strings.push(`${text}\0`);
    const offset = end;
    end += text.length + 1; // library names and paths are ASCII
    return offset;
  };
  const places = libraries.map(({ name, path }) => [place(name), place(path)] as const);
  const bytes = new Uint8Array(end);
  const view = new DataView(bytes.buffer);
  new TextEncoder().encodeInto(MAGIC, bytes);
  view.setUint32(20, libraries.length, true);
  view.setUint32(24, end - HEADER - libraries.length * ENTRY, true);
  view.setUint8(28, LITTLE_ENDIAN);
  for (const [i, [name, path]] of places.entries()) {
    const at = HEADER + i * ENTRY;
    view.setInt32(at, FLAGS, true);
    view.setUint32(at + 4, name, true);
    view.setUint32(at + 8, path, true);
  }
  new TextEncoder().encodeInto(strings.join(""), bytes.subarray(HEADER + libraries.length * ENTRY));
  return bytes;
}
