/**
 * For tests of the host's side of the agent: what the root of a guest could put in the agent's place. A
 * real server on a real Unix socket that keeps silent, answers garbage, or never stops answering.
 *
 * @module
 */
import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { concatBytes } from "../base/bytes.ts";
import { type AgentClient, connectAgent } from "../agent/client/client.ts";
import type { AgentLimits } from "../agent/client/limits.ts";
import {
  type ExecuteResponse,
  ExecuteResponseSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { HostMachine } from "../node/host_machine.ts";

/** What is done with a request: the connection is closed when it returns. */
export type Answer = (connection: Deno.Conn, body: Uint8Array) => Promise<void>;

const utf8 = new TextEncoder();
const STREAM_HEAD =
  "HTTP/1.1 200 OK\r\ncontent-type: application/connect+proto\r\ntransfer-encoding: chunked\r\n\r\n";

async function write(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
}

/** A chunk of HTTP. */
export function chunk(bytes: Uint8Array): Uint8Array {
  return concatBytes([utf8.encode(`${bytes.length.toString(16)}\r\n`), bytes, utf8.encode("\r\n")]);
}

/** A message as Connect streams it; flag 2 ends the stream. */
export function envelope(bytes: Uint8Array, flag = 0): Uint8Array {
  const head = new Uint8Array(5);
  head[0] = flag;
  new DataView(head.buffer).setUint32(1, bytes.length);
  return concatBytes([head, bytes]);
}

/** Says nothing until the host closes the connection. */
export const silent: Answer = async (connection) => {
  while (await connection.read(new Uint8Array(4096)) !== null) { /* whatever it is */ }
};

/** Answers with these bytes, one piece after the other. */
export function bytes(...pieces: readonly (string | Uint8Array)[]): Answer {
  return (connection) => pour(connection, pieces);
}

/** Answers with what the iterable gives, for as long as the host takes it. */
export async function pour(
  connection: Deno.Conn,
  pieces: Iterable<string | Uint8Array>,
): Promise<void> {
  for (const piece of pieces) {
    await write(connection, typeof piece === "string" ? utf8.encode(piece) : piece);
  }
}

/** Answers a call of one answer. */
export function reply<T extends DescMessage>(schema: T, message: MessageShape<T>): Answer {
  const body = toBinary(schema, message);
  return bytes(
    `HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ncontent-length: ${body.length}\r\n\r\n`,
    body,
  );
}

/** Streams messages, then ends the stream, if the iterable has an end. */
export function stream<T extends DescMessage>(
  schema: T,
  messages: () => Iterable<MessageShape<T>>,
): Answer {
  return async (connection) => {
    await pour(connection, [STREAM_HEAD]);
    for (const message of messages()) {
      await write(connection, chunk(envelope(toBinary(schema, message))));
    }
    await pour(connection, [chunk(envelope(utf8.encode("{}"), 2)), "0\r\n\r\n"]);
  };
}

/** Streams what an execution says. */
export function says(messages: () => Iterable<ExecuteResponse>): Answer {
  return stream(ExecuteResponseSchema, messages);
}

/** Streams messages and then keeps silent. */
export function saysAndWaits(...messages: readonly ExecuteResponse[]): Answer {
  return async (connection, body) => {
    await pour(connection, [
      STREAM_HEAD,
      ...messages.map((message) => chunk(envelope(toBinary(ExecuteResponseSchema, message)))),
    ]);
    await silent(connection, body);
  };
}

/** The message of a streaming request. */
export function requestOf<T extends DescMessage>(schema: T, body: Uint8Array): MessageShape<T> {
  return fromBinary(schema, body.subarray(5));
}

/** See the module. */
export class HostileAgent implements AsyncDisposable {
  readonly #directory = Deno.makeTempDirSync({ prefix: "cloudlet-hostile-" });
  readonly #listener: Deno.Listener;
  readonly #answers: Readonly<Record<string, Answer>>;
  readonly #connections = new Set<Deno.Conn>();
  readonly #open = new Set<Promise<void>>();
  readonly #accepting: Promise<void>;
  /** Names of the calls that came, in their order, such as "Execute". */
  readonly asked: string[] = [];
  /** Path of the socket. */
  readonly socket: string = `${this.#directory}/socket`;

  /** @param answers by name of the call; the others are met with silence */
  constructor(answers: Readonly<Record<string, Answer>>) {
    this.#answers = answers;
    this.#listener = Deno.listen({ transport: "unix", path: this.socket });
    this.#accepting = this.#accept();
  }

  /** The host's client of it. */
  client(limits?: Partial<AgentLimits>): AgentClient {
    return connectAgent({ unixPath: this.socket, vsockPort: undefined }, limits);
  }

  /** A machine in which it is the agent. */
  machine(more: Partial<HostMachine> = {}, limits?: Partial<AgentLimits>): HostMachine {
    const { promise: ended, resolve } = Promise.withResolvers<string>();
    return {
      agent: this.client(limits),
      ended,
      console: () => "",
      [Symbol.asyncDispose]: async () => {
        resolve("it was stopped");
        await this[Symbol.asyncDispose]();
      },
      ...more,
    };
  }

  async #accept(): Promise<void> {
    for await (const connection of this.#listener) {
      this.#connections.add(connection);
      const served = this.#serve(connection).catch(() => {}).finally(() => {
        this.#open.delete(served);
        this.#connections.delete(connection);
        close(connection);
      });
      this.#open.add(served);
    }
  }

  /** Reads one request (RFC 9112) and answers it. */
  async #serve(connection: Deno.Conn): Promise<void> {
    let received: Uint8Array = new Uint8Array(0);
    const buffer = new Uint8Array(65536);
    const text = () => String.fromCharCode(...received);
    const more = async () => {
      const length = await connection.read(buffer);
      if (length === null) throw new Error("the host closed the connection");
      received = concatBytes([received, buffer.slice(0, length)]);
    };
    while (!text().includes("\r\n\r\n")) await more();
    const head = text().slice(0, text().indexOf("\r\n\r\n"));
    const name = /^POST \S+\/(\w+) /.exec(head)![1]!;
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    while (received.length < head.length + 4 + length) await more();
    this.asked.push(name);
    await (this.#answers[name] ?? silent)(connection, received.subarray(head.length + 4));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    close(this.#listener);
    this.#connections.forEach(close);
    await this.#accepting.catch(() => {});
    await Promise.all(this.#open);
    await Deno.remove(this.#directory, { recursive: true }).catch(() => {}); // once is enough
  }
}

function close(resource: { close(): void }): void {
  try {
    resource.close();
  } catch {
    // closed already
  }
}
