/**
 * For tests of ports without a guest: the agent's own service behind a socket that speaks as a VM's
 * vsock device does. What it dials is this host's loopback.
 *
 * @module
 */
import { join } from "node:path";
import { acceptCallers } from "../agent/dial.ts";
import { DIAL_PORT } from "../workload/vsock_ports.ts";

/** Listens where a VM's vsock device would. */
export class GuestPorts implements AsyncDisposable {
  readonly #directory = Deno.makeTempDirSync({ prefix: "cloudlet-test-" });
  /** Path of the device's socket. */
  readonly socket: string = join(this.#directory, "vsock");
  readonly #listener = Deno.listen({ transport: "unix", path: this.socket });
  readonly #serving = acceptCallers(this.#arrivals());

  async *#arrivals(): AsyncGenerator<Deno.Conn> {
    for await (const connection of this.#listener) {
      let line = "";
      const byte = new Uint8Array(1);
      while (!line.endsWith("\n") && await connection.read(byte) !== null) {
        line += String.fromCharCode(byte[0]!);
      }
      if (line !== `CONNECT ${DIAL_PORT}\n`) {
        connection.close();
        continue;
      }
      await connection.write(new TextEncoder().encode("OK 1073741824\n"));
      yield connection;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#serving;
    await Deno.remove(this.#directory, { recursive: true });
  }
}
