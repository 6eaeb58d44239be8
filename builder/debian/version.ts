/**
 * Debian version numbers: Debian Policy 5.6.12.
 *
 * @module
 */

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/**
 * Weight of a character in the non-digit parts. Policy 5.6.12.1: "the letters sort earlier than all
 * the non-letters and [...] a tilde sorts before anything, even the end of a part."
 */
function weight(text: string, at: number): number {
  if (at >= text.length) return 0;
  const code = text.charCodeAt(at);
  if (isDigit(code)) return 0; // the non-digit part ends here
  if (code === 0x7e) return -1;
  const isLetter = (code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a);
  return isLetter ? code : code + 256;
}

function comparePart(a: string, b: string): number {
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    while (
      (i < a.length && !isDigit(a.charCodeAt(i))) || (j < b.length && !isDigit(b.charCodeAt(j)))
    ) {
      const difference = weight(a, i) - weight(b, j);
      if (difference !== 0) return difference;
      i++;
      j++;
    }
    while (a.charCodeAt(i) === 0x30) i++;
    while (b.charCodeAt(j) === 0x30) j++;
    // Without leading zeros the longer run of digits is the greater number, whatever its length.
    let first = 0;
    while (i < a.length && isDigit(a.charCodeAt(i)) && j < b.length && isDigit(b.charCodeAt(j))) {
      if (first === 0) first = a.charCodeAt(i) - b.charCodeAt(j);
      i++;
      j++;
    }
    if (i < a.length && isDigit(a.charCodeAt(i))) return 1;
    if (j < b.length && isDigit(b.charCodeAt(j))) return -1;
    if (first !== 0) return first;
  }
  return 0;
}

/** The parts of `[epoch:]upstream-version[-debian-revision]`. */
function split(version: string): [epoch: string, upstream: string, revision: string] {
  const colon = version.indexOf(":");
  const epoch = colon < 0 ? "" : version.slice(0, colon);
  const rest = version.slice(colon + 1);
  const hyphen = rest.lastIndexOf("-");
  if (hyphen < 0) return [epoch, rest, ""];
  return [epoch, rest.slice(0, hyphen), rest.slice(hyphen + 1)];
}

/**
 * Orders two versions.
 *
 * @returns less than, equal to or greater than 0 as `a` is earlier than, equal to or later than `b`
 */
export function compareVersions(a: string, b: string): number {
  if (a === b) return 0;
  const [epochA, upstreamA, revisionA] = split(a);
  const [epochB, upstreamB, revisionB] = split(b);
  // An absent epoch is 0, an absent revision is equal to "0": both as comparePart has it.
  return comparePart(epochA, epochB) || comparePart(upstreamA, upstreamB) ||
    comparePart(revisionA, revisionB);
}

/** How a version must relate to another: Debian Policy 7.1. */
export type VersionRelation = "<<" | "<=" | "=" | ">=" | ">>";

/** Whether `version` stands in `relation` to `other`. */
export function satisfies(version: string, relation: VersionRelation, other: string): boolean {
  const order = compareVersions(version, other);
  switch (relation) {
    case "<<":
      return order < 0;
    case "<=":
      return order <= 0;
    case "=":
      return order === 0;
    case ">=":
      return order >= 0;
    case ">>":
      return order > 0;
  }
}
