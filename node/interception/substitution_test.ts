import assert from "node:assert/strict";
import fc from "fast-check";
import { replaced, replacement, Replacer } from "./substitution.ts";

const utf8 = new TextEncoder();
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("a stream is replaced as its text is, however it is cut", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 60 });
  const cuts = fc.array(fc.nat(60), { maxLength: 8 });
  fc.assert(fc.property(letters, cuts, (source, cuts) => {
    const replacer = new Replacer([replacement("abca", "X"), replacement("bb", "YYY")]);
    const ends = [...new Set([...cuts.filter((cut) => cut < source.length), source.length])]
      .sort((a, b) => a - b);
    let [out, from] = ["", 0];
    for (const end of ends) {
      out += text(replacer.push(utf8.encode(source.slice(from, end))));
      from = end;
    }
    out += text(replacer.end());
    assert.equal(out, source.replaceAll(/abca|bb/g, (found) => found === "bb" ? "YYY" : "X"));
  }));
});

Deno.test("nothing is kept that cannot be the beginning of something", () => {
  const replacer = new Replacer([replacement("secret", "x")]);
  assert.equal(text(replacer.push(utf8.encode("0123456789"))), "0123456789");
  assert.equal(text(replacer.push(utf8.encode("a se"))), "a ");
  assert.equal(text(replacer.push(utf8.encode("cret"))), "x");
  assert.equal(text(replacer.end()), "");
  assert.equal(
    text(replaced(utf8.encode("a secret, secret"), [replacement("secret", "x")])),
    "a x, x",
  );
});
