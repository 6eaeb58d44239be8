import assert from "node:assert/strict";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { makeIndex, type TestPackage } from "./fixtures_test.ts";
import { PackageIndex } from "./packages.ts";
import { resolve, type ResolveOptions } from "./resolve.ts";

type Fields = Readonly<Record<string, string>>;

/** An index of `name` or `name=version` and fields. */
function index(packages: Readonly<Record<string, Fields>>): PackageIndex {
  const list = Object.entries(packages).map(([key, fields]): TestPackage => {
    const [name, version = "1.0"] = key.split("=");
    return { name: name!, version, fields };
  });
  const bytes = new TextEncoder().encode(makeIndex(list).packages);
  return new PackageIndex([{ bytes, base: "http://mirror.test/", name: "Packages" }]);
}

function names(
  packages: Readonly<Record<string, Fields>>,
  wanted: string[],
  options?: ResolveOptions,
): string[] {
  return resolve(index(packages), wanted, options).map(({ name, version }) =>
    version === "1.0" ? name : `${name}=${version}`
  );
}

function refuses(packages: Record<string, Fields>, wanted: string[], code: string, why: RegExp) {
  assert.throws(
    () => names(packages, wanted),
    (error) => {
      assert.ok(error instanceof CloudletError, String(error));
      assert.equal(error.code, code);
      assert.match(`${error.message} (${error.remedy})`, why);
      return true;
    },
  );
}

Deno.test("dependencies come before what depends on them", () => {
  const packages = {
    a: { Depends: "b, c" },
    b: { Depends: "d" },
    c: { "Pre-Depends": "e" },
    d: {},
    e: {},
    unrelated: {},
  };
  assert.deepEqual(names(packages, ["a"]), ["e", "c", "d", "b", "a"].toSorted(byDependency));
});

function byDependency(a: string, b: string): number {
  const place = ["d", "b", "e", "c", "a"];
  return place.indexOf(a) - place.indexOf(b);
}

Deno.test("cycles are resolved", () => {
  assert.deepEqual(names({ a: { Depends: "b" }, b: { Depends: "a" } }, ["a"]), ["b", "a"]);
  assert.deepEqual(names({ a: { Depends: "a" } }, ["a"]), ["a"]);
});

Deno.test("the first alternative that can be had is taken", () => {
  const packages = { a: { Depends: "none | old (>= 2) | b | c" }, old: {}, b: {}, c: {} };
  assert.deepEqual(names(packages, ["a"]), ["b", "a"]);
  assert.deepEqual(names(packages, ["a", "c"]), ["c", "a"], "c is there anyway");
});

Deno.test("a real package goes before one that provides it, then priority, then order", () => {
  const real = { a: { Depends: "mail" }, postfix: { Provides: "mail" }, mail: {} };
  assert.deepEqual(names(real, ["a"]), ["mail", "a"]);
  const virtual = {
    a: { Depends: "mail" },
    exim: { Provides: "mail" },
    postfix: { Provides: "mail" },
    sendmail: { Provides: "mail", Priority: "standard" },
  };
  assert.deepEqual(names(virtual, ["a"]), ["sendmail", "a"]);
  assert.deepEqual(names(virtual, ["a", "postfix"]), ["postfix", "a"]);
  const { sendmail: _, ...equal } = virtual;
  assert.deepEqual(names(equal, ["a"]), ["exim", "a"]);
  assert.deepEqual(names(virtual, ["mail"]), ["sendmail"], "a virtual package can be asked for");
});

Deno.test("the highest version is taken, an older one only when nothing else will do", () => {
  const packages = { "a=1.0": {}, "a=2.0": {}, "a=1.5": {}, b: { Depends: "a (<< 2)" } };
  assert.deepEqual(names(packages, ["a"]), ["a=2.0"]);
  assert.deepEqual(names(packages, ["b"]), ["a=1.5", "b"]);
  const choice = { ...packages, c: { Depends: "a (<< 2) | d" }, d: {} };
  assert.deepEqual(names(choice, ["c"]), ["d", "c"]);
});

Deno.test("a versioned dependency needs a versioned Provides", () => {
  const packages = {
    a: { Depends: "api (>= 2)" },
    plain: { Provides: "api" },
    low: { Provides: "api (= 1)" },
    high: { Provides: "api (= 2)" },
  };
  assert.deepEqual(names(packages, ["a"]), ["high", "a"]);
});

Deno.test("conflicts and breaks are respected, in both directions and by virtual names", () => {
  for (const field of ["Conflicts", "Breaks"]) {
    const first = { a: { Depends: "b | c" }, b: { [field]: "a" }, c: {} };
    assert.deepEqual(names(first, ["a"]), ["c", "a"], `${field} of the candidate`);
    const second = { a: { Depends: "b | c", [field]: "b (<< 2)" }, b: {}, c: {} };
    assert.deepEqual(names(second, ["a"]), ["c", "a"], `${field} of what is chosen`);
    const fine = { a: { Depends: "b | c", [field]: "b (<< 1)" }, b: {}, c: {} };
    assert.deepEqual(names(fine, ["a"]), ["b", "a"], `${field} of another version`);
  }
  const virtual = {
    x: { Provides: "mta", Conflicts: "mta" },
    y: { Provides: "mta", Conflicts: "mta" },
  };
  assert.deepEqual(names(virtual, ["x"]), ["x"], "not with itself");
  refuses(virtual, ["x", "y"], "conflict", /y 1.0 conflicts with mta, which is x 1.0/);
});

