/**
 * Connects callers of the host to what listens on the guest's 127.0.0.1: the one way into a guest. It
 * needs no network, and reaches programs that listen on loopback only.
 *
 * @module
 */
import { closeQuietly, readLine, writeAll } from "../base/streams.ts";
import { DIAL_PORT } from "../workload/vsock_ports.ts";

/** Callers at one time; each holds two descriptors. */
const MOST_CALLERS = 1024;
/** Milliseconds that a caller may take to say what it wants, and a listener to accept. */
const PATIENCE = 10_000;
/** Bytes that go in one piece: as many as a vsock packet has. */
const PIECE = 64 * 1024;
/** "65535" */
const MOST_REQUEST = 5;
/** VMADDR_CID_ANY of include/uapi/linux/vm_sockets.h */
const ANY_CID = -1;

/** Serves until the process ends. */
export function serveDial(): void {
  let listener: Deno.Listener<Deno.Conn>;
  try {
    listener = Deno.listen({ transport: "vsock", cid: ANY_CID, port: DIAL_PORT });
  } catch (error) {
    console.error(`agent: ports cannot be reached from outside: ${error}`);
    return;
  }
  void acceptCallers(listener);
}

/** Connects each caller, until there are no more. */
export async function acceptCallers(arriving: AsyncIterable<Deno.Conn>): Promise<void> {
  let callers = 0;
  for await (const caller of arriving) {
    if (callers === MOST_CALLERS) {
      caller.close();
      continue;
    }
    callers++;
    void connect(caller).finally(() => callers--);
  }
}

/** One caller, from its line to the end of both directions. Never rejects. */
async function connect(caller: Deno.Conn): Promise<void> {
  using stack = new DisposableStack();
  stack.adopt(caller, closeQuietly);
  try {
    const timer = setTimeout(() => closeQuietly(caller), PATIENCE);
    let callee: Deno.Conn;
    try {
      callee = await dial(await requestedPort(caller));
    } catch (error) {
      await send(caller, `${error instanceof Error ? error.message.split("\n")[0] : error}\n`);
      return;
    } finally {
      clearTimeout(timer);
    }
    stack.adopt(callee, closeQuietly);
    await send(caller, "OK\n");
    await joined(caller, callee);
  } catch {
    // One of the two is gone, which the other one is told by the end of its connection.
  }
}

/** Loopback answers at once, unless the listener's queue is full: then Linux drops the SYN. */
async function dial(port: number): Promise<Deno.Conn> {
  return await Deno.connect({
    hostname: "127.0.0.1",
    port,
    signal: AbortSignal.timeout(PATIENCE),
  });
}

async function requestedPort(caller: Deno.Conn): Promise<number> {
  const line = await readLine(caller, MOST_REQUEST) ?? "";
  const port = Number(line);
  if (!/^[1-9]\d*$/.test(line) || port > 65535) throw new RangeError("no port was named");
  return port;
}

async function send(conn: Deno.Conn, text: string): Promise<void> {
  await writeAll(conn, new TextEncoder().encode(text));
}

/**
 * Passes bytes on in both directions until both have ended; the end of one is passed on as such.
 *
 * @throws when one of the two fails: both are of no use then
 */
export async function joined(a: Deno.Conn, b: Deno.Conn): Promise<void> {
  const one = pass(a, b);
  const other = pass(b, a);
  try {
    await Promise.all([one, other]);
  } catch (error) {
    closeQuietly(a);
    closeQuietly(b);
    await Promise.allSettled([one, other]);
    throw error;
  }
}

/** Back-pressure comes by itself: nothing is read before the piece before it was taken. */
async function pass(from: Deno.Conn, to: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(PIECE);
  for (let size = await from.read(buffer); size !== null; size = await from.read(buffer)) {
    await writeAll(to, buffer.subarray(0, size));
  }
  await to.closeWrite();
}
