/**
 * dpkg's database (dpkg(1), FILES): which packages are installed, and their files and scripts, so that
 * dpkg and apt know what an image has.
 *
 * ```text
 * /var/lib/dpkg/status            a paragraph for each package
 *               info/NAME.list    its files; NAME:ARCH for packages that several architectures share
 *                    NAME.*       what its control.tar has
 * ```
 *
 * @module
 */
import { createHash } from "node:crypto";
import { ARCHITECTURE } from "../architecture.ts";
import { CloudletError } from "../../base/errors.ts";
import { readTar } from "../archive/tar.ts";
import type { ByteSource } from "../archive/source.ts";
import { contentBytes } from "../content.ts";
import { parseParagraph } from "../debian/control.ts";
import type { DebianPackage } from "../debian/packages.ts";
import { fileNode, splitPath, type Tree } from "../tree.ts";
import { addMissing, readText } from "./text.ts";

const DIRECTORY = "var/lib/dpkg";
const MAX_MEMBER = 4 * 1024 * 1024; // bytes of one file of control.tar
const MEMBER = /^[a-z0-9][a-z0-9._-]*$/;

interface Installed {
  readonly item: DebianPackage;
  /** Text of the control file. */
  readonly control: string;
  /** Name of its files in `info/`, without what follows the dot. */
  readonly base: string;
  readonly members: ReadonlyMap<string, { readonly bytes: Uint8Array; readonly mode: number }>;
  /** Its paths, relative to the root. */
  readonly paths: readonly string[];
}

/** What was unpacked into a tree. */
export class DpkgDatabase {
  readonly #installed: Installed[] = [];

  /**
   * Notes a package.
   *
   * @param control its control.tar, decompressed
   * @param paths names of its files and directories, as its data.tar has them
   * @throws {CloudletError} `untrusted` when the control file is of another package
   */
  add(item: DebianPackage, control: ByteSource, paths: readonly string[]): void {
    const members = new Map<string, { bytes: Uint8Array; mode: number }>();
    for (const { type, name, offset, size, mode } of readTar(control)) {
      const plain = name.replace(/^\.\//, "");
      if (type !== "file" || !MEMBER.test(plain) || size > MAX_MEMBER) continue;
      members.set(plain, { bytes: control.read(offset, size).slice(), mode });
    }
    const text = new TextDecoder().decode(members.get("control")?.bytes).trimEnd();
    const fields = parseParagraph(text);
    if (fields.get("package") !== item.name || fields.get("version") !== item.version) {
      throw new CloudletError(
        `Cannot unpack ${control.name}: its control file is not that of ${item.name} ${item.version}`,
        { code: "untrusted", remedy: "use another mirror" },
      );
    }
    const shared = fields.get("multi-arch") === "same";
    const base = shared ? `${item.name}:${fields.get("architecture")}` : item.name;
    members.delete("control");
    this.#installed.push({ item, control: text, base, members, paths });
  }

  /** The scripts that configure the packages, in the order in which these were unpacked. */
  *configurationScripts(): Generator<string> {
    for (const { members } of this.#installed) {
      const script = members.get("postinst");
      if (script !== undefined) yield new TextDecoder().decode(script.bytes);
    }
  }

  /** Adds the packages to the tree's database, in place of other versions of theirs. */
  writeTo(tree: Tree): void {
    const paragraphs = new Map<string, string>();
    for (const text of (readText(tree, `${DIRECTORY}/status`) ?? "").split(/\n\n+/)) {
      const fields = parseParagraph(text);
      const name = fields.get("package");
      if (name !== undefined) paragraphs.set(nameOf(name, fields), text.trimEnd());
    }
    for (const { item, control, base, members, paths } of this.#installed) {
      const fields = parseParagraph(control);
      const conffiles = new TextDecoder().decode(members.get("conffiles")?.bytes);
      paragraphs.set(nameOf(item.name, fields), status(tree, control, conffiles));
      for (const [name, { bytes, mode }] of members) {
        tree.add(`${DIRECTORY}/info/${base}.${name}`, fileNode(bytes, { mode: mode & 0o777 }));
      }
      const list = paths.map((path) => splitPath(path).join("/")).filter((path) => path !== "");
      const text = ["/.", ...list.map((path) => `/${path}`)].join("\n");
      tree.add(`${DIRECTORY}/info/${base}.list`, fileNode(`${text}\n`));
    }
    const sorted = [...paragraphs].sort(([a], [b]) => a < b ? -1 : 1);
    const text = sorted.map(([, paragraph]) => `${paragraph}\n\n`).join("");
    tree.add(`${DIRECTORY}/status`, fileNode(text));
    addMissing(tree, `${DIRECTORY}/info/format`, "1\n");
    addMissing(tree, `${DIRECTORY}/arch`, `${ARCHITECTURE}\n`);
    addMissing(tree, `${DIRECTORY}/diversions`, "");
    this.#addTriggers(tree);
  }

  /** Which package wants to know of changes (deb-triggers(5)): without it none is configured anew. */
  #addTriggers(tree: Tree): void {
    const directory = `${DIRECTORY}/triggers`;
    const interests = new Map<string, string[]>();
    for (const { base, members } of this.#installed) {
      const text = new TextDecoder().decode(members.get("triggers")?.bytes);
      const lines = text.matchAll(/^[ \t]*interest(?:-await|(-noawait))?[ \t]+(\S+)/gm);
      for (const [, noawait, name] of lines) {
        const owner = `${base}${noawait === undefined ? "" : "/noawait"}`;
        const isPath = name!.startsWith("/");
        if (!isPath && !MEMBER.test(name!)) continue;
        const file = isPath ? "File" : name!;
        const known = interests.get(file) ?? interests.set(file, []).get(file)!;
        known.push(isPath ? `${name} ${owner}` : owner);
      }
    }
    for (const [file, lines] of interests) {
      const before = readText(tree, `${directory}/${file}`) ?? "";
      const text = `${
        [...new Set([...before.split("\n").filter(Boolean), ...lines])].join("\n")
      }\n`;
      tree.add(`${directory}/${file}`, fileNode(text));
    }
  }
}

function nameOf(name: string, fields: ReadonlyMap<string, string>): string {
  return fields.get("multi-arch") === "same" ? `${name}:${fields.get("architecture")}` : name;
}

/** The paragraph of a package that is installed and configured. */
function status(tree: Tree, control: string, conffiles: string): string {
  const lines = control.split("\n");
  const hashes = conffiles.split("\n").flatMap((line) => {
    const path = line.trim();
    if (!path.startsWith("/")) return []; // deb-conffiles(5): flags come first
    const node = tree.lookup(path);
    if (node?.type !== "file") return [];
    const digest = createHash("md5").update(contentBytes(node.content)).digest("hex");
    return [` ${path} ${digest}`];
  });
  const before = lines.findIndex((line) => /^Description:/i.test(line));
  lines.splice(before < 0 ? lines.length : before, 0, ...conffileField(hashes));
  lines.splice(1, 0, "Status: install ok installed");
  return lines.join("\n");
}

function conffileField(hashes: readonly string[]): string[] {
  return hashes.length === 0 ? [] : ["Conffiles:", ...hashes];
}
