/**
 * `fetch` that dials the very address that was judged.
 *
 * Deno's fetch resolves a name by itself, and a name may mean another address a moment later (DNS
 * rebinding). Here a name is resolved once, its addresses are judged, and one of them is dialled;
 * TLS is still asked for the name.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { Agent, type IncomingMessage, request as httpRequest } from "node:http";
import { Duplex, Readable } from "node:stream";
import { type AddressKind, hostAddress } from "../../base/addresses.ts";
import { CloudletError } from "../../base/errors.ts";
import { checkAddress, isListed, type RegistryPolicy } from "./policy.ts";

/** How a {@linkcode PinnedFetch} finds and judges addresses; tests give their own. */
export interface PinnedOptions {
  /** Certificates (PEM) that are trusted besides those of the system. */
  readonly certificates?: readonly string[] | undefined;
  /** The addresses of a name; the system's resolver when absent. */
  readonly resolve?: ((name: string) => Promise<readonly string[]>) | undefined;
  /** What an address is for; by IANA's registries when absent. */
  readonly kindOf?: ((address: string) => AddressKind | undefined) | undefined;
  /** Variables of the environment; the process's when absent. */
  readonly environment?: ((name: string) => string | undefined) | undefined;
}

/** Milliseconds for one address, when a name has several. */
const CONNECT_TIMEOUT = 10_000;
const MAX_ADDRESSES = 4;
/** Statuses whose responses have no body (the Fetch standard: null body status). */
const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

async function systemAddresses(name: string): Promise<string[]> {
  return (await lookup(name, { all: true })).map(({ address }) => address);
}

/** See the module. */
export class PinnedFetch {
  readonly #policy: RegistryPolicy;
  readonly #options: PinnedOptions;
  /** By name: the first answer holds. */
  readonly #addresses = new Map<string, Promise<readonly string[]>>();

  /** @param policy what may be dialled */
  constructor(policy: RegistryPolicy, options: PinnedOptions = {}) {
    this.#policy = policy;
    this.#options = options;
  }

  /**
   * Makes a request; follows no redirect.
   *
   * @throws {CloudletError} `denied` for an address that is not public, of a host that is not listed
   * @throws {TypeError} when the server cannot be reached, as `fetch` does
   */
  async fetch(url: URL, init: RequestInit & { client?: Deno.HttpClient }): Promise<Response> {
    if (this.#isProxied(url)) {
      // The proxy dials in place of this host, and so nothing is known of the address.
      if (isListed(this.#policy, url)) return await fetch(url, { ...init, redirect: "manual" });
      throw new CloudletError(
        `Cannot pull from ${url.host}: a proxy fetches from there, so its address is not known`,
        {
          code: "denied",
          remedy: `ask the operator to add "${url.host}" to [registry] allowed of the settings`,
        },
      );
    }
    const addresses = await this.#judged(url);
    for (let i = 0;; i++) {
      const last = i === addresses.length - 1;
      let connection: Deno.Conn;
      try {
        connection = await this.#connect(url, addresses[i]!, init.signal, last);
      } catch (cause) {
        init.signal?.throwIfAborted();
        if (last) throw new TypeError("fetch failed", { cause });
        continue;
      }
      return await exchange(connection, url, init);
    }
  }

  /** Whether the environment names a proxy for a URL; its exceptions do not matter here. */
  #isProxied({ protocol }: URL): boolean {
    const { environment = (name) => Deno.env.get(name) } = this.#options;
    return [`${protocol.slice(0, -1)}_proxy`, "all_proxy"]
      .some((name) => environment(name) || environment(name.toUpperCase()));
  }

  /** The addresses of a URL that may be dialled, at least one. */
  async #judged(url: URL): Promise<readonly string[]> {
    const { resolve = systemAddresses, kindOf } = this.#options;
    const { hostname } = url;
    const literal = hostAddress(hostname);
    let pending = literal === undefined
      ? this.#addresses.get(hostname)
      : Promise.resolve([literal]);
    if (pending === undefined) {
      pending = resolve(hostname).catch((cause) => {
        this.#addresses.delete(hostname); // the next attempt asks again
        throw new TypeError("fetch failed", { cause });
      });
      this.#addresses.set(hostname, pending);
    }
    const addresses = (await pending).slice(0, MAX_ADDRESSES);
    if (addresses.length === 0) {
      throw new TypeError("fetch failed", { cause: new Error(`${hostname} has no address`) });
    }
    if (!isListed(this.#policy, url)) {
      for (const address of addresses) checkAddress(address, url.host, kindOf);
    }
    return addresses;
  }

  async #connect(
    { protocol, hostname, port }: URL,
    address: string,
    signal: AbortSignal | null | undefined,
    last: boolean,
  ): Promise<Deno.Conn> {
    const secure = protocol === "https:";
    const signals = [
      ...signal ? [signal] : [],
      ...last ? [] : [AbortSignal.timeout(CONNECT_TIMEOUT)],
    ];
    const connection = await Deno.connect({
      hostname: address,
      port: Number(port || (secure ? 443 : 80)),
      ...(signals.length > 0 && { signal: AbortSignal.any(signals) }),
    });
    if (!secure) return connection;
    const abort = () => connection.close();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const tls = await Deno.startTls(connection, {
        hostname: hostname.replace(/^\[(.*)\]$/, "$1"),
        caCerts: [...this.#options.certificates ?? []],
      });
      try {
        await tls.handshake();
      } catch (error) {
        tls.close();
        throw error;
      }
      return tls;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }
}

/** One request over a connection, which belongs to the response afterwards. */
function exchange(connection: Deno.Conn, url: URL, init: RequestInit): Promise<Response> {
  const stream = Duplex.fromWeb(connection as unknown as Parameters<typeof Duplex.fromWeb>[0]);
  const headers = new Headers(init.headers);
  headers.set("host", url.host);
  headers.set("user-agent", "cloudlet");
  if (!headers.has("accept")) headers.set("accept", "*/*");
  const body = init.body instanceof URLSearchParams ? String(init.body) : undefined;
  if (body !== undefined) headers.set("content-type", "application/x-www-form-urlencoded");
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = httpRequest({
    method: init.method ?? "GET",
    path: url.pathname + url.search,
    headers: Object.fromEntries(headers),
    agent: agentOf(stream),
    ...(init.signal && { signal: init.signal }),
  });
  request.once("response", resolve);
  request.once("error", reject);
  request.end(body);
  return promise.then(toResponse).catch((cause) => {
    stream.destroy();
    init.signal?.throwIfAborted();
    throw new TypeError("fetch failed", { cause });
  });
}

/** An agent of one connection. */
function agentOf(stream: Duplex): Agent {
  const agent = new Agent({ keepAlive: false });
  agent.createConnection = () => stream;
  return agent;
}

function toResponse(message: IncomingMessage): Response {
  const { statusCode: status = 0, rawHeaders } = message;
  const headers = new Headers();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    headers.append(rawHeaders[i]!, rawHeaders[i + 1]!);
  }
  if (BODILESS.has(status)) {
    message.resume();
    return new Response(null, { status, headers });
  }
  const body = Readable.toWeb(message) as unknown as ReadableStream<Uint8Array<ArrayBuffer>>;
  return new Response(body, { status, headers, statusText: message.statusMessage ?? "" });
}
