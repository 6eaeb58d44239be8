/** Transfers that break off or lead elsewhere. */
import assert from "node:assert/strict";
import { testDirectory } from "../archive/fixtures_test.ts";
import { fakeImage, pull, serveImage } from "./fixtures_test.ts";

const FILE = { name: "file", content: "content" };

Deno.test("a transfer that breaks off goes on where it ended, after the wait that was asked for", async () => {
  using directory = testDirectory();
  const noise = crypto.getRandomValues(new Uint8Array(60_000));
  const image = fakeImage([[{ name: "noise", content: noise }]]);
  const [id] = image.layers as [string];
  const bytes = image.blobs.get(id)!;
  const ranges: (string | null)[] = [];
  await using registry = serveImage(image, (request, path) => {
    if (!path.endsWith(id)) return undefined;
    ranges.push(request.headers.get("range"));
    if (ranges.length === 2) {
      return new Response(null, { status: 503, headers: { "retry-after": "0" } });
    }
    if (ranges.length > 1) return undefined;
    // promises all and sends half
    const half = new ReadableStream({
      start(controller) {
        controller.enqueue(bytes.subarray(0, 30_000));
        controller.close();
      },
    });
    return new Response(half);
  });
  const tree = await pull(registry.name, directory.path);
  assert.equal(tree.lookup("noise")?.type, "file");
  assert.deepEqual(ranges, [null, "bytes=30000-", "bytes=30000-"]);
});

Deno.test("one token serves all layers, and credentials do not follow a redirect elsewhere", async () => {
  using directory = testDirectory();
  const image = fakeImage([[FILE], [{ name: "two", content: "2" }], [{ name: "three" }]]);
  const elsewhere: (string | null)[] = [];
  await using store = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    elsewhere.push(request.headers.get("authorization"));
    return new Response(image.blobs.get(new URL(request.url).pathname.slice(1))!);
  });
  const asked: string[] = [];
  await using registry = serveImage(image, (request, path) => {
    if (path === "/v2/") return undefined;
    const url = new URL(request.url);
    const authorization = request.headers.get("authorization");
    if (path === "/token") {
      asked.push(`${authorization} ${url.searchParams}`);
      return new Response(JSON.stringify({ access_token: "abc" }));
    }
    if (authorization !== "Bearer abc") {
      const challenge =
        `Bearer realm="${url.origin}/token",service="here",scope="repository:x:pull"`;
      return new Response(null, { status: 401, headers: { "www-authenticate": challenge } });
    }
    if (!image.layers.some((layer) => path.endsWith(layer))) return undefined;
    const location = `http://127.0.0.1:${store.addr.port}/${path.split("/").at(-1)}`;
    return new Response(null, { status: 307, headers: { location } });
  });
  const tree = await pull(registry.name, directory.path, {
    credentials: () => Promise.resolve({ kind: "password", username: "me", password: "p:w" }),
  });
  assert.equal(tree.lookup("three")?.type, "file");
  const basic = `Basic ${btoa("me:p:w")}`;
  assert.deepEqual(asked, [`${basic} scope=repository%3Ax%3Apull&service=here`]);
  assert.deepEqual(elsewhere, [null, null, null]);
});
