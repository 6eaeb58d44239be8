/** Streams of events that are asked for again: by an EventSource that nobody here wrote, and by hand. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { EventSource } from "eventsource";
import { testService } from "../../test/service.ts";
import { eventData } from "../sse.ts";

const JSON_TYPE = { "content-type": "application/json" };

/** Starts a program of Bash; its response has its events. */
function start(url: string, id: string, code: string): Promise<Response> {
  const body = JSON.stringify({ language: "bash", code, id, log_level: "error" });
  return fetch(`${url}/run`, { method: "POST", headers: JSON_TYPE, body });
}

/** The events of a response, with the fields that it has them in. */
async function raw(response: Response): Promise<Record<string, string>[]> {
  const text = await response.text();
  return text.split("\n\n").filter((event) => event !== "" && !event.startsWith(":")).map((event) =>
    Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s, 2)))
  );
}

/** Reads until the server ends it, as it does with 204. */
function untilClosed(source: EventSource, onData: (data: string, id: string) => void) {
  const closed = Promise.withResolvers<void>();
  const deadline = setTimeout(() => closed.reject(new Error("it asks again and again")), 40_000);
  source.onmessage = ({ data, lastEventId }) => onData(data, lastEventId);
  source.onerror = ({ code }) => {
    if (source.readyState !== EventSource.CLOSED) return; // it asks again
    if (code === 204) closed.resolve();
    else closed.reject(new Error(`closed by ${code}`));
  };
  return closed.promise.finally(() => {
    clearTimeout(deadline);
    source.close();
  });
}

Deno.test("an EventSource that follows a run gets each piece once, and is told when all is over", async () => {
  await using test = await testService();
  const run = start(test.url, "r", "for i in 1 2 3; do echo $i; sleep 0.1; done");
  await (await run).body!.pipeTo(new WritableStream());
  let requests = 0;
  const source = new EventSource(`${test.url}/logs/r?follow=true&stream=stdout`, {
    fetch: (url, init) => {
      requests++;
      return fetch(url, init);
    },
  });
  const texts: string[] = [];
  const ends: unknown[] = [];
  await untilClosed(source, (data) => {
    const event = JSON.parse(data);
    if (event.run === undefined) texts.push(event.text);
    else ends.push(event.run.outcome);
  });
  equal(texts.join(""), "1\n2\n3\n");
  deepEqual(ends, ["exited"]);
  equal(requests, 2);
});

