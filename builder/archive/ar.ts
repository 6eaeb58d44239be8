/**
 * The ar(5) container of Debian packages, as deb(5) restricts it.
 *
 * ```text
 * !<arch>\n
 * name/16 mtime/12 uid/6 gid/6 mode/8 size/10 `\n     one header of 60 bytes, all text
 * <size bytes> [\n to an even offset]
 * ```
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import type { ByteSource } from "./source.ts";

/** One member of an ar archive. */
export interface ArMember {
  /** Name without padding and without the trailing slash of System V archives. */
  readonly name: string;
  /** Where its bytes start in the archive. */
  readonly offset: number;
  /** Length in bytes. */
  readonly size: number;
}

const MAGIC = "!<arch>\n";
const HEADER = 60;
const ascii = new TextDecoder("latin1");

function damaged(source: ByteSource, why: string): CloudletError {
  return new CloudletError(`Cannot read the package ${source.name}: ${why}`, {
    code: "untrusted",
    remedy: "remove the file and let it be fetched again",
  });
}

/**
 * The members of an ar archive, in order.
 *
 * @throws {CloudletError} `untrusted` when it is no ar archive or a member passes its end
 */
export function readAr(source: ByteSource): ArMember[] {
  if (
    source.size < MAGIC.length || ascii.decode(source.read(0, MAGIC.length)) !== MAGIC
  ) throw damaged(source, "it is not an ar archive");
  const members: ArMember[] = [];
  let offset = MAGIC.length;
  while (offset < source.size) {
    if (offset + HEADER > source.size) throw damaged(source, `it is truncated at byte ${offset}`);
    const header = ascii.decode(source.read(offset, HEADER));
    const sizeText = header.slice(48, 58).trimEnd();
    if (header.slice(58) !== "`\n" || !/^\d+$/.test(sizeText)) {
      throw damaged(source, `the member header at byte ${offset} is malformed`);
    }
    const name = header.slice(0, 16).trimEnd().replace(/\/$/, "");
    const size = Number(sizeText);
    offset += HEADER;
    if (offset + size > source.size) {
      throw damaged(source, `its member ${JSON.stringify(name)} is truncated`);
    }
    members.push({ name, offset, size });
    offset += size + size % 2;
  }
  return members;
}

/** The two archives in a binary package. */
export interface PackageMembers {
  /** `control.tar`, with whatever compression: metadata and scripts. */
  readonly control: ArMember;
  /** `data.tar`, with whatever compression: the files. */
  readonly data: ArMember;
}

/**
 * The archives in a binary package.
 *
 * deb(5): debian-binary first, with "2." and a minor version; then control.tar, then data.tar;
 * members whose names start with an underscore may stand in between.
 *
 * @throws {CloudletError} `untrusted` when the package is not in that form
 */
export function findMembers(source: ByteSource): PackageMembers {
  const members = readAr(source);
  const first = members[0];
  if (first?.name !== "debian-binary" || first.size < 4 || first.size > 64) {
    throw damaged(source, "its first member is not debian-binary");
  }
  const version = ascii.decode(source.read(first.offset, first.size)).split("\n", 1)[0]!;
  if (!version.startsWith("2.")) {
    throw damaged(source, `package format ${JSON.stringify(version)} is not 2.x`);
  }
  const rest = members.slice(1).filter(({ name }) => !name.startsWith("_"));
  const [control, data] = rest;
  if (!control?.name.startsWith("control.tar") || data === undefined) {
    throw damaged(source, "it has no control.tar followed by data.tar");
  }
  if (!/^data\.tar(\.\w+)?$/.test(data.name)) {
    throw damaged(source, `it has ${JSON.stringify(data.name)} in place of data.tar`);
  }
  return { control, data };
}
