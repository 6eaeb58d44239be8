/** What comes out of a guest, and what a guest and its programs are told. */
import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { httpClient } from "../../agent/client/http_client.ts";
import { checkRequest, LIMITS } from "../../workload/request.ts";
import { encodeProgramStart } from "../../agent/hook_protocol.ts";
import { toEvent } from "../../api/http/wire.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteRequestSchema,
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
  FileSchema,
} from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { MarkScanner } from "../../vmm/marks.ts";
import { BuiltFiles } from "../../service/built_files.ts";
import { concatenate, fuzz, type Random, refusedOr, refusedOrAsync } from "./harness.ts";

const utf8 = new TextEncoder();

/** The bytes in pieces. */
function cut(random: Random, bytes: Uint8Array, most = 6): Uint8Array<ArrayBuffer>[] {
  const places = Array.from({ length: random.below(most) }, () => random.below(bytes.length + 1));
  const all = [0, ...places.sort((a, b) => a - b), bytes.length];
  return all.slice(1).map((end, i) => new Uint8Array(bytes.subarray(all[i], end)));
}

/** Whatever protobuf decodes, or undefined: what it throws is turned into an answer by Connect. */
function decoded<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch {
    return undefined;
  }
}

// -- the console -----------------------------------------------------------------------------------

fuzz("console-marks", () => {
  const nonce = "0123456789abcdef";
  const words = [
    nonce,
    ":",
    "init",
    "begin",
    "exit",
    "exit:0",
    "exit:42",
    `${nonce}:exit:255\r\n`,
    `${nonce}:exit:256\n`,
    "256",
    "\n",
    "\r\n",
    "x",
    "01",
  ];
  return (random) => {
    const bytes = random.chance(2) ? utf8.encode(random.words(words, 12)) : concatenate(
      random.bytes(9),
      utf8.encode(random.words([`${nonce}:init\n`, `${nonce}:exit:3\n`], 3)),
    );
    const scan = (pieces: readonly Uint8Array[]) => {
      const scanner = new MarkScanner(nonce);
      const output: number[] = [];
      const marks: string[] = [];
      for (
        const event of [...pieces.flatMap((piece) => [...scanner.push(piece)]), ...scanner.end()]
      ) {
        if (event.kind === "output") output.push(...event.bytes);
        else marks.push(`${event.kind}${"code" in event ? event.code : ""} at ${output.length}`);
      }
      return { output, marks };
    };
    const whole = scan([bytes]);
    assert.deepEqual(scan(cut(random, bytes)), whole, "it matters where the stream is cut");
    // By the words of the module: lines that begin with the nonce, and nothing else, are marks.
    const text = String.fromCharCode(...bytes);
    const mark = new RegExp(
      `${nonce}:(init|begin|exit:(?:[01]?\\d?\\d|2[0-4]\\d|25[0-5]))\r?\n`,
      "g",
    );
    assert.equal(String.fromCharCode(...whole.output), text.replaceAll(mark, ""));
    assert.equal(whole.marks.length, [...text.matchAll(mark)].length);
  };
});

// -- what the agent answers ------------------------------------------------------------------------

/** A connection that answers with these pieces, whatever is asked. */
function connection(pieces: readonly Uint8Array[]): Deno.Conn {
  const left = [...pieces];
  let closed = false;
  return {
    read(into: Uint8Array) {
      let next = left.shift();
      while (next?.length === 0) next = left.shift();
      if (closed || next === undefined) return Promise.resolve(null);
      into.set(next.subarray(0, into.length));
      if (next.length > into.length) left.unshift(next.subarray(into.length));
      return Promise.resolve(Math.min(next.length, into.length));
    },
    write: (bytes: Uint8Array) => Promise.resolve(bytes.length),
    close: () => void (closed = true),
  } as unknown as Deno.Conn;
}

async function answerOf(pieces: readonly Uint8Array[], signal: AbortSignal) {
  const ask = httpClient(() => Promise.resolve(connection(pieces)));
  const { status, body } = await ask(
    {
      url: "http://agent/x",
      method: "POST",
      header: new Headers(),
      body: (async function* () {})(),
      signal,
    },
  );
  return { status, body: concatenate(...await Array.fromAsync(body)) };
}

