/**
 * The host's side of the agent.
 *
 * @module
 */
import { readLine, writeAll } from "../../base/streams.ts";
import { type Client, createClient } from "@connectrpc/connect";
import { createTransport } from "@connectrpc/connect/protocol-connect";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { WorkloadRunner } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { AGENT_LIMITS, type AgentLimits, wholeMessages, withDeadlines } from "./limits.ts";
import { httpClient } from "./http_client.ts";
import { AGENT_PORT, READY_PORT } from "../../workload/vsock_ports.ts";

/** Calls of the agent, as the .proto file declares them. */
export type AgentClient = Client<typeof WorkloadRunner>;

/** Where the agent is. */
export interface AgentAddress {
  /** Unix socket: of the VM's vsock device, or of an agent that listens on it itself. */
  readonly unixPath: string;
  /** Port inside the VM; undefined when the agent listens on the Unix socket itself. */
  readonly vsockPort: number | undefined;
}

/** The address of the agent behind a VM's vsock socket. */
export function agentBehind(unixPath: string): AgentAddress {
  return { unixPath, vsockPort: AGENT_PORT };
}

const MAX_REQUEST = 256 * 1024 * 1024; // bytes; what the agent takes (LIMITS of request.ts)
const MAX_HANDSHAKE = 32; // bytes: "OK 4294967295\n" and more

/**
 * Opens a byte stream to a port in the guest through the Unix socket of the VM's vsock device:
 * `CONNECT <port>\n`, answered by `OK <port>\n`.
 *
 * @param signal gives up: a guest may neither take the connection nor refuse it
 * @throws {CloudletError} `unavailable` when nobody listens there
 */
export async function connectVsock(
  unixPath: string,
  port: number,
  signal?: AbortSignal,
): Promise<Deno.Conn> {
  signal?.throwIfAborted();
  const connection = await Deno.connect({ transport: "unix", path: unixPath });
  const giveUp = () => connection.close();
  signal?.addEventListener("abort", giveUp);
  try {
    signal?.throwIfAborted();
    const request = new TextEncoder().encode(`CONNECT ${port}\n`);
    await writeAll(connection, request);
    const answer = await readLine(connection, MAX_HANDSHAKE);
    if (!/^OK \d+$/.test(answer ?? "")) {
      const why = answer === undefined ? "refused" : "no OK";
      throw new CloudletError(`Cannot connect to port ${port} of the microVM: ${why}`, {
        code: "unavailable",
      });
    }
    return connection;
  } catch (error) {
    if (signal?.aborted) throw signal.reason; // which closed it
    connection.close();
    throw error;
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}

/** Options of a call that another one follows within a second, which is to have its connection. */
export const KEEP_ALIVE = { headers: { connection: "keep-alive" } } as const;

/**
 * The agent's calls. Nothing is connected until one is made; each has a connection of its own, unless
 * the one before said {@linkcode KEEP_ALIVE}. An AbortSignal given to it closes the connection.
 *
 * @param address where the agent is
 * @param limits on what it answers, in place of {@linkcode AGENT_LIMITS}
 */
export function connectAgent(
  address: AgentAddress,
  limits: Partial<AgentLimits> = {},
): AgentClient {
  const { unixPath, vsockPort } = address;
  const most = { ...AGENT_LIMITS, ...limits };
  const http = httpClient((signal) =>
    vsockPort === undefined
      ? Deno.connect({ transport: "unix", path: unixPath })
      : connectVsock(unixPath, vsockPort, signal)
  );
  return createClient(
    WorkloadRunner,
    createTransport({
      baseUrl: "http://agent",
      useBinaryFormat: true,
      interceptors: [withDeadlines(most)],
      binaryOptions: { readUnknownFields: false },
      acceptCompression: [],
      sendCompression: null,
      compressMinBytes: Number.MAX_SAFE_INTEGER,
      readMaxBytes: most.message,
      writeMaxBytes: MAX_REQUEST,
      httpClient: wholeMessages(http, most.message),
    }),
  );
}

/** Waits for an agent to say that it serves. */
export interface ReadyListener extends Disposable {
  /** Resolves when the agent has said so; rejects when disposed before. */
  readonly ready: Promise<void>;
}

/**
 * Listens for the agent's word that it serves; to be called before the VM starts. The VM's vsock
 * device connects to `<path>_<port>` when the guest connects to a port of the host.
 *
 * @param unixPath of the VM's vsock device
 */
export function listenForReady(unixPath: string): ReadyListener {
  const path = `${unixPath}_${READY_PORT}`;
  const listener = Deno.listen({ transport: "unix", path });
  const wait = async (): Promise<void> => {
    try {
      using connection = await listener.accept();
      const buffer = new Uint8Array(16);
      await connection.read(buffer);
    } catch (cause) {
      throw new CloudletError(`Cannot wait for the agent: ${messageOf(cause)}`, {
        code: "cancelled",
        cause,
      });
    }
  };
  const ready = wait();
  ready.catch(() => {}); // whoever disposes need not wait
  return {
    ready,
    [Symbol.dispose]() {
      listener.close();
      try {
        Deno.removeSync(path);
      } catch {
        // removed with its directory
      }
    },
  };
}
