/**
 * Lists of files, as requests hold them.
 *
 * @module
 */
import type { File } from "../proto/gen/cloudlet/agent/agent_pb.ts";

/** Whether two lists have the same files in the same order. */
export function sameFiles(a: readonly File[], b: readonly File[]): boolean {
  if (a.length !== b.length) return false;
  return a.every((file, i) => {
    const other = b[i]!;
    return file.path === other.path && file.mode === other.mode &&
      file.content.length === other.content.length &&
      file.content.every((byte, j) => byte === other.content[j]);
  });
}
