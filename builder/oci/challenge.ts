/**
 * The WWW-Authenticate field: RFC 9110 11.6.1.
 *
 * @module
 */

/** One way in which a server wants to be told who asks. */
export interface Challenge {
  /** In lower case, such as `bearer`. */
  readonly scheme: string;
  /** By name in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

// token, or token "=" ( token / quoted-string ); RFC 9110 5.6.2 and 5.6.4
const PART =
  /[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))|(?=[\s,]|$))/gy;

/** Reads the field's challenges; what is malformed ends the list. */
export function parseChallenges(field: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  for (const [, name, quoted, plain] of field.matchAll(PART)) {
    const value = quoted?.replaceAll(/\\(.)/g, "$1") ?? plain;
    if (value === undefined) {
      challenges.push({ scheme: name!.toLowerCase(), parameters: new Map() });
    } else {
      challenges.at(-1)?.parameters.set(name!.toLowerCase(), value);
    }
  }
  return challenges;
}
