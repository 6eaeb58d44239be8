import assert from "node:assert/strict";
import { once } from "node:events";
import { settled } from "../../test/settled.ts";
import { createServer as createHttpServer } from "node:http";
import { connect as connectTcp, createServer } from "node:net";
import { Downloads } from "../downloads/downloads.ts";
import { Authority } from "./authority.ts";
import { NAME, PLACEHOLDER, VALUE, world } from "./testing.ts";

Deno.test("the server gets the value, and the guest its placeholder, wherever they stand", async () => {
  const { ask, seen, warnings, resources } = await world();
  await using _ = resources;
  const json = `{"key":"${PLACEHOLDER}"}`;
  const answer = await ask(
    `POST /v1?key=${PLACEHOLDER}&x=1 HTTP/1.1`,
    `Host: ${NAME}`,
    `Authorization: Bearer ${PLACEHOLDER}`,
    `X-Basic: Basic ${btoa(`user:${PLACEHOLDER}`)}`,
    "Content-Type: application/json",
    `Content-Length: ${json.length}`,
    "Connection: close",
    "",
    json,
  );
  const [request] = seen;
  assert(request);
  assert.equal(request.url, `/v1?key=${encodeURIComponent(VALUE)}&x=1`);
  assert.equal(request.headers.authorization, `Bearer ${VALUE}`);
  assert.equal(request.headers["x-basic"], `Basic ${btoa(`user:${VALUE}`)}`);
  assert.deepEqual(JSON.parse(request.body), { key: VALUE });
  assert.equal(request.headers.host, NAME);
  assert(!answer.includes(VALUE) && !answer.includes("0123456789"), answer);
  assert.match(answer, new RegExp(`x-echo: Bearer ${PLACEHOLDER}`, "i"));
  assert(answer.includes(`with Bearer ${PLACEHOLDER}`), answer);
  assert.deepEqual(warnings, []);
});

Deno.test("a body that comes in pieces without a length is replaced across them", async () => {
  const { ask, seen, resources } = await world();
  await using _ = resources;
  const half = PLACEHOLDER.length >> 1;
  const pieces = [`token=${PLACEHOLDER.slice(0, half)}`, `${PLACEHOLDER.slice(half)}&y=2`];
  const chunks = pieces.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`).join("");
  await ask(
    "POST / HTTP/1.1",
    `Host: ${NAME}:443`,
    "Content-Type: application/x-www-form-urlencoded",
    "Transfer-Encoding: chunked",
    "Connection: close",
    "",
    `${chunks}0\r\n\r\n`,
  );
  assert.equal(seen[0]?.body, `token=${encodeURIComponent(VALUE)}&y=2`);
});

Deno.test("what cannot be done is refused, and the server hears nothing of it", async () => {
  const { ask, guest, seen, warnings, resources } = await world();
  await using _ = resources;
  const gzip = await ask(
    ...["POST / HTTP/1.1", `Host: ${NAME}`, "Content-Encoding: gzip", "Content-Length: 1"],
    ...["Connection: close", "", "x"],
  );
  assert.match(gzip, /^HTTP\/1\.1 415 /);
  assert.match(warnings[0] ?? "", /its encoding is gzip/);
  const other = await ask(
    ...[
      "GET / HTTP/1.1",
      "Host: evil.example.com",
      `X: ${PLACEHOLDER}`,
      "Connection: close",
      "",
      "",
    ],
  );
  assert.match(other, /^HTTP\/1\.1 421 /);
  assert.equal(await guest("evil.example.com"), undefined, "it has no such secret");
  assert.equal(await guest(NAME, "0".repeat(64)), undefined, "only the guest's stack may connect");
  assert.deepEqual(seen, []);
});

Deno.test("a server whose certificate is not trusted gets no secret", async () => {
  const { ask, seen, warnings, resources } = await world({ trusts: false });
  await using _ = resources;
  const answer = await ask(
    ...["GET / HTTP/1.1", `Host: ${NAME}`, `X: ${PLACEHOLDER}`, "Connection: close", "", ""],
  );
  assert.match(answer, /^HTTP\/1\.1 502 /);
  assert.match(warnings[0] ?? "", /could not be reached/);
  assert.deepEqual(seen, []);
});

Deno.test("a WebSocket begins with the value, and goes on as it is", async () => {
  const { guest, seen, resources } = await world();
  await using _ = resources;
  const tls = await guest();
  assert(tls);
  tls.write(
    `GET /live HTTP/1.1\r\nHost: ${NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Authorization: Bearer ${PLACEHOLDER}\r\n\r\n`,
  );
  const [head] = await once(tls, "data");
  assert.match(String(head), /^HTTP\/1\.1 101 /);
  tls.write("hello");
  const [echo] = await once(tls, "data");
  assert.equal(String(echo), "HELLO");
  assert.equal(seen[0]?.headers.authorization, `Bearer ${VALUE}`);
  tls.destroy();
});

Deno.test("an answer that cannot be looked into is not passed on", async () => {
  const { ask, resources } = await world();
  await using _ = resources;
  const answer = await ask(
    ...["GET /compressed HTTP/1.1", `Host: ${NAME}`, "Connection: close", "", ""],
  );
  assert.match(answer, /^HTTP\/1\.1 502 /);
  assert(answer.includes("the encoding gzip"), answer);
});

Deno.test("a guest that leaves in the middle of an answer ends it, and a WebSocket has one host", async () => {
  const { guest, seen, resources } = await world();
  await using _ = resources;
  const tls = await guest();
  assert(tls);
  tls.write(`GET /endless HTTP/1.1\r\nHost: ${NAME}\r\n\r\n`);
  await once(tls, "data");
  tls.destroy();
  for (let i = 0; i < 500 && seen.length === 0; i++) await new Promise((go) => setTimeout(go, 10));
  assert.equal(seen[0]?.method, "LEFT");
  const other = await guest();
  assert(other);
  const closed = once(other, "close");
  other.write(
    `GET / HTTP/1.1\r\nHost: evil.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
  );
  other.resume();
  await settled(closed);
  assert.equal(seen.length, 1);
});

