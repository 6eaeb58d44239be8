/**
 * Runs one scenario below `unshare`; prints its result as JSON: `scenario.ts NAME`.
 *
 * @module
 */
import { echo, receive, send, Server } from "./servers.ts";
import { makeInternet, World, type WorldOptions } from "./world.ts";

const MB = 1_000_000;
const megabytes = (count: { bytes: number; ms: number }) => count.bytes / MB / (count.ms / 1000);

async function traffic(options: WorldOptions, bytes: number) {
  await using world = await World.start(options);
  using _down = new Server(8001, (connection) => send(connection, bytes));
  using _up = new Server(8002, async (connection) => {
    const count = await receive(connection);
    await connection.write(new TextEncoder().encode(String(count)));
  });
  const down = await world.guest("down", 8001);
  const up = await world.guest("up", 8002, bytes);
  const speed = { down: megabytes(down as never), up: megabytes(up as never) };
  const sizes = { down: down.bytes, up: up.bytes };
  await world.until(({ connections }) => connections === 0);
  return {
    speed,
    sizes,
    retransmitted: await world.retransmitted(),
    counters: await world.counters(),
  };
}

const SCENARIOS: Record<string, () => Promise<unknown>> = {
  small: () => traffic({}, 20 * MB),
  large: () => traffic({}, 100 * MB),
  async connect() {
    await using world = await World.start();
    using _server = new Server(8003, echo);
    const open = await world.guest("connect", "203.0.113.7", 8003);
    const closed = await world.guest("connect", "203.0.113.7", 8004);
    return { open, closed };
  },
};

await makeInternet();
console.log(JSON.stringify(await SCENARIOS[Deno.args[0]!]!()));
Deno.exit(0);
