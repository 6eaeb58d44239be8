import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { connect as connectTcp, createServer } from "node:net";
import { NAME, PLACEHOLDER, VALUE, world } from "./testing.ts";

Deno.test("HTTP/2 streams both ways with the value, to its trailers", async () => {
  const { guest, seen, warnings, resources } = await world({ http2: true });
  await using _ = resources;
  const tls = await guest(NAME, undefined, ["h2"]);
  assert(tls);
  assert.equal(tls.alpnProtocol, "h2");
  const session = connectHttp2(`https://${NAME}`, { createConnection: () => tls });
  session.on("error", () => {});
  const start = (path: string, fields: Record<string, string> = {}): ClientHttp2Stream => {
    const stream = session.request({ ":method": "POST", ":path": path, te: "trailers", ...fields });
    stream.on("error", () => {});
    return stream;
  };
  const stream = start(`/svc/Talk?k=${PLACEHOLDER}`, { "x-key": PLACEHOLDER });
  const answered = once(stream, "response");
  const trailed = once(stream, "trailers");
  const closed = once(stream, "close");
  const words: string[] = [];
  stream.on("data", (piece) => words.push(String(piece)));
  stream.write("first ");
  const [head] = await answered;
  assert.equal(head[":status"], 200);
  assert.equal(head["x-echo"], PLACEHOLDER);
  while (!words.join("").includes("first")) await new Promise((go) => setTimeout(go, 5));
  stream.end(`then ${PLACEHOLDER}`);
  const [trailers] = await trailed;
  assert.equal(trailers["grpc-status"], "0");
  assert.equal(trailers["grpc-message"], PLACEHOLDER);
  await closed;
  assert.equal(words.join("").replaceAll("got ", ""), `first then ${PLACEHOLDER}`);
  const [request] = seen;
  assert.equal(request?.url, `/svc/Talk?k=${encodeURIComponent(VALUE)}`);
  assert.equal(request?.headers["x-key"], VALUE);
  assert.equal(request?.headers["te"], "trailers");
  assert.equal(request?.body.replace("|closed", ""), `first then ${VALUE}`);
  assert.deepEqual(warnings, []);

  // Whoever gives up, the other one hears of it.
  const left = start("/left");
  await once(left, "response");
  left.close(8);
  while (!seen[1]?.body.includes("closed")) await new Promise((go) => setTimeout(go, 5));
  const other = start("/x", { ":authority": "evil.example.com", "x-key": PLACEHOLDER });
  assert.equal((await once(other, "response"))[0][":status"], 421);
  const packed = start("/x", { "grpc-encoding": "gzip" });
  assert.equal((await once(packed, "response"))[0][":status"], 415);
  assert.equal((await once(start("/reset"), "response"))[0][":status"], 502);
  assert.equal(seen.length, 3);
  session.destroy();
});

Deno.test("curl's HTTP/2 reaches a server that has HTTP/1.1 only, and one that has both", async () => {
  for (const http2 of [false, true]) {
    const { proxy, authority, port, seen, resources } = await world({ http2 });
    await using _ = resources;
    // curl cannot say the stack's first line: a port that says it for curl.
    const front = createServer((socket) => {
      const inner = connectTcp(proxy.port, "127.0.0.1");
      inner.write(`${proxy.token} 127.0.0.1 ${port}\n`);
      for (const one of [inner, socket]) {
        one.on("error", () => {});
        one.on("close", () => [inner, socket].map((both) => both.destroy()));
      }
      socket.pipe(inner).pipe(socket);
    });
    front.listen(0, "127.0.0.1");
    await once(front, "listening");
    await Deno.writeTextFile(authority.path, authority.certificate);
    const { stdout } = await new Deno.Command("curl", {
      args: [
        ...[
          "-sS",
          "--http2",
          "--max-time",
          "20",
          "--cacert",
          authority.path,
          "-w",
          " %{http_version}",
        ],
        ...["--connect-to", `${NAME}:443:127.0.0.1:${(front.address() as { port: number }).port}`],
        ...["-H", `x-key: ${PLACEHOLDER}`, "-d", `a=${PLACEHOLDER}`, `https://${NAME}/v1`],
      ],
    }).output();
    assert.match(new TextDecoder().decode(stdout), new RegExp(`${PLACEHOLDER}.* 2$`, "s"));
    for (
      const [method, body] of [["GET", ""], ["HEAD", ""], ["DELETE", ""], ["DELETE", "x"], [
        "POST",
        "",
      ]]
    ) {
      const before = seen.length;
      const { stdout } = await new Deno.Command("curl", {
        args: [
          ...["-sS", "--http2", "--max-time", "20", "--cacert", authority.path],
          ...[
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
            ...(method === "HEAD" ? ["-I"] : ["-X", method!]),
          ],
          ...[
            "--connect-to",
            `${NAME}:443:127.0.0.1:${(front.address() as { port: number }).port}`,
          ],
          ...[
            "-H",
            `x-key: ${PLACEHOLDER}`,
            ...(body === "" ? [] : ["-d", body!]),
            `https://${NAME}/v1`,
          ],
        ],
      }).output();
      assert.equal(new TextDecoder().decode(stdout), "200", `${method} ${body}`);
      assert.equal(seen[before]?.method, method);
      assert.equal(seen[before]?.body.replace("|closed", ""), body);
    }
    assert.equal(seen[0]?.headers["x-key"], VALUE);
    assert.equal(seen[0]?.body.replace("|closed", ""), `a=${encodeURIComponent(VALUE)}`);
    front.close();
  }
});