Deno.test("the authority is made once, is nobody else's to read, and signs names", async () => {
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  const first = await Authority.open(directory);
  const second = await Authority.open(directory);
  assert.equal(first.certificate, second.certificate);
  const { mode } = await Deno.stat(`${directory}/network-authority.pem`);
  assert.equal(mode! & 0o077, 0);
  const path = `${directory}/certificate.pem`;
  await Deno.writeTextFile(path, first.certificate);
  const { stdout } = await new Deno.Command("openssl", {
    args: ["x509", "-in", path, "-noout", "-text"],
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.match(text, /CA:TRUE, pathlen:0/);
  assert.match(text, /Certificate Sign/);
  assert.match(text, /Subject Key Identifier/);
  await Deno.remove(directory, { recursive: true });
});

Deno.test("where downloads are kept, TLS of any host, plain HTTP and whatever else there is go through", async () => {
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  const { proxy, guest, warnings, port, resources } = await world({
    downloads: new Downloads(directory),
  });
  await using _ = resources;
  // TLS with a host that has no secret: its certificate is checked here, and ours by the guest.
  const tls = await guest();
  assert(tls);
  tls.write(`GET /plain HTTP/1.1\r\nHost: ${NAME}\r\nConnection: close\r\n\r\n`);
  let text = "";
  tls.on("data", (data) => text += data);
  await once(tls, "close");
  assert.match(text, /^HTTP\/1\.1 200 /);

  let asked = 0;
  const server = createHttpServer((_, response) => {
    asked++;
    response.writeHead(200, { "cache-control": "max-age=60" }).end("archive");
  });
  const echo = createServer((socket) => {
    socket.write("220 hello\n");
    socket.pipe(socket);
  });
  for (const one of [server, echo]) {
    one.listen(0, "127.0.0.1");
    await once(one, "listening");
  }
  const portOf = (one: typeof server | typeof echo) => (one.address() as { port: number }).port;
  const through = async (to: number, first: string) => {
    const socket = connectTcp(proxy.port, "127.0.0.1");
    socket.write(`${proxy.token} 127.0.0.1 ${to}\n${first}`);
    let got = "";
    for await (const piece of socket) {
      got += piece;
      if (got.endsWith("0\r\n\r\n") || got.endsWith("quit\n") || got.includes("502")) break;
    }
    socket.destroy();
    return got;
  };
  const request = "GET /a.whl HTTP/1.1\r\nHost: registry:1234\r\n\r\n";
  for (let i = 0; i < 2; i++) assert.match(await through(portOf(server), request), /archive/);
  assert.equal(asked, 1);
  const mine = request.replace("\r\n\r\n", "\r\nAuthorization: Bearer x\r\n\r\n");
  for (let i = 0; i < 2; i++) assert.match(await through(portOf(server), mine), /archive/);
  assert.equal(asked, 3);
  assert.equal(await through(portOf(echo), "quit\n"), "220 hello\nquit\n");
  const upgrade = request.replace(
    "\r\n\r\n",
    "\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
  );
  assert.match(await through(portOf(server), upgrade), /^HTTP\/1\.1 200 [^]*archive/);
  const socket = request.replace(
    "\r\n\r\n",
    "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
  );
  assert.match(
    await through(portOf(server), socket),
    /^HTTP\/1\.1 200 [^]*connection: close[^]*archive/i,
  );
  const silent = connectTcp(proxy.port, "127.0.0.1");
  silent.write(`${proxy.token} 127.0.0.1 ${portOf(echo)}\n`);
  assert.equal(String((await once(silent, "data"))[0]), "220 hello\n");
  silent.destroy();
  const closed = portOf(echo);
  echo.close();
  await once(echo, "close");
  assert.match(await through(closed, request), /^HTTP\/1\.1 502 /);
  assert.match(warnings.at(-1) ?? "", /^registry:1234 could not be reached: /);
  assert(port > 0);
  server.close();
  await Deno.remove(directory, { recursive: true });
});
