import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCommand } from "../archive/fixtures_test.ts";
import { compareVersions, satisfies } from "./version.ts";

Deno.test("versions are ordered as Debian Policy 5.6.12 has it", () => {
  const ascending = [
    "~~",
    "~~a",
    "~",
    "0",
    "0+b1",
    "1.0~beta1~svn1245",
    "1.0~beta1",
    "1.0",
    "1.0-0.1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1+deb12u1",
    "1.0-1.1",
    "1.0-2",
    "1.0-10",
    "1.0a-1",
    "1.0+dfsg-1",
    "1.0.1-1",
    "1.2-3-1",
    "1.9",
    "1.10",
    "2",
    "1:0.1",
    "2:0",
    "10:0",
  ];
  for (const [i, a] of ascending.entries()) {
    for (const [j, b] of ascending.entries()) {
      assert.equal(Math.sign(compareVersions(a, b)), Math.sign(i - j), `${a} and ${b}`);
    }
  }
});

Deno.test("versions that differ only in zeros or absent parts are equal", () => {
  for (const [a, b] of [["0:1.0", "1.0"], ["1.0-0", "1.0"], ["01.001", "1.1"], ["1.", "1.0"]]) {
    assert.equal(compareVersions(a!, b!), 0, `${a} and ${b}`);
  }
});

Deno.test("every relation holds for the orders that it names", () => {
  const holds = { "<<": [-1], "<=": [-1, 0], "=": [0], ">=": [0, 1], ">>": [1] } as const;
  const others = { "-1": "2", "0": "1", "1": "0" };
  for (const [relation, orders] of Object.entries(holds)) {
    for (const order of [-1, 0, 1] as const) {
      assert.equal(
        satisfies("1", relation as keyof typeof holds, others[order]),
        (orders as readonly number[]).includes(order),
        `${order} ${relation}`,
      );
    }
  }
});

const part = fc.array(fc.constantFrom(..."0019aZ.+~"), { maxLength: 6 }).map((c) => c.join(""));
const version = fc.tuple(fc.option(fc.nat(11)), part, fc.option(part)).map(([epoch, up, rev]) =>
  (epoch === null ? "" : `${epoch}:`) + "1" + up + (rev === null || rev === "" ? "" : `-${rev}`)
);

Deno.test("the order is total: reflexive, antisymmetric, transitive", () => {
  fc.assert(fc.property(version, version, version, (a, b, c) => {
    const order = (x: string, y: string) => Math.sign(compareVersions(x, y));
    assert.equal(order(a, a), 0);
    assert.equal(order(a, b), -order(b, a) || 0);
    if (order(a, b) <= 0 && order(b, c) <= 0) assert.ok(order(a, c) <= 0);
  }));
});

Deno.test({
  name: "dpkg orders any two versions in the same way",
  ignore: !hasCommand("dpkg"),
  fn: async () => {
    const pairs = fc.sample(fc.tuple(version, version), { numRuns: 400, seed: 1 });
    // One shell for all: starting dpkg is what takes the time.
    const script =
      'while read a b; do for r in lt eq gt; do dpkg --compare-versions "$a" $r "$b" ' +
      "&& echo $r; done; done";
    const child = new Deno.Command("sh", {
      args: ["-c", script],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(
      new TextEncoder().encode(pairs.map((pair) => `${pair.join(" ")}\n`).join("")),
    );
    await writer.close();
    const output = new TextDecoder().decode((await child.output()).stdout).trim().split("\n");
    assert.equal(output.length, pairs.length);
    for (const [i, [a, b]] of pairs.entries()) {
      const ours = ["lt", "eq", "gt"][Math.sign(compareVersions(a, b)) + 1];
      assert.equal(ours, output[i], `${a} and ${b}`);
    }
  },
});
