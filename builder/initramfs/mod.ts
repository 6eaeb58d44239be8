/**
 * The initramfs: a static busybox, the script that the kernel starts, a console; nothing else.
 *
 * @module
 */
import { cpioArchive } from "./cpio.ts";
import script from "./init.sh" with { type: "text" };

export { cpioArchive, type CpioEntry } from "./cpio.ts";

/** What goes into an initramfs. */
export interface InitramfsContent {
  /** A statically linked busybox. */
  readonly busybox: Uint8Array;
  /** The script that becomes `/init`, for `/bin/busybox sh`. */
  readonly init: string;
}

/** Where `/init` looks for modules of the kernel: a directory of the initramfs. */
export const MODULES_DIRECTORY = "lib/modules";
/** The file in it that names them, one in a line, in the order in which they are inserted. */
export const MODULES_LIST = "order";

/** The text of `/init`. */
export const INIT_SCRIPT: string = script;

/**
 * Packs the initramfs; the same content gives the same bytes.
 *
 * @returns an uncompressed cpio archive: unpacking one costs the guest less than inflating it
 */
export async function buildInitramfs(content: InitramfsContent): Promise<Uint8Array> {
  return await cpioArchive([
    { type: "directory", path: "bin", mode: 0o755 },
    { type: "file", path: "bin/busybox", mode: 0o755, content: content.busybox },
    { type: "directory", path: "dev", mode: 0o755 },
    // The kernel opens it for /init before anything is mounted (init/main.c console_on_rootfs).
    { type: "character", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { type: "file", path: "init", mode: 0o755, content: new TextEncoder().encode(content.init) },
  ]);
}
