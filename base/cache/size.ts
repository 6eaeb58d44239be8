/**
 * Sizes as people write them in settings and on command lines.
 *
 * @module
 */

const UNITS = ["", "k", "m", "g", "t"];

/** Bytes of `20GiB`, `500M` or a plain number; undefined for anything else. Units are of 1024. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])?(?:i?b)?)$/i.exec(text.trim());
  if (match === null) return undefined;
  const bytes = Math.round(
    Number(match[1]) * 1024 ** UNITS.indexOf((match[2] ?? "").toLowerCase()),
  );
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
