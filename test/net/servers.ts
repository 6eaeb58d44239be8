/**
 * Servers of the internet of world.ts.
 *
 * @module
 */
import { sendPattern } from "./pattern.ts";

const ADDRESS = "203.0.113.7";

/** Serves each connection; closes what is left at the end. */
export class Server implements Disposable {
  readonly #listener: Deno.TcpListener;
  readonly #open = new Set<Deno.TcpConn>();

  constructor(
    port: number,
    serve: (connection: Deno.TcpConn) => Promise<void>,
    hostname = ADDRESS,
  ) {
    const listener = Deno.listen({ hostname, port });
    this.#listener = listener;
    void (async () => {
      for await (const connection of listener) {
        this.#open.add(connection);
        void serve(connection).catch(() => {}).finally(() => {
          this.#open.delete(connection);
          try {
            connection.close();
          } catch { /* it is closed */ }
        });
      }
    })();
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const connection of this.#open) connection.close();
  }
}

/** Sends so many bytes of the pattern, and its end. */
export async function send(connection: Deno.TcpConn, bytes: number): Promise<void> {
  await sendPattern(connection, bytes);
  await connection.closeWrite();
}

/** Sends back whatever comes. */
export async function echo(connection: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(1 << 16);
  for (;;) {
    const count = await connection.read(buffer);
    if (count === null) return;
    for (let done = 0; done < count;) done += await connection.write(buffer.subarray(done, count));
  }
}
