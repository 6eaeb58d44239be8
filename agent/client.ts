/**
 * The host's side of the agent.
 *
 * @module
 */
import { type Client, createClient } from "@connectrpc/connect";
import { createTransport } from "@connectrpc/connect/protocol-connect";
import { CloudletError, messageOf } from "../base/errors.ts";
import { WorkloadRunner } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { httpClient } from "./http_client.ts";
import { AGENT_PORT, READY_PORT } from "./vsock_ports.ts";

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

const MAX_MESSAGE = 256 * 1024 * 1024; // bytes
const MAX_HANDSHAKE = 32; // bytes: "OK 4294967295\n" and more

/**
 * Opens a byte stream to a port in the guest through the Unix socket of the VM's vsock device:
 * `CONNECT <port>\n`, answered by `OK <port>\n`.
 *
 * @throws {CloudletError} `unavailable` when nobody listens there
 */
export async function connectVsock(unixPath: string, port: number): Promise<Deno.Conn> {
  const connection = await Deno.connect({ transport: "unix", path: unixPath });
  try {
    const request = new TextEncoder().encode(`CONNECT ${port}\n`);
    for (let sent = 0; sent < request.length;) {
      sent += await connection.write(request.subarray(sent));
    }
    let answer = "";
    const byte = new Uint8Array(1); // not a byte of what follows may be taken
    while (!answer.endsWith("\n")) {
      if (answer.length > MAX_HANDSHAKE || await connection.read(byte) === null) {
        throw new CloudletError(`Cannot connect to port ${port} of the microVM: refused`, {
          code: "unavailable",
        });
      }
      answer += String.fromCharCode(byte[0]!);
    }
    if (!/^OK \d+\n$/.test(answer)) {
      throw new CloudletError(`Cannot connect to port ${port} of the microVM: no OK`, {
        code: "unavailable",
      });
    }
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** Options of a call that another one follows within a second, which is to have its connection. */
export const KEEP_ALIVE = { headers: { connection: "keep-alive" } } as const;

/**
 * The agent's calls. Nothing is connected until one is made; each has a connection of its own, unless
 * the one before said {@linkcode KEEP_ALIVE}. An AbortSignal given to it closes the connection.
 */
export function connectAgent(address: AgentAddress): AgentClient {
  const { unixPath, vsockPort } = address;
  return createClient(
    WorkloadRunner,
    createTransport({
      baseUrl: "http://agent",
      useBinaryFormat: true,
      interceptors: [],
      acceptCompression: [],
      sendCompression: null,
      compressMinBytes: Number.MAX_SAFE_INTEGER,
      readMaxBytes: MAX_MESSAGE,
      writeMaxBytes: MAX_MESSAGE,
      httpClient: httpClient(() =>
        vsockPort === undefined
          ? Deno.connect({ transport: "unix", path: unixPath })
          : connectVsock(unixPath, vsockPort)
      ),
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
