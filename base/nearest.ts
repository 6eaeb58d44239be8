/**
 * "Did you mean": how far a mistyped name is from those that are known.
 *
 * @module
 */

/**
 * Number of insertions, deletions, replacements and swaps of neighbours from `a` to `b`.
 *
 * @param limit above it the result is Infinity, found sooner
 */
export function editDistance(a: string, b: string, limit: number = Infinity): number {
  if (Math.abs(a.length - b.length) > limit) return Infinity;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, beforeLast[j - 2]! + 1);
      }
      row.push(best);
    }
    if (Math.min(...row) > limit) return Infinity; // a swap from the row before costs no less
    beforeLast = last;
    last = row;
  }
  const distance = last[b.length]!;
  return distance > limit ? Infinity : distance;
}

/**
 * The one of `known` that `name` was probably meant to be, or undefined when none is near.
 *
 * @param name what was written; letter case and `_` for `-` are forgiven
 * @param known what may be written
 */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  const plain = (text: string) => text.toLowerCase().replaceAll("_", "-");
  if (name.length > 100) return undefined; // not a typing mistake
  let best: string | undefined;
  let least = Infinity;
  for (const candidate of known) {
    const d = editDistance(plain(name), plain(candidate));
    if (d < least) [best, least] = [candidate, d];
  }
  return least <= Math.max(1, Math.floor(name.length / 3)) ? best : undefined;
}
