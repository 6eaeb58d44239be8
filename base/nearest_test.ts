import { equal } from "node:assert/strict";
import fc from "fast-check";
import { editDistance, nearest } from "./nearest.ts";

/** The definition, without tables: what is left after the first letters of both. */
function plain(a: string, b: string): number {
  if (a === "" || b === "") return a.length + b.length;
  const ways = [
    plain(a.slice(1), b) + 1,
    plain(a, b.slice(1)) + 1,
    plain(a.slice(1), b.slice(1)) + (a[0] === b[0] ? 0 : 1),
  ];
  if (a.length > 1 && a[0] === b[1] && a[1] === b[0]) ways.push(plain(a.slice(2), b.slice(2)) + 1);
  return Math.min(...ways);
}

Deno.test("the distance is that of the definition, and a limit only ends it sooner", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 6 });
  fc.assert(fc.property(word, word, fc.nat({ max: 6 }), (a, b, limit) => {
    const expected = plain(a, b);
    equal(editDistance(a, b), expected);
    equal(editDistance(b, a), expected);
    equal(editDistance(a, b, limit), expected <= limit ? expected : Infinity);
  }));
});

Deno.test("a name that is probably meant is suggested, and no other", () => {
  const known = ["language", "run", "source-code-path", "timeout"];
  for (
    const [name, meant] of [
      ["langauge", "language"],
      ["rnu", "run"],
      ["Run", "run"],
      ["source_code_path", "source-code-path"],
      ["timout", "timeout"],
      ["xyz", undefined],
      ["", undefined],
      ["x".repeat(101), undefined],
    ] as const
  ) equal(nearest(name, known), meant, name);
});
