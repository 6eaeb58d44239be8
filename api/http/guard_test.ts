/** Who may reach the management routes: real HTTP clients on the loopback network. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { request as httpRequest } from "node:http";
import { connect as http2Connect, constants } from "node:http2";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import grpc from "@grpc/grpc-js";
import { VmmService } from "../../proto/gen/vmmorchestrator/vmm_pb.ts";
import { type TestService, testService } from "../../test/service.ts";
import { makeGuard, ownNames } from "./guard.ts";
import { Keys, newKey } from "./keys.ts";

const SHUTDOWN = "/vmmorchestrator.VmmService/Shutdown";
const RUN = "/vmmorchestrator.VmmService/Run";

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly text: string;
}

type Fields = Readonly<Record<string, string>>;

/** One request over HTTP/1.1, with whatever fields; fetch would set some of them itself. */
function ask(port: number, method: string, path: string, headers: Fields): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: "127.0.0.1", port, method, path, headers, agent: false });
    request.on("error", reject);
    request.on("response", (response) => {
      let text = "";
      response.on("data", (chunk) => text += chunk);
      response.on("error", reject);
      response.on("end", () => {
        const { statusCode: status = 0, headers } = response;
        resolve({ status, headers: headers as Answer["headers"], text });
      });
    });
    request.end();
  });
}

/** The same over HTTP/2 with prior knowledge. */
async function ask2(port: number, headers: Fields): Promise<Answer> {
  const session = http2Connect(`http://127.0.0.1:${port}`);
  try {
    return await new Promise((resolve, reject) => {
      session.on("error", reject);
      const stream = session.request({ ":method": "POST", ...headers });
      let answer: Fields = {};
      let text = "";
      stream.on("error", reject);
      stream.on("response", (fields) => answer = fields as unknown as Fields);
      stream.on("data", (chunk) => text += chunk);
      stream.on("end", () => resolve({ status: Number(answer[":status"]), headers: answer, text }));
      stream.end();
    });
  } finally {
    session.destroy();
  }
}

/** What a browser says of where a request comes from; HOST is the server's own. */
const SOURCES: readonly (readonly [what: string, fields: Fields, served: boolean])[] = [
  ["no browser", {}, true],
  ["a page of the server", { origin: "http://HOST", "sec-fetch-site": "same-origin" }, true],
  ["the server's page in an old browser", { origin: "http://HOST" }, true],
  ["a page behind a proxy with TLS", { origin: "https://HOST" }, true],
  ["a person", { "sec-fetch-site": "none" }, true],
  ["another site", { origin: "http://evil.example", "sec-fetch-site": "cross-site" }, false],
  ["another site in an old browser", { origin: "http://evil.example" }, false],
  ["another site without its name", { "sec-fetch-site": "cross-site" }, false],
  ["a sandboxed frame", { origin: "null" }, false],
  ["a sandboxed frame of the server", { origin: "null", "sec-fetch-site": "same-origin" }, false],
  ["another port", { origin: "http://localhost:1", "sec-fetch-site": "same-site" }, false],
  ["another port without its name", { "sec-fetch-site": "same-site" }, false],
  ["the server as same-site", { origin: "http://HOST", "sec-fetch-site": "same-site" }, true],
  ["another name of this host", { origin: "http://127.0.0.1:PORT" }, false],
  ["a name that begins alike", { origin: "http://HOST.evil.example" }, false],
  ["what is no origin", { origin: "HOST" }, false],
  ["an extension", { origin: "chrome-extension://abc" }, false],
  ["an unknown value", { "sec-fetch-site": "elsewhere" }, false],
  ["the server with another scheme", { origin: "ftp://HOST" }, false],
  ["the server as another site", { origin: "http://HOST", "sec-fetch-site": "cross-site" }, false],
  ["one of two", { origin: "http://HOST, http://evil.example" }, false],
];

/** The fields for the server on `port`. */
function fieldsFor(port: number, fields: Fields): Fields {
  const own = `localhost:${port}`;
  return Object.fromEntries(
    Object.entries(fields).map((
      [name, value],
    ) => [name, value.replace("HOST", own).replace("PORT", String(port))]),
  );
}

