/**
 * Runs scenarios below `unshare --map-root-user --net`, one after the other; prints what came of each
 * as a line of JSON: `scenario.ts NAME...`.
 *
 * @module
 */
import assert from "node:assert/strict";
import { INTERNET, makeInternet, NameServer } from "./internet.ts";
import { readPattern } from "./pattern.ts";
import { echo, send, Server } from "./servers.ts";
import { ruleFor, World, type WorldOptions } from "./world.ts";

const MB = 1_000_000;
const SERVER = "203.0.113.7";

interface Traffic {
  readonly bytes: number;
  readonly ms: number;
}

const speed = ({ bytes, ms }: Traffic) => Math.round(bytes / MB / (ms / 1000));

/** Bytes down and up; each is checked by whoever gets it. */
async function traffic(options: WorldOptions, bytes: number) {
  await using world = await World.start(options);
  const down = await download(world, bytes);
  const up = await upload(world, bytes);
  assert.deepEqual([down.bytes, up.bytes], [bytes, bytes]);
  await world.until(({ connections }) => connections === 0);
  const { retransmitted, ...counters } = await world.ended();
  return { down: speed(down), up: speed(up), retransmitted, ...counters };
}

async function download(world: World, bytes: number): Promise<Traffic> {
  using _server = new Server(8001, (connection) => send(connection, bytes));
  return await world.guest("down", 8001) as unknown as Traffic;
}

async function upload(world: World, bytes: number): Promise<Traffic> {
  using _server = new Server(8002, async (connection) => {
    const count = await readPattern(connection);
    await connection.write(new TextEncoder().encode(`${count}\n`));
  });
  return await world.guest("up", 8002, bytes) as unknown as Traffic;
}

/** So many connections at once, with bytes both ways on each. */
async function many(count: number, bytes: number, options: WorldOptions = {}) {
  await using world = await World.start(options);
  using _server = new Server(8003, echo);
  const got = await world.guest("many", 8003, count, bytes) as unknown as Traffic;
  assert.equal(got.bytes, count * bytes);
  await world.until(({ connections }) => connections === 0);
  return await world.ended();
}

/** So many connections one after the other. */
async function churn(count: number) {
  await using world = await World.start();
  using _server = new Server(8004, echo);
  await world.guest("churn", 8004, 100, 8);
  await world.until(({ connections }) => connections === 0);
  const before = world.descriptors();
  const { done, ms } = await world.guest("churn", 8004, count, 8);
  assert.equal(done, count);
  await world.until(({ connections, bytesWaiting }) => connections === 0 && bytesWaiting === 0);
  // The server is in this process as well: it closes its ends a moment later, and Deno's runtime keeps
  // a few sockets of its own, however many connections there were.
  const left = () => world.descriptors() - before;
  for (let i = 0; i < 100 && left() > 0; i++) await new Promise((go) => setTimeout(go, 20));
  assert(left() <= 4, `${left()} descriptors are left of ${count} connections`);
  return { perSecond: Math.round(count / (ms! / 1000)), ...await world.ended() };
}

async function connect(world: World, address: string, port: number) {
  const { code, ms } = await world.guest("connect", address, port);
  assert(ms! < 1000, `connecting to ${address} took ${ms} ms`); // a SYN is sent again after a second
  return code;
}

/** Speeds of one after the other, as often as asked: MB/s, and milliseconds to connect. */
async function measure(options: WorldOptions, bytes: number) {
  await using world = await World.start(options);
  const down = speed(await download(world, bytes));
  const up = speed(await upload(world, bytes));
  using _server = new Server(8003, echo);
  const { ms } = await world.guest("connects", 8003, 200);
  return { down, up, connect: ms as number, retransmitted: await world.retransmitted() };
}

const SCENARIOS: Record<string, () => Promise<unknown>> = {
  small: () => traffic({}, 10 * MB),
  large: () => traffic({}, 100 * MB),
  "large-mtu": () => traffic({ mtu: 65_520 }, 100 * MB),
  "without-segments": () => traffic({ segments: false }, 5 * MB),
  "without-peek-offset": () => traffic({ peekOffset: false }, 10 * MB),
  "bad-cable": () => traffic({ faults: { lost: 0.02, twice: 0.02, late: 0.02, seed: 1 } }, 3 * MB),
  "worse-cable": () =>
    traffic({ faults: { lost: 0.05, twice: 0.05, late: 0.1, seed: Date.now() } }, 5 * MB),
  many: () => many(300, 20_000),
  "many-bad": () => many(100, 20_000, { faults: { lost: 0.02, twice: 0.02, late: 0.05, seed: 7 } }),
  churn: () => churn(300),
  "churn-long": () => churn(10_000),

  "measure-stack": () => measure({}, 100 * MB),
  "measure-stack-large-mtu": () => measure({ mtu: 65_520 }, 100 * MB),
  "measure-passt": () => measure({ passt: true }, 100 * MB),
  "measure-passt-large-mtu": () => measure({ passt: true, mtu: 65_520 }, 100 * MB),

  /** Names by way of the guest's own resolver library, ping, and what a program is told. */
  async manners() {
    const policy = { rules: [ruleFor(INTERNET[0]!)], otherwise: "deny" } as const;
    await using world = await World.start({ policy });
    using _server = new Server(8005, echo);
    const codes = [
      await connect(world, SERVER, 8005),
      await connect(world, SERVER, 8006), // nobody listens
      await connect(world, "198.51.100.7", 80), // denied
      await connect(world, "10.0.2.2", 80), // this host, without a rule
      await connect(world, "127.0.0.1", 8005), // the guest's own
    ];
    await world.shell("ping -c 2 -W 5 -i 0.2 10.0.2.2").catch((error) => {
      if (!/not found|No such file/.test(String(error))) throw error;
    });
    return {
      codes,
      events: world.events.map(({ what, address, name }) => [what, address ?? name]),
    };
  },

  /** Nothing may be: everything fails at once, and no socket is made. */
  async none() {
    await using world = await World.start({ policy: undefined });
    using _server = new Server(8005, echo);
    const codes = [await connect(world, SERVER, 8005), await connect(world, "10.0.2.2", 8005)];
    const { connectionsOpened, flows } = await world.counters();
    return { codes, connectionsOpened, flows };
  },

  /** A name that a rule allows, from the guest's resolver to the server. */
  async names() {
    const target = { kind: "name", name: "api.example.com", subdomains: false } as const;
    const rules = [{ action: "allow", target, text: "api.example.com" }] as const;
    await using world = await World.start({ policy: { rules, otherwise: "deny" } });
    await using dns = await new NameServer({ "api.example.com": [SERVER] }).start();
    using _server = new Server(8005, echo);
    const lookUp = (name: string) => world.guest("resolve", "10.0.2.2", name);
    const before = await connect(world, SERVER, 8005);
    const found = await lookUp("api.example.com");
    const after = await connect(world, SERVER, 8005);
    const other = await lookUp("evil.example.com");
    return { before, found, after, other, asked: dns.asked };
  },
};

await makeInternet();
for (const name of Deno.args) {
  console.log(JSON.stringify({ name, result: await SCENARIOS[name]!() }));
}
Deno.exit(0);
