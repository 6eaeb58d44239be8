import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { CloudletError } from "./errors.ts";
import { acrossPowerLoss } from "./power_loss_test.ts";
import { cacheKey, DamagedEntry, type KeyPart, Store } from "./store.ts";

const MODULE = new URL("./store.ts", import.meta.url).href;

async function withStore(work: (store: Store) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await work(new Store(join(directory, "kind")));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Everything but locks: finished entries and what is left of unfinished ones. */
function names(store: Store): string[] {
  return [...Deno.readDirSync(store.root)].map(({ name }) => name)
    .filter((name) => !name.endsWith(".lock")).sort();
}

const keyPart = fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<KeyPart>;

function reversed(part: KeyPart): KeyPart {
  if (Array.isArray(part)) return part.map(reversed);
  if (part === null || typeof part !== "object") return part;
  return Object.fromEntries(
    Object.entries(part).reverse().map(([name, value]) => [name, reversed(value)]),
  );
}

Deno.test("a key depends on what it is made of, not on the order of members", () => {
  fc.assert(fc.property(keyPart, (part) => {
    assert.match(cacheKey(part), /^[0-9a-f]{32}$/);
    assert.equal(cacheKey(reversed(part)), cacheKey(part));
  }));
  const parts: KeyPart[] = [1, "1", [1], ["1"], { 1: 1 }, null, "null", true, [], {}, [[]], "", [
    "",
  ]];
  assert.equal(new Set(parts.map(cacheKey)).size, parts.length);
});

Deno.test("an entry is made once, then found", async () => {
  await withStore(async (store) => {
    const key = cacheKey("x");
    assert.equal(await store.get(key), undefined);
    assert.deepEqual(await store.keys(), []);
    let made = 0;
    const make = async (directory: string) => {
      made++;
      await Deno.writeTextFile(join(directory, "content"), "x");
    };
    const path = await store.getOrMake(key, make);
    assert.equal(await store.getOrMake(key, make), path);
    assert.equal(made, 1);
    assert.equal(await store.get(key), path);
    assert.equal(await Deno.readTextFile(join(path, "content")), "x");
    assert.deepEqual(await store.keys(), [key]);
  });
});

Deno.test("callers in one process share the work", async () => {
  await withStore(async (store) => {
    let made = 0;
    let waited = 0;
    const paths = await Promise.all(
      Array.from({ length: 8 }, () =>
        store.getOrMake(cacheKey("x"), async () => {
          made++;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }, () => waited++)),
    );
    assert.equal(made, 1);
    assert.equal(new Set(paths).size, 1);
    assert.ok(waited <= 7);
  });
});

Deno.test("an entry whose making fails is not there, and can be made later", async () => {
  await withStore(async (store) => {
    const key = cacheKey("x");
    await assert.rejects(
      store.getOrMake(key, async (directory) => {
        await Deno.writeTextFile(join(directory, "half"), "x");
        throw new Error("gave up");
      }),
      /gave up/,
    );
    assert.equal(await store.get(key), undefined);
    assert.deepEqual(names(store), []);
    await store.getOrMake(key, () => Promise.resolve());
    assert.deepEqual(names(store), [key]);
  });
});

/** A process that makes the entry: tells when it begins, and waits for a line before it ends. */
function maker(store: Store, key: string): Deno.ChildProcess {
  const code = `import { Store } from ${JSON.stringify(MODULE)};
    const store = new Store(${JSON.stringify(store.root)});
    const path = await store.getOrMake(${JSON.stringify(key)}, async (directory) => {
      Deno.writeTextFileSync(directory + "/maker", String(Deno.pid));
      await Deno.stdout.write(new TextEncoder().encode("m"));
      await Deno.stdin.read(new Uint8Array(1));
    }, () => Deno.stdout.writeSync(new TextEncoder().encode("w")));
    console.log(path);
    Deno.exit(0);`;
  return new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", code],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
}

async function firstOutput(child: Deno.ChildProcess): Promise<string> {
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  return new TextDecoder().decode(value);
}

async function letEnd(child: Deno.ChildProcess): Promise<Deno.CommandStatus> {
  await child.stdin.close();
  await child.stdout.cancel();
  return await child.status;
}

Deno.test("of two processes one makes the entry and the other waits for it", async () => {
  await withStore(async (store) => {
    const key = cacheKey("x");
    const one = maker(store, key);
    assert.equal(await firstOutput(one), "m");
    const other = maker(store, key);
    assert.equal(await firstOutput(other), "w");
    assert.equal(await store.get(key), undefined);
    assert.equal((await letEnd(one)).code, 0);
    assert.equal((await letEnd(other)).code, 0);
    const path = await store.get(key);
    assert.equal(await Deno.readTextFile(join(path!, "maker")), String(one.pid));
    assert.deepEqual(names(store), [key]);
  });
});

Deno.test("when the maker is killed, the one who waits makes the entry", async () => {
  await withStore(async (store) => {
    const key = cacheKey("x");
    const one = maker(store, key);
    assert.equal(await firstOutput(one), "m");
    const other = maker(store, key);
    assert.equal(await firstOutput(other), "w");
    one.kill("SIGKILL");
    await letEnd(one);
    assert.equal(await firstOutput(other), "m");
    assert.equal((await letEnd(other)).code, 0);
    const path = await store.get(key);
    assert.equal(await Deno.readTextFile(join(path!, "maker")), String(other.pid));
    assert.deepEqual(names(store), [key]); // what the killed one left is gone
  });
});

Deno.test("a removed entry is gone, and open files of it stay readable", async () => {
  await withStore(async (store) => {
    const key = cacheKey("x");
    const path = await store.getOrMake(
      key,
      (directory) => Deno.writeTextFile(join(directory, "content"), "still here"),
    );
    using file = await Deno.open(join(path, "content"));
    await store.remove(key);
    await store.remove(key); // the second time there is nothing to do
    assert.equal(await store.get(key), undefined);
    assert.deepEqual(names(store), []);
    const bytes = new Uint8Array(10);
    assert.equal(await file.read(bytes), 10);
    assert.equal(new TextDecoder().decode(bytes), "still here");
  });
});

Deno.test("what is no key never reaches the file system", async () => {
  await withStore(async (store) => {
    await Deno.mkdir(join(store.root, "..", "victim"), { recursive: true });
    const refused = (error: unknown) =>
      error instanceof CloudletError && error.code === "invalid-input";
    for (const key of ["../victim", "..", ".", "", "a/b", ".x.lock", "a\0"]) {
      await assert.rejects(store.get(key), refused, key);
      await assert.rejects(store.remove(key), refused, key);
      await assert.rejects(store.getOrMake(key, () => Promise.resolve()), refused, key);
    }
    assert.ok((await Deno.stat(join(store.root, "..", "victim"))).isDirectory);
  });
});

Deno.test("only a damaged entry is removed, and what is in its place by then stays", async () => {
  await withStore(async (store) => {
    const read = (error: () => unknown) => store.read("key", () => Promise.reject(error()));
    const damaged = () => new DamagedEntry("the entry", "it is broken");
    assert.equal(await read(damaged), undefined); // there is none
    await store.getOrMake("key", () => Promise.resolve());
    assert.equal(await store.read("key", (path) => Promise.resolve(path)), store.root + "/key");
    // No descriptors are left, or no memory: that says nothing about the entry.
    for (const error of [new Error("EMFILE"), new CloudletError("Cannot", { code: "untrusted" })]) {
      await assert.rejects(read(() => error), error);
      assert.deepEqual(await store.keys(), ["key"]);
    }
    let tries = 0;
    const mended = await store.read("key", () => {
      if (++tries === 1) return Promise.reject(damaged());
      return Promise.resolve("mended");
    });
    assert.equal(mended, "mended");
    assert.deepEqual(await store.keys(), ["key"]);
    assert.equal(await read(damaged), undefined);
    assert.deepEqual(await store.keys(), []);
  });
});

Deno.test({
  name: "an entry that a power cut leaves is whole",
  ignore: Deno.uid() !== 0, // a file system has to be mounted
  fn: () =>
    acrossPowerLoss(async (disk) => {
      await new Store(join(disk, "kind")).getOrMake("key", async (directory) => {
        await Deno.mkdir(join(directory, "below"), { mode: 0o500 });
        await Deno.writeTextFile(join(directory, "content"), "all of it");
        await Deno.writeTextFile(join(directory, "below/secret"), "too", { mode: 0 });
        await Deno.symlink("/nowhere", join(directory, "link"));
      });
    }, async (disk) => {
      const path = await new Store(join(disk, "kind")).get("key");
      assert.equal(await Deno.readTextFile(join(path!, "content")), "all of it");
      assert.equal(await Deno.readTextFile(join(path!, "below/secret")), "too");
    }),
});
