/**
 * What programs do in the guest of world.ts: `guest_program.ts COMMAND ARGUMENT...`; prints JSON.
 *
 * @module
 */
import { readPattern, sendPattern } from "./pattern.ts";

const [command, ...args] = Deno.args;
const SERVER = "203.0.113.7";
const NEWLINE = 10;

async function connect(port: number, hostname = SERVER): Promise<Deno.TcpConn> {
  return await Deno.connect({ hostname, port });
}

const COMMANDS: Record<string, () => Promise<unknown>> = {
  /** Reads what the server of a port sends. */
  async down() {
    const connection = await connect(Number(args[0]));
    const start = performance.now();
    const bytes = await readPattern(connection);
    connection.close();
    return { bytes, ms: performance.now() - start };
  },
  /** Sends so many bytes; the server answers with how many came. */
  async up() {
    const connection = await connect(Number(args[0]));
    const start = performance.now();
    await sendPattern(connection, Number(args[1]));
    await connection.closeWrite();
    const answer = new TextDecoder().decode(await readLine(connection));
    connection.close();
    return { bytes: Number(answer), ms: performance.now() - start };
  },
  /** So many connections at once, each with some bytes both ways. */
  async many() {
    const [port, count, bytes] = args.map(Number) as [number, number, number];
    const each = async () => {
      const connection = await connect(port);
      const reading = readPattern(connection);
      await sendPattern(connection, bytes);
      await connection.closeWrite();
      const read = await reading;
      connection.close();
      return read;
    };
    const start = performance.now();
    const all = await Promise.all(Array.from({ length: count }, each));
    return { bytes: all.reduce((a, b) => a + b, 0), ms: performance.now() - start };
  },
  /** So many connections one after the other, a few at a time. */
  async churn() {
    const [port, count, lanes] = args.map(Number) as [number, number, number];
    let left = count;
    let done = 0;
    const lane = async () => {
      while (left-- > 0) {
        const connection = await connect(port);
        await connection.write(Uint8Array.of(7));
        const answer = new Uint8Array(4);
        const count = await connection.read(answer);
        if (count === 1 && answer[0] === 7) done++;
        connection.close();
      }
    };
    const start = performance.now();
    await Promise.all(Array.from({ length: lanes }, lane));
    return { done, ms: performance.now() - start };
  },
  /** The median of so many connects, in milliseconds. */
  async connects() {
    const times: number[] = [];
    for (let i = 0; i < Number(args[1]); i++) {
      const start = performance.now();
      const connection = await connect(Number(args[0]));
      times.push(performance.now() - start);
      connection.close();
    }
    return { ms: times.sort((a, b) => a - b)[times.length >> 1] };
  },
  /** Addresses of a name, or how the look-up ends. */
  async resolve() {
    const nameServer = { ipAddr: args[0]!, port: 53 };
    try {
      return { addresses: await Deno.resolveDns(args[1]!, "A", { nameServer }) };
    } catch (error) {
      return { error: (error as Error).name };
    }
  },
  /** How connecting ends: 0 for well. */
  async connect() {
    const start = performance.now();
    let code: string | undefined;
    try {
      (await connect(Number(args[1]), args[0])).close();
    } catch (error) {
      code = (error as { code?: string }).code ?? String(error);
    }
    return { code: code ?? "ok", ms: performance.now() - start };
  },
};

/** Reads a line. */
async function readLine(connection: Deno.TcpConn): Promise<Uint8Array> {
  const bytes: number[] = [];
  const buffer = new Uint8Array(4096);
  for (;;) {
    const count = bytes.at(-1) === NEWLINE ? null : await connection.read(buffer);
    if (count === null) return Uint8Array.from(bytes);
    bytes.push(...buffer.subarray(0, count));
  }
}

console.log(JSON.stringify(await COMMANDS[command!]!()));
