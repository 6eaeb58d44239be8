/**
 * What a project needs besides its own files: packages that its manifests name. Nothing here touches a
 * file or the network; manifests come from clients, who are hostile.
 *
 * @module
 */
import type { File } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import type { ListedFiles } from "../file_list.ts";

/** What installs packages. */
export type InstallerName = "pip" | "npm" | "cargo" | "deno";

/** See the module. */
export interface Dependencies {
  /** What installs them. */
  readonly installer: InstallerName;
  /** The file that names them. */
  readonly manifest: string;
  /** Their names, as far as the manifest says them; for people. */
  readonly names: readonly string[];
  /**
   * What installing sees of the project: whatever decides what is installed, and no more, since other
   * files install anew.
   */
  readonly files: readonly File[];
  /** Arguments of the installer's script. */
  readonly args: readonly string[];
}

/** A project, as the readers of manifests see it. */
export interface ManifestSource extends ListedFiles {
  /** All that is sent, with the files' contents. */
  readonly sources: readonly File[];
  /** The text of a program of one file; empty for a project. */
  readonly code: string;
}

/** Characters of a manifest that are looked at. */
export const MAX_MANIFEST = 4 << 20;

/** A file that is made up. */
export function madeFile(path: string, text: string): File {
  return {
    $typeName: "cloudlet.agent.File",
    path,
    content: new TextEncoder().encode(text),
    mode: 0o644,
    offset: 0n,
    target: "",
    directory: false,
  };
}
