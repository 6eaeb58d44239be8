/**
 * Adding Debian packages to an image that is a Debian system already.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { contentBytes } from "../content.ts";
import { parseParagraphs } from "../debian/control.ts";
import type { Debian, DebianPackage } from "../debian/debian.ts";
import { compareVersions } from "../debian/version.ts";
import type { ImageBudget } from "../limits.ts";
import { contentSize, type Tree } from "../tree.ts";

const STATUS = "var/lib/dpkg/status"; // dpkg(1), FILES

/** Versions of the packages that dpkg has installed, by name; undefined where there is no dpkg. */
function installedPackages(tree: Tree): Map<string, string> | undefined {
  const status = tree.lookup(STATUS);
  if (status?.type !== "file") return undefined;
  const installed = new Map<string, string>();
  for (const fields of parseParagraphs(new TextDecoder().decode(contentBytes(status.content)))) {
    const [name, version] = [fields.get("package"), fields.get("version")];
    if (name === undefined || version === undefined) continue;
    if (fields.get("status")?.endsWith(" installed")) installed.set(name, version);
  }
  return installed;
}

/** os-release(5): where it is, and where it may be a link to. */
const OS_RELEASE = ["usr/lib/os-release", "etc/os-release"];

/**
 * The Debian release that an image is of.
 *
 * @param name of the image, for messages
 * @throws {CloudletError} `invalid-input` when it is no Debian system, or does not say which
 */
export function debianRelease(tree: Tree, name: string): string {
  const file = OS_RELEASE.map((path) => tree.lookup(path)).find((node) => node?.type === "file");
  const text = file?.type === "file" && contentSize(file.content) <= 65_536
    ? new TextDecoder().decode(contentBytes(file.content))
    : "";
  const value = (key: string) => new RegExp(`^${key}="?([a-z]+)"?$`, "m").exec(text)?.[1];
  if (value("ID") !== "debian") throw refusal(name, "it is no Debian system");
  const release = value("VERSION_CODENAME");
  if (release === undefined) throw refusal(name, "its os-release names no release of Debian");
  return release;
}

function refusal(name: string, why: string): CloudletError {
  return new CloudletError(`Cannot add Debian packages to ${name}: ${why}`, {
    code: "invalid-input",
    remedy: "add what you need by [image] files and run",
  });
}

/** The upstream part of a version: Debian policy 5.6.12. */
function upstream(version: string): string {
  return version.replace(/^\d+:/, "").replace(/-[^-]*$/, "");
}

/**
 * Unpacks what the system does not have yet.
 *
 * @param wanted packages with everything that they depend on
 * @param name of the image, for messages
 * @param budget counts what they have
 * @throws {CloudletError} `invalid-input` when the image is no Debian system, or one of another
 *   release than the archive
 */
export async function addInstalledPackages(
  tree: Tree,
  wanted: readonly DebianPackage[],
  debian: Debian,
  name: string,
  budget: ImageBudget,
): Promise<void> {
  const refuse = (why: string) => refusal(name, why);
  const installed = installedPackages(tree);
  if (installed === undefined) throw refuse("it is no Debian system");
  // The C library tells releases apart: what is linked to a newer one does not run.
  const here = installed.get("libc6");
  const there = wanted.find(({ name }) => name === "libc6")?.version;
  if (here !== undefined && there !== undefined && upstream(here) !== upstream(there)) {
    throw refuse(`it is of another release (libc6 ${here}) than the archive (libc6 ${there})`);
  }
  const missing = wanted.filter(({ name, version }) => {
    const existing = installed.get(name);
    return existing === undefined || compareVersions(existing, version) < 0;
  });
  await debian.unpack(missing, tree, budget);
}