fuzz("agent-http", () => {
  const { signal } = new AbortController();
  const words = [
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "content-length: 5\r\n",
    "transfer-encoding: chunked\r\n",
    "x: y\r\n",
    "\r\n",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "5",
    ":",
    "hello",
    "\n",
  ];
  return async (random) => {
    const data = random.bytes(random.below(200));
    const chunks = cut(random, data).filter((piece) => piece.length > 0);
    const framed = random.chance(2)
      ? [utf8.encode(`HTTP/1.1 200 OK\r\nContent-Length: ${data.length}\r\n\r\n`), data]
      : [
        utf8.encode("HTTP/1.1 100 C\r\n\r\nHTTP/1.0 200\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ...chunks.flatMap((chunk) => [
          utf8.encode(`${chunk.length.toString(16)}${random.pick(["", ";a=b", " "])}\r\n`),
          chunk,
          utf8.encode("\r\n"),
        ]),
        utf8.encode("0\r\ntrailer: x\r\n\r\n"),
      ];
    const message = concatenate(...framed);
    const whole = await answerOf(cut(random, message), signal);
    assert.equal(whole.status, 200);
    assert.deepEqual(whole.body, data);
    const damaged = random.chance(2)
      ? random.damage(message)
      : utf8.encode(random.words(words, 14));
    const answer = await refusedOrAsync(() => answerOf(cut(random, damaged), signal), "guest");
    if (answer !== undefined) assert(answer.status >= 200 && answer.body.length <= damaged.length);
    return 2;
  };
});

fuzz("agent-responses", () => {
  const response = toBinary(
    ExecuteResponseSchema,
    create(ExecuteResponseSchema, {
      stage: Stage.DONE,
      stdout: "text",
      stderrBytes: utf8.encode("bytes"),
      exitCode: 3,
      executionId: "id",
      outcome: { kind: 1, signal: 9, message: "killed" },
      usage: { wallTime: { seconds: 1n, nanos: 5 }, peakMemoryBytes: 77n },
      built: { path: "a/b", content: utf8.encode("x"), mode: 0o755, offset: 0n },
    }),
  );
  return (random) => {
    const built = new BuiltFiles();
    for (let i = 0; i < 4; i++) {
      const message = decoded(() => fromBinary(ExecuteResponseSchema, random.damage(response, 4)));
      if (message === undefined) continue;
      JSON.stringify(toEvent(message)); // what a client over HTTP is told
      if (message.built !== undefined) refusedOr(() => built.add(message.built!), "guest");
    }
    return 4;
  };
});

fuzz("built-files", () => (random) => {
  const limits = { files: 3, bytes: 20, pieces: 10 };
  const built = new BuiltFiles(limits);
  const sent = new Map<string, number[]>(); // what must come out
  let bytes = 0;
  let pieces = 0;
  for (let i = 0; i < 30; i++) {
    const path = random.pick(["a", "b", "a/b", "__proto__", "", "x".repeat(4000)]);
    const so = sent.get(path);
    const offset = random.chance(8)
      ? random.pick([1n, -1n, BigInt(random.u32()) << 31n])
      : BigInt(so?.length ?? 0);
    const content = random.bytes(random.below(5));
    const allowed = path.length < 4000 && offset === BigInt(so?.length ?? 0) &&
      bytes + content.length <= limits.bytes && pieces < limits.pieces &&
      (so !== undefined || sent.size < limits.files);
    const added = refusedOr(() => {
      built.add(create(FileSchema, { path, content, offset, mode: 0o644 }));
      return true;
    }, "guest");
    assert.equal(added === true, allowed);
    if (!allowed) continue;
    sent.set(path, [...so ?? [], ...content]);
    bytes += content.length;
    pieces++;
  }
  assert.equal(built.bytes, bytes);
  assert.deepEqual(built.files.map(({ path, content }) => [path, [...content]]), [...sent]);
});

// -- what the agent is asked -----------------------------------------------------------------------