Deno.test("an EventSource whose connection breaks goes on exactly where it was", async () => {
  await using test = await testService();
  const run = start(test.url, "r", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done");
  void run.then((response) => response.body!.pipeTo(new WritableStream()));
  await run;
  const asked: (string | undefined)[] = [];
  const source = new EventSource(`${test.url}/logs/r?follow=true`, {
    async fetch(url, init) {
      asked.push((init.headers as Record<string, string>)["Last-Event-ID"]);
      const response = await fetch(url, init);
      if (asked.length > 2 || response.body === null) return response;
      // Two whole events come through, and the connection is gone.
      const reader = response.body.getReader();
      let events = 0;
      const body = new ReadableStream<Uint8Array>({
        async pull(controller) {
          const { value, done } = await reader.read();
          if (done) return controller.close();
          controller.enqueue(value);
          events += new TextDecoder().decode(value).split("\n\n").length - 1;
          if (events < 2) return;
          await reader.cancel();
          controller.close();
        },
      });
      return new Response(body, response);
    },
  });
  let text = "";
  const ids: string[] = [];
  await untilClosed(source, (data, id) => {
    ids.push(id);
    text += JSON.parse(data).text ?? "";
  });
  equal(text, "1\n2\n3\n4\n5\n6\n");
  equal(new Set(ids).size, ids.length);
  ok(asked.length >= 3);
  deepEqual(asked.slice(0, 1), [undefined]);
  equal(asked.at(-1), "end");
});

Deno.test("the log goes on after any of its events, with a filter or without", async () => {
  await using test = await testService();
  const code = "for i in 1 2 3; do echo $i; sleep 0.1; echo $i >&2; sleep 0.1; done";
  await (await start(test.url, "r", code)).body!.pipeTo(new WritableStream());
  for (const query of ["?follow=true", "?stream=stdout&follow=true", "?stream=stderr", ""]) {
    const ask = (last?: string) =>
      fetch(`${test.url}/logs/r${query}`, {
        headers: {
          accept: "text/event-stream",
          ...(last !== undefined && { "last-event-id": last }),
        },
      });
    const all = await raw(await ask());
    ok(all.length >= 4, query);
    equal(all.at(-1)!["id"], "end");
    for (const [i, { id }] of all.slice(0, -1).entries()) {
      deepEqual(await raw(await ask(id)), all.slice(i + 1), `${query} ${id}`);
    }
    deepEqual(await raw(await ask("")), all);
    const over = await ask("end");
    equal(over.status, 204);
    equal(over.body, null);
    for (const wrong of ["-1", "1.5", "x", "1 2", "9".repeat(30)]) {
      const refused = await ask(wrong);
      equal(refused.status, 422);
      match((await refused.json()).detail, /Cannot go on after the event/);
    }
    // What was kept has fewer pieces: the end is all that is left.
    deepEqual((await raw(await ask("999"))).map(({ id }) => id), ["end"]);
  }
  const gone = await fetch(`${test.url}/logs/none`, { headers: { "last-event-id": "end" } });
  equal(gone.status, 404);
});

Deno.test("a client that comes back while the run goes on waits for what is new", async () => {
  await using test = await testService();
  const run = start(test.url, "r", "echo one; read -t 1 x </dev/zero; sleep 1; echo two");
  void run.then((response) => response.body!.pipeTo(new WritableStream()));
  await run;
  const follow = (last: Record<string, string>) =>
    fetch(`${test.url}/logs/r?follow=true`, { headers: last });
  const first = (await follow({})).body!;
  let id = "";
  for await (const text of first.pipeThrough(new TextDecoderStream())) {
    id = /^id: (\d+)$/m.exec(text)?.[1] ?? id;
    if (text.includes("one")) break;
  }
  const rest = await Array.fromAsync(
    eventData((await follow({ "last-event-id": id })).body!),
    (text) => JSON.parse(text),
  );
  deepEqual(rest.filter(({ stream }) => stream === "stdout").map(({ text }) => text), ["two\n"]);
  equal(rest.at(-1).run.outcome, "exited");
});

Deno.test("an EventSource made of POST /run starts its program once", async () => {
  await using test = await testService();
  const asked: (string | undefined)[] = [];
  const source = new EventSource(`${test.url}/run`, {
    fetch: (url, init) => {
      asked.push((init.headers as Record<string, string>)["Last-Event-ID"]);
      const body = JSON.stringify({ language: "bash", code: "echo once", id: "r" });
      return fetch(url, {
        ...init,
        method: "POST",
        headers: { ...init.headers, ...JSON_TYPE },
        body: body.replace(',"id":"r"', asked.length === 1 ? ',"id":"r"' : ""),
      });
    },
  });
  let text = "";
  await untilClosed(source, (data) => text += JSON.parse(data).stdout ?? "");
  equal(text, "once\n");
  equal(asked.length, 2);
  match(asked[1]!, /^r\/\d+$/);
  const { runs } = await (await fetch(`${test.url}/runs`)).json();
  deepEqual(runs.map(({ id }: { id: string }) => id), ["r"]);
  // The same of a fork.
  const fork = await fetch(`${test.url}/runs/r/fork`, {
    method: "POST",
    headers: { ...JSON_TYPE, "last-event-id": "x/3" },
    body: "{}",
  });
  equal(fork.status, 204);
});
