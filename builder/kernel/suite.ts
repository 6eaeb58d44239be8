/**
 * The Debian release that kernels come from. It is a choice of its own: an image of an older release
 * runs on a newer kernel, and the patches fit one version only.
 *
 * @module
 */
import { lazyImport } from "../../base/lazy_import.ts";
import type { Debian, DebianOptions } from "../debian/debian.ts";

/** Debian 13: Linux 6.12, whose compiler builds it. */
export const KERNEL_SUITE = "trixie";
/** Package with the source of that release's kernel. */
export const SOURCE_PACKAGE = "linux-source-6.12";

/**
 * Opens the archive that kernels come from: the same mirrors as for images, another release.
 *
 * @throws {CloudletError} `untrusted`, `unavailable`, `host`, `cancelled`
 */
export async function openKernelArchive(
  options: Omit<DebianOptions, "suite"> = {},
): Promise<Debian> {
  // Not before it is needed: OpenPGP and xz take their time to load.
  const { openDebian } = await lazyImport<typeof import("../debian/debian.ts")>(
    "../debian/debian.ts",
    import.meta.url,
  );
  return await openDebian({ ...options, suite: KERNEL_SUITE });
}
