import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { dialGuest } from "../agent/client/dial.ts";
import { GuestPorts } from "../test/guest_ports.ts";
import { settled } from "../test/settled.ts";
import { ListeningPort } from "./published_port.ts";

const forever = new AbortController().signal;

/** A server of the "guest", which is this host. */
async function serve(
  onClient: (client: Socket) => void,
): Promise<AsyncDisposable & { port: number }> {
  const clients = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (client) => {
    clients.add(client);
    client.on("error", () => {});
    onClient(client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  return {
    port,
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

async function published(guestPort: number, socket: string, onUnanswered = () => {}) {
  return await ListeningPort.open({ address: "127.0.0.1", port: 0, guestPort }, {
    socket,
    onUnanswered,
  });
}

async function collect(client: Socket): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  client.on("data", (part) => parts.push(part as Uint8Array)); // to iterate a socket is to destroy it at its end
  await once(client, "end");
  return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
}

const bytes = Uint8Array.from({ length: 3_000_000 }, (_, i) => i * 7 + (i >> 8));

Deno.test("bytes go both ways through a published port, each with its end", async () => {
  await using guest = new GuestPorts();
  await using server = await serve(async (client) => {
    const got = await collect(client); // the client's end comes first, and the answer after it
    client.end(got);
  });
  await using port = await published(server.port, guest.socket);
  const clients = Array.from({ length: 20 }, async () => {
    const client = connect({ port: port.published.port, host: "127.0.0.1", allowHalfOpen: true });
    client.end(bytes);
    assert.deepEqual(await collect(client), bytes);
  });
  await Promise.all(clients);
});

Deno.test("a server that speaks first is heard by a client that says nothing", async () => {
  await using guest = new GuestPorts();
  await using server = await serve((client) => client.write("220 smtp.example\r\n"));
  await using port = await published(server.port, guest.socket);
  const client = connect(port.published.port, "127.0.0.1");
  const [banner] = await once(client, "data");
  assert.equal(String(banner), "220 smtp.example\r\n");
  client.destroy();
});

Deno.test("where nobody listens the client is reset, and that is told", async () => {
  await using guest = new GuestPorts();
  let port: number;
  {
    await using server = await serve(() => {});
    port = server.port;
  }
  let unanswered = 0;
  await using listening = await published(port, guest.socket, () => unanswered++);
  const client = connect(listening.published.port, "127.0.0.1");
  const [error] = await once(client, "error");
  assert.equal((error as { code?: string }).code, "ECONNRESET");
  assert.equal(unanswered, 1);
  await assert.rejects(dialGuest(guest.socket, port, forever), /Connection refused/);
});

Deno.test("a reset of either side is the end of the other", async () => {
  await using guest = new GuestPorts();
  const gone = Promise.withResolvers<void>();
  await using server = await serve((client) => {
    client.on("end", () => gone.resolve());
    client.on("data", (text) => {
      if (String(text) === "reset") client.resetAndDestroy();
    });
  });
  await using port = await published(server.port, guest.socket);
  const first = connect(port.published.port, "127.0.0.1");
  first.on("error", () => {});
  const closed = once(first, "close");
  first.resume();
  first.write("reset");
  await closed;
  const second = connect(port.published.port, "127.0.0.1");
  await once(second, "connect");
  second.write("stay");
  second.resetAndDestroy();
  await gone.promise;
});

Deno.test("a reader that takes nothing stops the server, and costs no memory", async () => {
  await using guest = new GuestPorts();
  let sent = 0;
  const stopped = Promise.withResolvers<void>();
  await using server = await serve((client) => {
    const piece = new Uint8Array(1 << 20);
    const more = () => {
      sent += piece.length;
      if (sent > 256 << 20) stopped.reject(new Error("nothing stops it"));
      else if (client.write(piece)) more();
    };
    client.on("drain", more);
    more();
  });
  await using port = await published(server.port, guest.socket);
  const client = connect(port.published.port, "127.0.0.1");
  client.pause();
  let last = -1;
  const timer = setInterval(() => {
    if (last === sent) stopped.resolve();
    last = sent;
  }, 500);
  await stopped.promise.finally(() => clearInterval(timer));
  client.destroy();
});

Deno.test("a port that is taken is an error that names it", async () => {
  await using guest = new GuestPorts();
  await using port = await published(1, guest.socket);
  await assert.rejects(
    ListeningPort.open({ ...port.published }, { socket: guest.socket, onUnanswered() {} }),
    new RegExp(`127\\.0\\.0\\.1:${port.published.port}: it is taken`),
  );
});

Deno.test("the end of a port is the end of its clients", async () => {
  await using guest = new GuestPorts();
  await using server = await serve((client) => client.write("x"));
  const port = await published(server.port, guest.socket);
  const client = connect(port.published.port, "127.0.0.1");
  await once(client, "data");
  const closed = once(client, "close").catch(() => {});
  client.on("error", () => {});
  await settled(port[Symbol.asyncDispose]());
  await settled(closed);
});

Deno.test("what names no port is told so, and nothing is dialled", async () => {
  await using guest = new GuestPorts();
  for (const port of [0, 65536, NaN]) {
    await assert.rejects(dialGuest(guest.socket, port, forever), /no port was named/, String(port));
  }
});

Deno.test("an agent that is silent is given up on request", async () => {
  const directory = await Deno.makeTempDir();
  const listener = Deno.listen({ transport: "unix", path: `${directory}/vsock` });
  const giveUp = new AbortController();
  const dialled = dialGuest(`${directory}/vsock`, 80, giveUp.signal);
  using silent = await listener.accept();
  giveUp.abort(new Error("enough"));
  await assert.rejects(dialled, /enough/);
  assert.equal(silent.localAddr.transport, "unix");
  listener.close();
  await Deno.remove(directory, { recursive: true });
});
