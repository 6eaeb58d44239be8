/**
 * The one way into a guest: a stream to a port of its 127.0.0.1, by way of its agent.
 *
 * @module
 */
import { readLine, writeAll } from "../../base/streams.ts";
import { CloudletError } from "../../base/errors.ts";
import { DIAL_PORT } from "../../workload/vsock_ports.ts";
import { connectVsock } from "./client.ts";

/** Bytes of the agent's answer: a reason has a few words. */
const MOST_ANSWER = 256;
/** Milliseconds: the agent gives up after ten seconds by itself. */
const PATIENCE = 15_000;

/**
 * Connects to what listens on a port of the guest's 127.0.0.1.
 *
 * @param unixPath of the VM's vsock device
 * @param port TCP port in the guest, 1 to 65535
 * @param signal gives up
 * @returns a stream both ways, each with an end of its own; the caller closes it. vsock tells of no
 *   reset: one of the listener's is the end of the stream
 * @throws {CloudletError} `unavailable` when nobody listens there, or the agent does not answer
 */
export async function dialGuest(
  unixPath: string,
  port: number,
  signal: AbortSignal,
): Promise<Deno.Conn> {
  const late = AbortSignal.timeout(PATIENCE);
  const giveUp = AbortSignal.any([signal, late]);
  try {
    const connection = await connectVsock(unixPath, DIAL_PORT, giveUp);
    const close = () => connection.close();
    giveUp.addEventListener("abort", close);
    try {
      await writeAll(connection, new TextEncoder().encode(`${port}\n`));
      const answer = await readLine(connection, MOST_ANSWER) ?? "";
      if (answer === "OK") return connection;
      throw refused(port, answer.replaceAll(/[^\x20-\x7e]/g, "?") || "the agent closed the stream");
    } catch (error) {
      if (!giveUp.aborted) connection.close();
      throw error;
    } finally {
      giveUp.removeEventListener("abort", close);
    }
  } catch (error) {
    signal.throwIfAborted();
    if (late.aborted) throw refused(port, "its agent does not answer");
    throw error;
  }
}

function refused(port: number, why: string): CloudletError {
  return new CloudletError(`Cannot connect to port ${port} in the microVM: ${why}`, {
    code: "unavailable",
    remedy: `let the program listen on 127.0.0.1:${port} first`,
  });
}