Deno.test("the search steps back from a choice that leads nowhere", () => {
  const packages = {
    a: { Depends: "b | c, d" },
    b: { Depends: "e" },
    c: {},
    d: { Conflicts: "e" },
    e: {},
  };
  assert.deepEqual(names(packages, ["a"]), ["c", "d", "a"]);
  const missing = { a: { Depends: "b | c" }, b: { Depends: "nothing" }, c: {} };
  assert.deepEqual(names(missing, ["a"]), ["c", "a"]);
});

Deno.test("qualifiers: any needs Multi-Arch allowed, other architectures cannot be had", () => {
  const allowed = { a: { Depends: "python:any" }, python: { "Multi-Arch": "allowed" } };
  assert.deepEqual(names(allowed, ["a"]), ["python", "a"]);
  const native = { a: { Depends: "b:amd64, c:native" }, b: {}, c: {} };
  assert.deepEqual(names(native, ["a"]).length, 3);
  for (const depends of ["python:any", "python:i386"]) {
    refuses({ a: { Depends: depends }, python: {} }, ["a"], "conflict", /a 1.0 depends on python/);
  }
});

Deno.test("essential packages come only when asked for", () => {
  const packages = { a: {}, base: { Essential: "yes", Depends: "lib" }, lib: {} };
  assert.deepEqual(names(packages, ["a"]), ["a"]);
  assert.deepEqual(names(packages, ["a"], { essential: true }), ["a", "lib", "base"]);
});

Deno.test("what cannot be resolved is told with its reason", () => {
  refuses({ python3: {} }, ["pyhton3"], "not-found", /"pyhton3".*did you mean python3/);
  refuses({ a: { Depends: "b (>= 2)" }, b: {} }, ["a"], "conflict", /a 1.0 depends on b \(>= 2\)/);
  refuses({ a: { Conflicts: "b" }, b: {} }, ["a", "b"], "conflict", /a 1.0 conflicts with b/);
});

Deno.test("malformed indexes are refused", () => {
  const digest = "0".repeat(64);
  const good = `Package: a\nVersion: 1\nFilename: a.deb\nSize: 1\nSHA256: ${digest}\n`;
  const cases: [string, RegExp][] = [
    ["nonsense\n", /no Package first/],
    [good.replace("Package: a", "Package: ../a"), /malformed name/],
    [good.replace("Version: 1", "Version: 1/2"), /malformed Version/],
    [good.replace(digest, "123"), /no SHA256/],
    [good.replace("Size: 1", "Size: -1"), /no Size/],
    [good.replace("a.deb", "../../etc/passwd"), /leaves the archive/],
    [good.replace("a.deb", "/etc/passwd"), /leaves the archive/],
  ];
  const open = (text: string) => {
    const file = { bytes: new TextEncoder().encode(text), base: "http://m/", name: "Packages" };
    const index = new PackageIndex([file]);
    return [...index.names()].flatMap((name) => index.versions(name));
  };
  assert.equal(open(good).length, 1);
  for (const [text, pattern] of cases) {
    assert.throws(
      () => open(text),
      (error) =>
        error instanceof CloudletError && error.code === "untrusted" && pattern.test(error.message),
      text,
    );
  }
});

/** Whether the packages satisfy all dependencies among themselves and none excludes another. */
function consistent(chosen: ReturnType<typeof resolve>): boolean {
  const has = (name: string) => chosen.some((item) => item.name === name);
  return chosen.every((item) =>
    item.depends.every((clause) => clause.some(({ name }) => has(name))) &&
    item.conflicts.every((clause) => clause.every(({ name }) => !has(name) || name === item.name))
  );
}

Deno.test("an index without a line break at its end, and one with two names in a paragraph", () => {
  const text = makeIndex([{ name: "a", fields: { Essential: "yes" } }]).packages;
  const read = (text: string) =>
    new PackageIndex([
      { bytes: new TextEncoder().encode(text), base: "http://mirror.test/", name: "Packages" },
    ]);
  assert.deepEqual(read(text.trimEnd()).essential(), ["a"]);
  const essentialLast = text.replace("Essential: yes\n", "") + "Essential: yes";
  assert.deepEqual(read(essentialLast).essential(), ["a"]);
  const two = read(`${text}Package: b\n`);
  for (const ask of [() => two.essential(), () => two.versions("a")]) {
    assert.throws(ask, /the paragraph of "b" has another name first/);
  }
});

Deno.test("a solution is found exactly when there is one, and it is always the same", () => {
  const names = ["a", "b", "c", "d", "e", "f"];
  const name = fc.constantFrom(...names);
  const clause = fc.array(name, { minLength: 1, maxLength: 3 }).map((list) => list.join(" | "));
  const entry = fc.record({
    Depends: fc.array(clause, { maxLength: 2 }).map((list) => list.join(", ")),
    Conflicts: fc.array(name, { maxLength: 1 }).map((list) => list.join(", ")),
  });
  const world = fc.tuple(...names.map(() => entry)).map((entries) =>
    Object.fromEntries(names.map((name, i) => [name, entries[i]!]))
  );
  fc.assert(
    fc.property(world, name, (packages, wanted) => {
      const all = index(packages);
      const records = names.map((name) => all.versions(name)[0]!);
      const possible = Array.from(
        { length: 1 << names.length },
        (_, bits) => records.filter((_, i) => bits & (1 << i)),
      ).some((subset) => subset.some((item) => item.name === wanted) && consistent(subset));
      let found: ReturnType<typeof resolve> | undefined;
      try {
        found = resolve(all, [wanted]);
      } catch (error) {
        assert.equal((error as CloudletError).code, "conflict");
      }
      assert.equal(found !== undefined, possible);
      if (found === undefined) return;
      assert.ok(consistent(found));
      assert.ok(found.some((item) => item.name === wanted));
      assert.deepEqual(
        resolve(index(packages), [wanted]).map((p) => p.name),
        found.map((p) => p.name),
      );
    }),
    { numRuns: 300 },
  );
});
