import assert from "node:assert/strict";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { connectAgent, connectVsock, KEEP_ALIVE, listenForReady } from "./client.ts";
import { collect, startAgent } from "../harness_test.ts";
import { READY_PORT } from "../../workload/vsock_ports.ts";
import { ExecuteRequest_Action as Action } from "../../proto/gen/cloudlet/agent/agent_pb.ts";

/** A listener on a Unix socket that is removed with it. */
async function withSocket(
  serve: (connection: Deno.Conn) => Promise<void>,
  test: (path: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "socket");
  const listener = Deno.listen({ transport: "unix", path });
  const open = new Set<Promise<void>>();
  const accepting = (async () => {
    for await (const connection of listener) {
      open.add(
        serve(connection).catch(() => {}).finally(() => {
          try {
            connection.close();
          } catch {
            // closed already
          }
        }),
      );
    }
  })();
  try {
    await test(path);
  } finally {
    listener.close();
    await accepting.catch(() => {});
    await Promise.all(open);
    await Deno.remove(directory, { recursive: true });
  }
}

/** Answers every request with the same bytes, then closes. */
function answering(bytes: Uint8Array): (connection: Deno.Conn) => Promise<void> {
  return async (connection) => {
    await connection.read(new Uint8Array(65536));
    for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
  };
}

const encoder = new TextEncoder();
const HEAD = "HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\n";

Deno.test("answers that are not HTTP end the call with an error", async () => {
  const answers = [
    "",
    "\r\n",
    "HTTP/1.1 20",
    "HTTP/2 200 OK\r\n\r\n",
    "HTTP/1.1 999 X\r\n\r\n",
    `${HEAD}no colon\r\n\r\n`,
    `${HEAD}x: ${"y".repeat(70_000)}\r\n\r\n`,
    `${HEAD}content-length: -1\r\n\r\n`,
    `${HEAD}content-length: 5\r\n\r\nabc`,
    `${HEAD}transfer-encoding: chunked\r\n\r\nfffffffff\r\n`,
    `${HEAD}transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n`,
    `${HEAD}transfer-encoding: chunked\r\n\r\n${"0".repeat(300)}\r\n\r\n`,
    `${HEAD}transfer-encoding: chunked\r\n\r\n5\r\nabc`,
    `${HEAD}transfer-encoding: chunked\r\n\r\n0\r\n`,
  ];
  for (const answer of answers) {
    await withSocket(answering(encoder.encode(answer)), async (unixPath) => {
      const agent = connectAgent({ unixPath, vsockPort: undefined });
      await assert.rejects(agent.info({}), ConnectError, JSON.stringify(answer.slice(0, 80)));
    });
  }
});

Deno.test("no bytes that an agent answers crash or stall its client", async () => {
  const piece = fc.oneof(
    fc.constantFrom("HTTP/1.1 200 OK\r\n", HEAD, "transfer-encoding: chunked\r\n", "\r\n", "5\r\n"),
    fc.constantFrom(
      "content-type: application/connect+proto\r\n",
      "content-length: 7\r\n",
      "0\r\n",
    ),
    fc.string({ maxLength: 20 }),
  ).map((text) => encoder.encode(text));
  const bytes = fc.array(fc.oneof(piece, fc.uint8Array({ maxLength: 20 })), { maxLength: 10 }).map(
    (parts) => Uint8Array.from(parts.flatMap((part) => [...part])),
  );
  await fc.assert(
    fc.asyncProperty(bytes, async (answer) => {
      await withSocket(answering(answer), async (unixPath) => {
        const agent = connectAgent({ unixPath, vsockPort: undefined });
        const calls = [
          agent.info({}),
          collect(agent.execute({ language: "bash", action: Action.PREPARE_AND_RUN })),
        ];
        for (const { reason } of await Promise.allSettled(calls) as { reason?: unknown }[]) {
          if (reason !== undefined) assert(reason instanceof ConnectError, String(reason));
        }
      });
    }),
    { numRuns: 60 },
  );
});