Deno.test("a page of another origin changes nothing, on either port and by either version", async (t) => {
  await using test = await testService();
  const { api, vmm } = test.service;
  for (const [what, fields, served] of SOURCES) {
    await t.step(`${what} is ${served ? "served" : "refused"}`, async () => {
      const status = served ? 200 : 403;
      const host = `localhost:${api.port}`;
      const own = { ...fieldsFor(api.port, fields), host };
      for (const type of ["application/json", "text/plain"]) {
        const answer = await ask(api.port, "POST", "/shutdown", { ...own, "content-type": type });
        equal(answer.status, status, answer.text);
      }
      equal((await ask(api.port, "POST", SHUTDOWN, { ...own, ...PROTO })).status, status);
      equal((await ask(api.port, "DELETE", "/runs/x", own)).status, served ? 404 : 403);
      // What changes nothing stays readable for whom CORS lets read it.
      equal((await ask(api.port, "GET", "/runs", own)).status, 200);

      const rpc = { ...fieldsFor(vmm.port, fields), ...PROTO };
      const authority = `localhost:${vmm.port}`;
      const first = await ask(vmm.port, "POST", SHUTDOWN, { ...rpc, host: authority });
      equal(first.status, status, first.text);
      if (!served) match(JSON.parse(first.text).message, /page of another origin/);
      const second = await ask2(vmm.port, { ...rpc, ":path": SHUTDOWN, ":authority": authority });
      equal(second.status, status, second.text);
    });
  }
});

const PROTO = { "content-type": "application/proto" };

Deno.test("without keys, VmmService answers to its own names only", async (t) => {
  await using test = await testService();
  const { port } = test.service.vmm;
  for (
    const [host, status] of [
      [`localhost:${port}`, 200],
      [`LOCALHOST:${port}`, 200],
      [`127.0.0.1:${port}`, 200],
      [`[::1]:${port}`, 200],
      ["localhost", 200],
      [`evil.example:${port}`, 421],
      ["evil.example", 421],
      [`localhost.evil.example:${port}`, 421],
      [`evil.example@localhost:${port}`, 421],
      [`0.0.0.0:${port}`, 421],
    ] as const
  ) {
    await t.step(`${host} is answered with ${status}`, async () => {
      for (const path of [SHUTDOWN, RUN, "/nowhere"]) {
        if (path !== SHUTDOWN && status === 200) continue;
        equal((await ask(port, "POST", path, { host, ...PROTO })).status, status);
        if (host.includes("@")) continue; // the HTTP/2 library refuses it: RFC 9113 section 8.3.1
        const second = await ask2(port, { ":path": path, ":authority": host, ...PROTO });
        equal(second.status, status, second.text);
      }
    });
  }
  await t.step("and neither of two names may be another's", async () => {
    const names = { ":authority": `localhost:${port}`, host: "evil.example" };
    equal((await ask2(port, { ":path": SHUTDOWN, ...names, ...PROTO })).status, 421);
  });
});

Deno.test("the routes that need no key are no door for another origin's page either", async () => {
  const { line } = newKey("alice");
  await using test = await testService({ keys: new Keys([line]) });
  const { port } = test.service.api;
  const host = "service.example"; // with keys, any name will do
  const origin = "http://evil.example";
  equal((await ask(port, "POST", "/healthz", { host, origin })).status, 403);
  equal((await ask(port, "POST", "/shutdown", { host, origin })).status, 403);
  equal((await ask(port, "POST", "/shutdown", { host })).status, 401);
  equal((await ask(port, "GET", "/healthz", { host, origin })).status, 200);
});

Deno.test("heads that the clients here cannot send are judged as well", () => {
  const head = (authorities: string[], fields: Fields = {}, method = "POST") => ({
    method,
    path: "/x",
    authorities,
    field: (name: string) => fields[name],
  });
  const named = makeGuard({ hosts: ownNames("localhost") });
  named(head(["localhost:1"]));
  throws(() => named(head([])), { status: 421 });
  const unnamed = makeGuard({});
  const origin = "http://a.example";
  unnamed(head(["a.example", "a.example:80"], { origin }));
  throws(() => unnamed(head(["a.example", "b.example"], { origin })), { status: 403 });
  throws(() => unnamed(head([], { origin })), { status: 403 });
  const upgrade = { origin, upgrade: "websocket" };
  throws(() => unnamed(head(["b.example"], upgrade, "GET")), { status: 403 });
  unnamed(head(["b.example"], { origin }, "GET"));
  makeGuard({ hosts: ownNames("::1") })(head(["[::1]:1"]));
});

