/**
 * A port of the host that leads into a guest.
 *
 * @module
 */
import { closeQuietly } from "../base/streams.ts";
import { createServer, type Server, type Socket } from "node:net";
import { dialGuest } from "../agent/client/dial.ts";
import { CloudletError, messageOf } from "../base/errors.ts";
import { drained } from "./drained.ts";
import type { PublishedPort } from "./network.ts";

/** Connections of one port at one time. */
const MOST_CONNECTIONS = 512;
/** Bytes that go in one piece. */
const PIECE = 64 * 1024;

/** What a published port needs. */
export interface PublishedPortOptions {
  /** Path of the vsock device's socket. */
  readonly socket: string;
  /** Called when a client was reset because nobody listened in the guest. */
  readonly onUnanswered: () => void;
}

/** A port that is listened on until it is disposed, which ends its connections too. */
export class ListeningPort implements AsyncDisposable {
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  readonly #end = new AbortController();
  readonly #options: PublishedPortOptions;

  private constructor(
    /** Where it listens. */
    readonly published: PublishedPort,
    server: Server,
    options: PublishedPortOptions,
  ) {
    this.#server = server;
    this.#options = options;
    server.on("connection", (client) => void this.#serve(client));
  }

  /**
   * Listens.
   *
   * @throws {CloudletError} `conflict` when the port is taken, `host` when it cannot be had
   */
  static async open(asked: PublishedPort, options: PublishedPortOptions): Promise<ListeningPort> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    server.maxConnections = MOST_CONNECTIONS;
    const { address, port } = asked;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(port, address, resolve);
    try {
      await promise;
    } catch (cause) {
      const isTaken = (cause as { code?: string }).code === "EADDRINUSE";
      throw new CloudletError(
        `Cannot publish the port on ${address}:${port}: ${
          isTaken ? "it is taken" : messageOf(cause)
        }`,
        {
          code: isTaken ? "conflict" : "host",
          remedy: "choose another port of the host, or 0 for a free one",
          cause,
        },
      );
    }
    const own = server.address();
    const actual = typeof own === "object" && own !== null ? own.port : port;
    return new ListeningPort({ ...asked, port: actual }, server, options);
  }

  /** One client; never rejects. */
  async #serve(client: Socket): Promise<void> {
    client.on("error", () => client.destroy());
    client.on("close", () => this.#clients.delete(client));
    this.#clients.add(client);
    let guest: Deno.Conn;
    try {
      const { socket } = this.#options;
      guest = await dialGuest(socket, this.published.guestPort, this.#end.signal);
    } catch {
      client.resetAndDestroy();
      if (!this.#end.signal.aborted) this.#options.onUnanswered();
      return;
    }
    using _guest = { [Symbol.dispose]: () => closeQuietly(guest) };
    const leave = () => guest.close();
    client.once("close", leave);
    try {
      await Promise.all([toGuest(client, guest), toClient(guest, client)]);
    } catch {
      client.resetAndDestroy(); // the guest's side was reset, or is gone
    } finally {
      client.off("close", leave);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new CloudletError("Cannot go on: the machine ended", { code: "cancelled" }));
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const client of this.#clients) client.resetAndDestroy();
    await closed;
  }
}

async function toGuest(client: Socket, guest: Deno.Conn): Promise<void> {
  for await (const chunk of client.iterator({ destroyOnReturn: false })) {
    const bytes = chunk as Uint8Array;
    for (let sent = 0; sent < bytes.length;) sent += await guest.write(bytes.subarray(sent));
  }
  await guest.closeWrite();
}

async function toClient(guest: Deno.Conn, client: Socket): Promise<void> {
  for (;;) {
    const buffer = new Uint8Array(PIECE); // the socket keeps what it has not sent yet
    const size = await guest.read(buffer);
    if (size === null) break;
    if (!client.write(buffer.subarray(0, size))) await drained(client);
  }
  client.end();
}