const REQUEST = {
  workloadName: "name",
  language: "python",
  action: Action.PREPARE_AND_RUN,
  configStr: "x",
  options: {
    executionId: "id-1",
    args: ["a", "b"],
    env: { NAME: "value", PATH: "/bin" },
    workingDirectory: "sub/dir",
    timeout: { seconds: 5n, nanos: 1 },
    buildTimeout: { seconds: 600n },
    files: [{ path: "main.py", content: utf8.encode("1"), mode: 0o644 }, { path: "lib/x.py" }],
    entryPoint: "main.py",
    stdin: utf8.encode("in"),
    outputs: ["out"],
    user: "1000:1000",
    commandDirectory: "/work",
    built: [{ path: "target/x", content: utf8.encode("y"), mode: 0o755 }],
  },
};

fuzz("agent-requests", () => {
  const whole = toBinary(ExecuteRequestSchema, create(ExecuteRequestSchema, REQUEST));
  const paths = [
    "a",
    "a/b",
    "../a",
    "/a",
    "",
    ".",
    "a//b",
    "a\0",
    "ü".repeat(200),
    "main.py",
    "x".repeat(4000),
  ];
  return (random) => {
    const request = random.chance(2)
      ? decoded(() => fromBinary(ExecuteRequestSchema, random.damage(whole, 4)))
      : create(ExecuteRequestSchema, {
        ...REQUEST,
        language: random.pick(["python", "command", "rust", "", "__proto__", "constructor"]),
        action: random.pick([0, 1, 2, 3, -1]),
        code: random.pick(["", "print()"]),
        options: {
          ...REQUEST.options,
          files: Array.from({ length: random.below(4) }, () => ({
            path: random.pick(paths),
            target: random.pick(["", "", "a", "/", "../../x"]),
            directory: random.chance(4),
          })),
          entryPoint: random.pick(paths),
          workingDirectory: random.pick(paths),
          outputs: [random.pick(paths)],
          args: [random.text(4), random.pick(["", "x".repeat(LIMITS.string + 1)])],
          env: { [random.text(3)]: random.text(3) },
          timeout: {
            seconds: BigInt(random.u32()) << BigInt(random.below(32)),
            nanos: random.u32() | 0,
          },
          user: random.text(5),
          commandDirectory: random.pick(paths),
        },
      });
    if (request === undefined) return;
    const job = refusedOr(() => checkRequest(request), "invalid-input");
    if (job === undefined) return;
    const all = [
      job.entryPoint ?? "x",
      job.workingDirectory || "x",
      ...job.outputs,
      ...[...job.sources, ...job.built].map(({ path }) => path),
    ];
    for (const path of all) {
      assert(!path.startsWith("/") && !path.includes("\0"), path);
      assert(path.split("/").every((name) => name !== "" && name !== "." && name !== ".."), path);
    }
    const links = job.sources.filter(({ target }) => target !== "");
    assert(!links.some((link) => job.sources.some(({ path }) => path.startsWith(`${link.path}/`))));
    assert(job.timeout === undefined || job.timeout > 0 && job.timeout < 2 ** 31);
    assert(![...job.args, ...Object.entries(job.environment).flat()].join("").includes("\0"));
    assert(/^[A-Za-z0-9._-]{1,128}$/.test(job.id));
  };
});

fuzz("program-start", () => (random) => {
  const text = () => random.text(10).replaceAll("\0", "").toWellFormed();
  const job = {
    directory: `/${text()}`,
    file: `/${text()}`,
    args: Array.from({ length: random.below(5) }, text),
    environment: Object.fromEntries(
      Array.from({ length: random.below(5) }, () => [`N${text().replaceAll("=", "")}`, text()]),
    ),
  };
  const bytes = encodeProgramStart(job);
  // as the hooks read it
  const length = Number.parseInt(new TextDecoder().decode(bytes.subarray(0, 8)), 16);
  assert.equal(length, bytes.length - 8);
  const fields = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(8)).split(
    "\0",
  );
  const end = 3 + Number(fields[2]);
  const told = {
    directory: fields[0],
    file: fields[1],
    args: fields.slice(3, end),
    environment: Object.fromEntries(
      fields.slice(end, -2).map((field) => {
        const equals = field.indexOf("=");
        return [field.slice(0, equals), field.slice(equals + 1)];
      }),
    ),
  };
  assert.deepEqual(told, job);
});
