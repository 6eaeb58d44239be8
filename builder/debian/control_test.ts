import assert from "node:assert/strict";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { formatRelation, parseParagraph, parseParagraphs, parseRelations } from "./control.ts";

Deno.test("paragraphs have fields without regard to case, with continuation lines", () => {
  const fields = parseParagraph(
    "Package: bash\nSHA256:\n aa 1 x\n bb 2 y\nDescription: short\n long: text\n .\n# comment\nEmpty:\n",
  );
  assert.deepEqual([...fields], [
    ["package", "bash"],
    ["sha256", "\naa 1 x\nbb 2 y"],
    ["description", "short\nlong: text\n."],
    ["empty", ""],
  ]);
  assert.equal(parseParagraphs("\n\nA: 1\n\n \t\nB: 2\n\n\n").length, 2);
  assert.deepEqual(parseParagraphs("A: 1\r\nB: 2\r\n")[0]!.get("b"), "2");
});

Deno.test("relationships have alternatives, versions and qualifiers", () => {
  const clauses = parseRelations("a, b (>= 1:2.0~rc1-3) | c:any(<<4), d:amd64 ( = 5 ),", "x");
  assert.deepEqual(clauses, [
    [{ name: "a", qualifier: undefined, version: undefined }],
    [
      { name: "b", qualifier: undefined, version: { relation: ">=", version: "1:2.0~rc1-3" } },
      { name: "c", qualifier: "any", version: { relation: "<<", version: "4" } },
    ],
    [{ name: "d", qualifier: "amd64", version: { relation: "=", version: "5" } }],
  ]);
  assert.deepEqual(parseRelations("a (< 1), b (> 1)", "x").map(([r]) => r!.version!.relation), [
    "<=",
    ">=",
  ]);
  assert.deepEqual(parseRelations("", "x"), []);
});

Deno.test("malformed relationships are refused with their owner", () => {
  for (
    const value of ["a (1)", "a b", "(>= 1)", "a (>= )", "a || b", "a [amd64]", "a (>= 1", "-a"]
  ) {
    assert.throws(
      () => parseRelations(value, "owner 1.0"),
      (error) =>
        error instanceof CloudletError && error.code === "untrusted" &&
        error.message.includes("owner 1.0"),
      value,
    );
  }
});

Deno.test("what is formatted is parsed back", () => {
  const relation = fc.record({
    name: fc.stringMatching(/^[a-z0-9][a-z0-9+.-]{1,10}$/),
    qualifier: fc.constantFrom(undefined, "any", "amd64"),
    version: fc.option(
      fc.record({
        relation: fc.constantFrom("<<", "<=", "=", ">=", ">>"),
        version: fc.stringMatching(/^[0-9][0-9a-z.+~-]{0,8}$/),
      }, { noNullPrototype: true }),
      { nil: undefined },
    ),
  }, { noNullPrototype: true });
  fc.assert(fc.property(fc.array(fc.array(relation, { minLength: 1, maxLength: 3 })), (clauses) => {
    const text = clauses.map((clause) =>
      clause.map((r) => formatRelation(r as Parameters<typeof formatRelation>[0])).join(" | ")
    ).join(", ");
    assert.deepEqual(parseRelations(text, "x"), clauses);
  }));
});
