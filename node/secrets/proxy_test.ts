/** A guest's TLS, the proxy, and a server of this host behind TLS of its own. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer, type IncomingMessage } from "node:http";
import { connect as connectTcp, createServer } from "node:net";
import { connect as connectTls, TLSSocket } from "node:tls";
import { type HostSecret, parseRule } from "../network.ts";
import { settled } from "../../test/settled.ts";
import { Authority } from "./authority.ts";
import { SecretProxy } from "./proxy.ts";

const NAME = "api.example.com";
const VALUE = 'sk-live-"quoted"-0123456789';
const PLACEHOLDER = "cloudlet00000000000000000000000000";

const SECRET: HostSecret = {
  placeholder: PLACEHOLDER,
  value: VALUE,
  hosts: [parseRule(NAME, "allow").target],
};

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** Both ends, with the proxy in between. */
async function world(options: { readonly trusts?: boolean } = {}) {
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const upstream = await Authority.open(`${directory}/upstream`);
  const authority = await Authority.open(`${directory}/own`);
  const seen: Seen[] = [];
  const http = createHttpServer(async (request, response) => {
    if (request.url === "/compressed") {
      response.writeHead(200, { "content-encoding": "gzip" });
      return void response.end("not looked into");
    }
    if (request.url === "/endless") {
      response.on("close", () => seen.push({ method: "LEFT", url: "", headers: {}, body: "" }));
      const more = () => {
        while (response.write(new Uint8Array(65_536)));
      };
      response.on("drain", more);
      return more();
    }
    let body = "";
    for await (const part of request) body += part;
    const { method = "", url = "", headers } = request;
    seen.push({ method, url, headers, body });
    response.writeHead(200, { "x-echo": String(headers.authorization ?? "") });
    response.end(`you said ${body} with ${headers.authorization}`);
  });
  http.on("upgrade", (request, socket) => {
    seen.push({ method: "UPGRADE", url: request.url ?? "", headers: request.headers, body: "" });
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    socket.on("data", (data) => socket.write(String(data).toUpperCase()));
  });
  const context = await upstream.contextOf(NAME);
  const sockets = new Set<{ destroy(): void }>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const tls = new TLSSocket(socket, { isServer: true, secureContext: context });
    tls.on("secure", () => http.emit("connection", tls));
    tls.on("error", () => socket.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const warnings: string[] = [];
  const proxy = stack.use(
    await SecretProxy.open({
      secrets: [SECRET],
      authority,
      trusted: options.trusts === false ? undefined : [upstream.certificate],
      warn: (message) => warnings.push(message),
    }),
  );
  const { port } = server.address() as { port: number };
  /** A guest's connection; undefined when it comes to nothing. */
  const guest = async (name = NAME, token = proxy.token) => {
    const socket = connectTcp(proxy.port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(`${token} 127.0.0.1 ${port}\n`);
    const tls = connectTls({ socket, servername: name, ca: [authority.certificate] });
    tls.on("error", () => {});
    const secure = await Promise.race([
      once(tls, "secureConnect").then(() => true, () => false),
      once(socket, "close").then(() => false),
    ]);
    return secure ? tls : undefined;
  };
  /** Sends a request as text; returns the whole answer. */
  const ask = async (...lines: string[]) => {
    const tls = await guest();
    assert(tls);
    tls.write(lines.join("\r\n"));
    let text = "";
    tls.on("data", (data) => text += data);
    await Promise.race([once(tls, "end"), once(tls, "close")]);
    tls.destroy();
    return text;
  };
  return { proxy, guest, ask, seen, warnings, resources: stack.move() };
}

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
