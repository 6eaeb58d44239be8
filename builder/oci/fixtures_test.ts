/** What the tests of this folder share: a registry, and the tools that fill it. */
import { join } from "node:path";
import { run } from "../../test/oracle.ts";

const symbols = {
  lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
  llistxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
} as const;
let libc: Deno.DynamicLibrary<typeof symbols> | undefined;

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`) as Uint8Array<ArrayBuffer>;
}

/** An extended attribute of the host's file system; undefined when there is none. */
export function readXattr(path: string, name: string): Uint8Array | undefined {
  libc ??= Deno.dlopen("libc.so.6", symbols);
  const value = new Uint8Array(65536);
  const size = Number(libc.symbols.lgetxattr(cString(path), cString(name), value, 65536n));
  return size < 0 ? undefined : value.slice(0, size);
}

/** Names of a file's extended attributes, sorted. */
export function listXattrs(path: string): string[] {
  libc ??= Deno.dlopen("libc.so.6", symbols);
  const list = new Uint8Array(65536);
  const size = Number(libc.symbols.llistxattr(cString(path), list, 65536n));
  const text = new TextDecoder().decode(list.subarray(0, Math.max(0, size)));
  return text.split("\0").filter((name) => name !== "").sort();
}
export { join, run };
