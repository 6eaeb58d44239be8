import assert from "node:assert/strict";
import { join } from "node:path";
import { CloudletError } from "../base/errors.ts";
import { acrossPowerLoss } from "../base/power_loss_test.ts";
import { testDirectory } from "./archive/fixtures_test.ts";
import { fetchBytes } from "./fetch.ts";
import { fetchFile } from "./fetch_file.ts";
import { filesBelow, sha256 } from "./debian/fixtures_test.ts";

const code = (code: string) => (error: unknown) =>
  error instanceof CloudletError && error.code === code;

Deno.test("file: URLs are fetched, checked and resumed like others", async () => {
  using directory = testDirectory();
  const source = join(directory.path, "source");
  const bytes = new Uint8Array(300_000).map((_, i) => i * i >> 5);
  await Deno.writeFile(source, bytes);
  const url = `file://${source}`;
  const goal = join(directory.path, "cache/goal");
  const expected = { size: bytes.length, sha256: sha256(bytes) };
  await Deno.mkdir(join(directory.path, "cache"));
  await Deno.writeFile(`${goal}.part`, bytes.slice(0, 1000));
  let advanced = 0;
  assert.equal(await fetchFile(url, goal, expected, {}, (n) => advanced += n), true);
  assert.deepEqual(await Deno.readFile(goal), bytes);
  assert.equal(advanced, bytes.length);
  assert.deepEqual(await fetchBytes(url, bytes.length), bytes);
  assert.equal(await fetchBytes(`${url}.missing`, 1), undefined);
  await assert.rejects(fetchBytes(url, bytes.length - 1), code("untrusted"));
  const other = join(directory.path, "cache/other");
  await assert.rejects(
    fetchFile(url, other, { ...expected, sha256: sha256("else") }),
    code("untrusted"),
  );
  assert.equal(await fetchFile(`${url}.missing`, other, expected), false);
  assert.deepEqual(filesBelow(join(directory.path, "cache")), ["goal"]);
});

Deno.test("a proxy is asked in place of the server", async () => {
  const asked: string[] = [];
  await using proxy = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    asked.push(request.url);
    return new Response("through the proxy");
  });
  const bytes = await fetchBytes("http://mirror.invalid/debian/file", 100, {
    attempts: 1,
    proxy: () => `http://127.0.0.1:${proxy.addr.port}`,
  });
  assert.equal(new TextDecoder().decode(bytes), "through the proxy");
  assert.deepEqual(asked, ["http://mirror.invalid/debian/file"]);
});

Deno.test("a name that does not resolve is unavailable, with the URL in the error", async () => {
  const url = "http://mirror.invalid/debian/InRelease";
  await assert.rejects(
    fetchBytes(url, 100, { attempts: 2, backoff: 1 }),
    (error) => code("unavailable")(error) && (error as Error).message.includes(url),
  );
});

Deno.test("an abort before the start asks nobody", async () => {
  await assert.rejects(
    fetchBytes("http://mirror.invalid/x", 100, { signal: AbortSignal.abort() }),
    code("cancelled"),
  );
});

Deno.test({
  name: "a fetched file that a power cut leaves is whole",
  ignore: Deno.uid() !== 0, // a file system has to be mounted
  fn: async () => {
    using directory = testDirectory();
    const source = join(directory.path, "source");
    const bytes = crypto.getRandomValues(new Uint8Array(50_000));
    await Deno.writeFile(source, bytes);
    const expected = { size: bytes.length, sha256: sha256(bytes) };
    await acrossPowerLoss(async (disk) => {
      await fetchFile(`file://${source}`, join(disk, "goal"), expected);
    }, async (disk) => {
      assert.equal(sha256(await Deno.readFile(join(disk, "goal"))), expected.sha256);
    });
  },
});
