/**
 * Debian control data: Debian Policy 5.1 (syntax) and 7.1 (relationships between packages).
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import type { VersionRelation } from "./version.ts";

/** One paragraph: values by field name in lower case, since names are case-insensitive. */
export type Paragraph = Map<string, string>;

/**
 * Parses one paragraph. Continuation lines stay in the value, with their newline and without their
 * first character (deb822 keeps the rest as it is).
 *
 * @param text lines of one paragraph; lines that start with `#` are comments
 */
export function parseParagraph(text: string): Paragraph {
  const fields: Paragraph = new Map();
  let last: string | undefined;
  for (const line of text.split("\n")) {
    if (line.startsWith("#")) continue;
    if (line.startsWith(" ") || line.startsWith("\t")) {
      if (last !== undefined) fields.set(last, `${fields.get(last)}\n${line.slice(1)}`);
      continue;
    }
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    last = line.slice(0, colon).toLowerCase();
    fields.set(last, line.slice(colon + 1).trim());
  }
  return fields;
}

/** Parses paragraphs that blank lines separate. */
export function parseParagraphs(text: string): Paragraph[] {
  return text.replaceAll("\r\n", "\n").split(/\n(?:[ \t]*\n)+/).map(parseParagraph)
    .filter((fields) => fields.size > 0);
}

/** One package that a relationship names. */
export interface Relation {
  /** Name of a package, real or virtual. */
  readonly name: string;
  /** `any`, `native` or an architecture, from `name:qualifier`. */
  readonly qualifier: string | undefined;
  /** Restriction of the version, when there is one. */
  readonly version: { readonly relation: VersionRelation; readonly version: string } | undefined;
}

/** Alternatives, one of which is enough. */
export type Clause = readonly Relation[];

const RELATION =
  /^([A-Za-z0-9][A-Za-z0-9+.-]*)(?::([a-z0-9-]+))?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)\s*([^\s()<>=][^\s()]*)\s*\))?$/;

/**
 * Parses the value of a field such as Depends.
 *
 * @param owner for error messages: whose field it is
 * @throws {CloudletError} `untrusted` when it is malformed
 */
export function parseRelations(value: string, owner: string): Clause[] {
  const clauses: Clause[] = [];
  for (const part of value.split(",")) {
    if (part.trim() === "") continue; // a trailing comma is common
    clauses.push(
      part.split("|").map((alternative) => {
        const match = RELATION.exec(alternative.trim());
        if (match === null) {
          throw new CloudletError(
            `Cannot read the dependencies of ${owner}: ${JSON.stringify(alternative.trim())} ` +
              "is not a relationship as Debian Policy 7.1 has it",
            { code: "untrusted", remedy: "use another mirror" },
          );
        }
        const [, name, qualifier, sign, version] = match;
        // Policy 7.1: the deprecated < and > mean <= and >=.
        const relation = (sign === "<" ? "<=" : sign === ">" ? ">=" : sign) as VersionRelation;
        return {
          name: name!,
          qualifier,
          version: version === undefined ? undefined : { relation, version },
        };
      }),
    );
  }
  return clauses;
}

/** A relationship as Debian writes it. */
export function formatRelation({ name, qualifier, version }: Relation): string {
  return name + (qualifier === undefined ? "" : `:${qualifier}`) +
    (version === undefined ? "" : ` (${version.relation} ${version.version})`);
}
