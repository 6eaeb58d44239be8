/** A real server of this host, whose answers are kept. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { concatBytes } from "../../base/bytes.ts";
import { outgoing } from "../interception/request.ts";
import { Upstream } from "../interception/upstream.ts";
import { Downloads } from "./downloads.ts";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

async function world(handler: Handler) {
  await using stack = new AsyncDisposableStack();
  const root = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  stack.defer(() => Deno.remove(root, { recursive: true }));
  const server = createServer(handler);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const upstream = stack.use(new Upstream(16, undefined));
  const downloads = new Downloads(root);
  const get = async (path: string, headers: Record<string, string> = {}, kept = downloads) => {
    const asked = outgoing({ method: "GET", url: path, headers }, "h", []);
    const url = `http://127.0.0.1:${port} h ${path}`;
    const answer = await kept.get({ url, headers: asked.headers }, async (headers) => {
      const to = { address: "127.0.0.1", port, name: undefined };
      const exchange = await upstream.ask(to, { ...asked, headers }, false, false);
      exchange.body.end();
      return await exchange.answer;
    });
    const body = concatBytes(await Array.fromAsync(answer.body));
    return { status: answer.status, text: new TextDecoder().decode(body), headers: answer.headers };
  };
  return { get, downloads, root, resources: stack.move() };
}

const contents = (root: string) =>
  [...Deno.readDirSync(`${root}/content`)].map(({ name }) => name).filter((name) =>
    !name.startsWith(".")
  );

Deno.test("what a server says may be kept is fetched once, by whomever it is asked for", async () => {
  let asked = 0;
  const { get, downloads, root, resources } = await world((_, response) => {
    asked++;
    response.writeHead(200, { "cache-control": "public, max-age=600", "x-server": "one" });
    response.end("archive");
  });
  await using _ = resources;
  assert.equal((await get("/a.whl")).text, "archive");
  const again = await get("/a.whl", { "user-agent": "another" }, new Downloads(root));
  assert.equal(again.text, "archive");
  assert.equal(again.headers["x-server"], "one");
  assert.equal(asked, 1);
  assert.equal((await get("/b.whl")).text, "archive");
  assert.equal(asked, 2);
  assert.equal(contents(root).length, 1, "the same content is there once");
  assert.deepEqual(downloads.counts, { kept: 0, fetched: 2 });
});

Deno.test("what is not fresh is used when the server says that it is the same", async () => {
  let [version, full, unchanged] = ["1", 0, 0];
  const { get, resources } = await world((request, response) => {
    const etag = `"${version}"`;
    if (request.headers["if-none-match"] === etag) {
      unchanged++;
      return void response.writeHead(304, { etag }).end();
    }
    full++;
    response.writeHead(200, { etag, "cache-control": "no-cache" }).end(`index ${version}`);
  });
  await using _ = resources;
  assert.equal((await get("/simple/")).text, "index 1");
  assert.equal((await get("/simple/")).text, "index 1");
  version = "2";
  assert.equal((await get("/simple/")).text, "index 2");
  assert.equal((await get("/simple/")).text, "index 2");
  assert.deepEqual([full, unchanged], [2, 2]);
});

Deno.test("what is for one client, failed, or came in part is not kept", async () => {
  let asked = 0;
  const { get, root, resources } = await world((request, response) => {
    asked++;
    const fresh = { "cache-control": "max-age=600" };
    switch (request.url) {
      case "/private":
        return void response.writeHead(200, { "cache-control": "private, max-age=600" }).end("x");
      case "/cookie":
        return void response.writeHead(200, { ...fresh, "set-cookie": "a=b" }).end("x");
      case "/unsaid":
        return void response.writeHead(200).end("x");
      case "/missing":
        return void response.writeHead(404, fresh).end("x");
      case "/cut":
        response.writeHead(200, { ...fresh, "content-length": "10" });
        response.write("half");
        return void setTimeout(() => response.destroy(), 50);
      default:
        return void response.writeHead(200, fresh).end("x");
    }
  });
  await using _ = resources;
  for (const path of ["/private", "/cookie", "/unsaid", "/missing"]) {
    await get(path);
    await get(path);
  }
  for (let i = 0; i < 2; i++) await get("/mine", { authorization: "Bearer x" });
  for (let i = 0; i < 2; i++) await assert.rejects(() => get("/cut"));
  assert.equal(asked, 12);
  assert.deepEqual(contents(root), []);
});

Deno.test("what was damaged or removed is fetched anew", async () => {
  let asked = 0;
  const { get, root, resources } = await world((_, response) => {
    asked++;
    response.writeHead(200, { "cache-control": "max-age=600" }).end("archive");
  });
  await using _ = resources;
  await get("/a");
  const path = `${root}/content/${contents(root)[0]}`;
  for (
    const damage of [
      () => Deno.writeTextFile(path, "arch1ve"),
      () => Deno.truncate(path, 2),
      () => Deno.remove(path),
      async () => {
        for (const { name } of Deno.readDirSync(`${root}/answers`)) {
          await Deno.writeTextFile(`${root}/answers/${name}`, "{");
        }
      },
    ]
  ) {
    const before = asked;
    await damage();
    assert.equal((await get("/a")).text, "archive");
    assert.equal(asked, before + 1);
    assert.equal((await get("/a")).text, "archive");
    assert.equal(asked, before + 1);
  }
});

Deno.test("many at once get whole answers, and a disk that takes nothing keeps nothing", async () => {
  const text = "x".repeat(100_000);
  const { get, root, resources } = await world((_, response) => {
    response.writeHead(200, { "cache-control": "max-age=600" }).end(text);
  });
  await using _ = resources;
  const all = await Promise.all(Array.from({ length: 20 }, () => get("/a")));
  assert(all.every((answer) => answer.text === text));
  assert.equal(contents(root).length, 1);
  const full = `${root}/full`;
  await Deno.mkdir(full);
  await Deno.writeTextFile(`${full}/content`, "a file in the way");
  assert.equal((await get("/a", {}, new Downloads(full))).text, text);
});
