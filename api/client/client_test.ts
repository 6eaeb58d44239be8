import { equal, rejects } from "node:assert/strict";
import { ApiClient } from "./client.ts";

const ENTRY = { time: new Date(0).toISOString(), stream: "stdout", text: "a" };

for (
  const [what, body, message, got] of [
    [
      "ends before the run does",
      [`data: ${JSON.stringify(ENTRY)}\n\n`],
      /the server http:\S+ has left/,
      1,
    ],
    ["says what is no JSON", ["data: {\n\n"], /Cannot understand the server/, 0],
    ["says something else", ['data: {"a":1}\n\n'], /Cannot understand the server/, 0],
    ["breaks off", [`data: ${JSON.stringify(ENTRY)}\n\n`, undefined], /has left/, 1],
  ] as const
) {
  Deno.test(`a server that ${what} while a run is followed is an error`, async () => {
    await using server = Deno.serve({ port: 0, hostname: "localhost", onListen() {} }, () => {
      const parts = body.values();
      return new Response(
        new ReadableStream({
          async pull(controller) {
            const { value, done } = parts.next();
            if (done) return controller.close();
            if (value !== undefined) return controller.enqueue(new TextEncoder().encode(value));
            await new Promise((resolve) => setTimeout(resolve, 50)); // what was sent arrives first
            controller.error(new Error("broken"));
          },
        }),
      );
    });
    const client = new ApiClient({ url: `http://localhost:${server.addr.port}` });
    let entries = 0;
    await rejects(async () => {
      for await (const _ of client.logs("x", { follow: true })) entries++;
    }, { name: "CloudletError", code: "unavailable", message });
    equal(entries, got);
  });
}