/** Sends the head of a request with a body of `length` bytes, and as much of it as is taken. */
async function pour(port: number, head: string, length: number) {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  await connection.write(
    new TextEncoder().encode(`${head}\r\ncontent-length: ${length}\r\n\r\n`),
  );
  let taken = 0;
  const chunk = new Uint8Array(65536);
  const pouring = (async () => {
    while (taken < length) taken += await connection.write(chunk);
  })().catch(() => {}); // the server closes
  let text = "";
  const buffer = new Uint8Array(65536);
  const decoder = new TextDecoder();
  try {
    for (let n = await connection.read(buffer); n !== null; n = await connection.read(buffer)) {
      text += decoder.decode(buffer.subarray(0, n));
    }
  } catch (error) {
    // A reset after the answer: the server closes with our bytes unread.
    if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
  }
  connection.close();
  await pouring;
  return { text, taken };
}

Deno.test({
  name: "the key is looked at before the body",
  async fn(t) {
    const { key, line } = newKey("alice");
    await using test = await testService({ keys: new Keys([line]), maxBody: 64 << 20 });
    const { port } = test.service.vmm;
    for (const [what, type] of [["unary", "proto"], ["of a stream", "connect+proto"]] as const) {
      await t.step(`a body ${what} is not read without a key`, async () => {
        const path = what === "unary" ? SHUTDOWN : RUN;
        const head = `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/${type}`;
        const { text, taken } = await pour(port, head, 64 << 20);
        match(text, /^HTTP\/1\.1 (401|200) /);
        match(text, /carries no API key/);
        ok(taken < 32 << 20, `${taken} bytes were taken`);
      });
    }
    await t.step("nor is it waited for", async () => {
      using connection = await Deno.connect({ hostname: "127.0.0.1", port });
      const head = `POST ${SHUTDOWN} HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\n` +
        `content-length: 1000\r\n\r\n`;
      await connection.write(new TextEncoder().encode(head));
      const buffer = new Uint8Array(1000);
      const timer = setTimeout(() => connection.close(), 30_000);
      const n = await connection.read(buffer).finally(() => clearTimeout(timer));
      match(new TextDecoder().decode(buffer.subarray(0, n ?? 0)), /^HTTP\/1\.1 401 /);
    });
    await t.step("over HTTP/2 neither", async () => {
      const session = http2Connect(`http://127.0.0.1:${port}`);
      try {
        const stream = session.request({
          ":method": "POST",
          ":path": SHUTDOWN,
          ":authority": "x",
          "content-type": "application/proto",
          "content-length": "1000",
        });
        const status = await new Promise((resolve, reject) => {
          stream.on("response", (fields) => resolve(fields[constants.HTTP2_HEADER_STATUS]));
          stream.on("error", reject);
          const timer = setTimeout(() => reject(new Error("no answer")), 30_000);
          stream.on("close", () => clearTimeout(timer));
        });
        equal(status, 401);
      } finally {
        session.destroy();
      }
    });
    await t.step("each protocol's client hears why", () => refusals(test, key));
  },
});

async function refusals({ service, vmmUrl }: TestService, key: string): Promise<void> {
  for (const httpVersion of ["1.1", "2"] as const) {
    const client = createClient(
      VmmService,
      createConnectTransport({ baseUrl: vmmUrl, httpVersion }),
    );
    const refused = { code: 16, message: /carries no API key/ };
    await rejects(client.shutdown({}), refused);
    await rejects(Array.fromAsync(client.run({})), refused);
    const headers = { authorization: `Bearer ${key}` };
    equal((await client.shutdown({}, { headers })).success, false);
  }
  const client = new grpc.Client(
    `localhost:${service.vmm.port}`,
    grpc.credentials.createInsecure(),
  );
  const same = (bytes: Buffer) => bytes;
  const call = (metadata: grpc.Metadata) =>
    new Promise<number | grpc.ServiceError>((resolve) =>
      client.makeUnaryRequest(
        ...[SHUTDOWN, same, same, Buffer.alloc(0), metadata] as const,
        (error: grpc.ServiceError | null) => resolve(error ?? 0),
      )
    );
  try {
    const refused = await call(new grpc.Metadata()) as grpc.ServiceError;
    equal(refused.code, grpc.status.UNAUTHENTICATED);
    match(refused.details, /carries no API key/);
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${key}`);
    deepEqual(await call(metadata), 0);
  } finally {
    client.close();
  }
}
