/** Against what OpenSSL's and Deno's own clients send. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { helloName, MOST_HELLO } from "./tls_hello.ts";

/** The first bytes that a client sends to a server that never answers. */
async function firstBytes(connect: (port: number) => Promise<unknown>): Promise<Uint8Array> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const client = connect(listener.addr.port).catch(() => {});
  const connection = await listener.accept();
  const buffer = new Uint8Array(MOST_HELLO);
  let size = 0;
  while (helloName(buffer.subarray(0, size)).kind === "more") {
    size += await connection.read(buffer.subarray(size)) ?? assert.fail("it left");
  }
  connection.close();
  await client;
  return buffer.slice(0, size);
}

async function fetchHello(name: string): Promise<Uint8Array> {
  return await firstBytes(async (port) => {
    await using client = await Deno.connect({ hostname: "127.0.0.1", port });
    await Deno.startTls(client, { hostname: name }).then((tls) => tls.handshake());
  });
}

Deno.test("the name in the hello of Deno's client is found, however it is cut into records", async () => {
  const hello = await fetchHello("api.example.com");
  assert.deepEqual(helloName(hello), { kind: "name", name: "api.example.com" });
  for (let i = 0; i < hello.length; i++) {
    assert.equal(helloName(hello.subarray(0, i)).kind, "more", `${i} bytes`);
  }
  const content = hello.subarray(5);
  fc.assert(fc.property(fc.integer({ min: 1, max: content.length - 1 }), (at) => {
    const record = (
      bytes: Uint8Array,
    ) => [22, 3, 1, bytes.length >> 8, bytes.length & 255, ...bytes];
    const two = Uint8Array.of(...record(content.subarray(0, at)), ...record(content.subarray(at)));
    assert.deepEqual(helloName(two), { kind: "name", name: "api.example.com" });
  }));
});

Deno.test("what is no hello is told at once; damage never throws", async () => {
  for (const text of ["GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n", "\x16\x04\x01\x00\x05", "\x00"]) {
    assert.equal(helloName(new TextEncoder().encode(text)).kind, "other", text);
  }
  assert.equal(helloName(new Uint8Array()).kind, "more");
  const hello = await fetchHello("a.example");
  fc.assert(
    fc.property(fc.nat(hello.length - 1), fc.nat(255), (at, value) => {
      const damaged = hello.slice();
      damaged[at] = value;
      const found = helloName(damaged);
      if (found.kind === "name") assert.match(found.name, /^[\x21-\x7e]{1,255}$/);
    }),
    { numRuns: 2000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    helloName(Uint8Array.of(22, 3, 1, 0, bytes.length, ...bytes));
  }));
});
