/**
 * An internet of documentation addresses in a network namespace of the test's own: nothing that is sent
 * leaves it. For programs that run below `unshare --map-root-user --net`.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { DnsCode, emitAnswer, parseQuestion } from "../../vmm/net/wire/dns.ts";
import { parseAddress } from "../../vmm/net/wire/ipv4.ts";

/** Addresses of loopback that no interface has, so that none is in the floor. */
export const INTERNET = ["203.0.113.0/24", "198.51.100.0/24"];
/** Where the resolver of this internet is. */
export const RESOLVER = "198.51.100.53";

/** Runs a command to its end; returns what it printed. */
export async function command(program: string, ...args: string[]): Promise<string> {
  const output = await new Deno.Command(program, { args, stdin: "null" }).output();
  const decoder = new TextDecoder();
  assert(output.success, `${program} ${args.join(" ")}: ${decoder.decode(output.stderr)}`);
  return decoder.decode(output.stdout);
}

/** Prepares this namespace to be the internet; once. */
export async function makeInternet(): Promise<void> {
  // Root of the machine would change its own network.
  const links = (await command("ip", "-o", "link")).trim().split("\n");
  assert.equal(links.length, 1, "this is for a network namespace of its own");
  await command("ip", "link", "set", "lo", "up");
  for (const network of INTERNET) {
    await command("ip", "route", "add", "local", network, "dev", "lo");
  }
}

/** A resolver that knows some names. */
export class NameServer implements AsyncDisposable {
  /** Names that were asked for, in their order. */
  readonly asked: string[] = [];
  readonly #socket;

  /** @param zone addresses of a name, or of the so-manieth question for it, which have no lifetime */
  constructor(zone: Readonly<Record<string, readonly string[] | ((time: number) => string[])>>) {
    const times = new Map<string, number>();
    this.#socket = createSocket("udp4", (message, from) => {
      const question = parseQuestion(message);
      if (question === undefined) return;
      const { name } = question;
      this.asked.push(name);
      const known = zone[name];
      const time = times.get(name) ?? 0;
      times.set(name, time + 1);
      const addresses = typeof known === "function" ? known(time) : known;
      const records = (addresses ?? []).map((text) => ({ address: parseAddress(text)!, ttl: 0 }));
      const code = addresses === undefined ? DnsCode.NAME_ERROR : DnsCode.NO_ERROR;
      this.#socket.send(emitAnswer(question, code, records), from.port, from.address);
    });
  }

  /** Begins to answer. */
  async start(): Promise<this> {
    this.#socket.bind(53, RESOLVER);
    await once(this.#socket, "listening");
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    await once(this.#socket, "close");
  }
}