Deno.test("calls reach an agent behind a vsock device's socket", async () => {
  await using agent = await startAgent();
  const device = async (connection: Deno.Conn) => {
    const line = new Uint8Array(64);
    const length = await connection.read(line);
    assert.equal(new TextDecoder().decode(line.subarray(0, length ?? 0)), "CONNECT 77\n");
    using inside = await Deno.connect({ transport: "unix", path: agent.socket });
    // byte by byte: what follows the line must not be lost
    for (const byte of encoder.encode("OK 1073741824\n")) {
      await connection.write(Uint8Array.of(byte));
    }
    await Promise.all([
      connection.readable.pipeTo(inside.writable, { preventCancel: true }),
      inside.readable.pipeTo(connection.writable, { preventCancel: true }),
    ]);
  };
  await withSocket(device, async (unixPath) => {
    const client = connectAgent({ unixPath, vsockPort: 77 });
    const { out } = await collect(client.execute({
      language: "bash",
      code: "echo through",
      action: Action.PREPARE_AND_RUN,
    }));
    assert.equal(out, "through\n");
  });
});

Deno.test("a call leaves its connection to the next one if that is asked for, for a second", async () => {
  await using agent = await startAgent();
  const ends: Promise<void>[] = [];
  const proxy = async (connection: Deno.Conn) => {
    using inside = await Deno.connect({ transport: "unix", path: agent.socket });
    const end = connection.readable.pipeTo(inside.writable, { preventCancel: true });
    ends.push(end.catch(() => {}));
    await Promise.all([
      end,
      inside.readable.pipeTo(connection.writable, { preventCancel: true }),
    ]);
  };
  await withSocket(proxy, async (unixPath) => {
    const client = connectAgent({ unixPath, vsockPort: undefined });
    await client.info({}, KEEP_ALIVE);
    const run = { language: "bash", code: "echo once more", action: Action.PREPARE_AND_RUN };
    assert.equal((await collect(client.execute(run))).out, "once more\n");
    assert.equal(ends.length, 1);
    await client.info({}, KEEP_ALIVE); // the call before did not leave it
    await Promise.all([client.info({}), client.info({})]); // one has it
    assert.equal(ends.length, 3);
    await client.info({}, KEEP_ALIVE);
    assert.equal(ends.length, 4);
    await Promise.all(ends); // nobody wants the last one
    await client.info({});
    assert.equal(ends.length, 5);
  });
});

Deno.test("a connection is left to no other call when the agent closes it or says too much", async () => {
  const nothing = `${HEAD}content-length: 0\r\n`;
  const answers = [`${nothing}connection: close\r\n\r\n`, `${nothing}\r\nmore`, `${HEAD}\r\n`];
  for (const answer of answers) {
    let connections = 0;
    const serve = async (connection: Deno.Conn) => {
      connections++;
      await answering(encoder.encode(answer))(connection);
    };
    await withSocket(serve, async (unixPath) => {
      const agent = connectAgent({ unixPath, vsockPort: undefined });
      for (let i = 0; i < 2; i++) await agent.info({}, KEEP_ALIVE);
      assert.equal(connections, 2, answer);
    });
  }
});

Deno.test("a port where nobody listens is told as unavailable", async () => {
  for (const answer of ["", "NO\n", "OK\n", "OK x\n", "x".repeat(100)]) {
    await withSocket(answering(encoder.encode(answer)), async (path) => {
      await assert.rejects(connectVsock(path, 1), (error) => {
        assert.equal((error as { code?: string }).code, "unavailable");
        return true;
      });
    });
  }
});

Deno.test("a call that is given up ends at once, though the agent says nothing", async () => {
  const { promise: asked, resolve } = Promise.withResolvers<void>();
  const silent = async (connection: Deno.Conn) => {
    const buffer = new Uint8Array(65536);
    await connection.read(buffer);
    resolve();
    while (await connection.read(buffer) !== null) { /* until the client closes */ }
  };
  await withSocket(silent, async (unixPath) => {
    const controller = new AbortController();
    const call = connectAgent({ unixPath, vsockPort: undefined })
      .info({}, { signal: controller.signal });
    await asked;
    controller.abort();
    await assert.rejects(call, (error) => {
      assert.equal((error as ConnectError).code, Code.Canceled);
      return true;
    });
  });
});

Deno.test("the agent's word that it serves is heard, and a listener given up rejects", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const path = join(directory, "vsock");
    {
      using listener = listenForReady(path);
      using guest = await Deno.connect({ transport: "unix", path: `${path}_${READY_PORT}` });
      await guest.write(encoder.encode("1024\n"));
      await listener.ready;
    }
    const listener = listenForReady(path);
    listener[Symbol.dispose]();
    await assert.rejects(listener.ready, /Cannot wait/);
    assert.deepEqual([...Deno.readDirSync(directory)], []);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
