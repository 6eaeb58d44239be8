/**
 * The client of one registry: the OCI distribution specification 1.1, "Pull", with the token
 * authentication of the distribution project and HTTP Basic (RFC 7617).
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { isLoopback } from "../../base/addresses.ts";
import { fetchDocument, type FetchOptions, networkReason } from "../fetch.ts";
import { fetchFile } from "../fetch_file.ts";
import { parseChallenges } from "./challenge.ts";
import { type Credentials, findCredentials } from "./credentials.ts";
import { digestOfBytes, parseDigest } from "./digest.ts";
import { ACCEPTED_TYPES, type Descriptor, MAX_DOCUMENT } from "./manifest.ts";
import { authorizationFor } from "./login.ts";
import { PinnedFetch, type PinnedOptions } from "./pinned_fetch.ts";
import type { RegistryPolicy } from "./policy.ts";
import { DEFAULT_HOST } from "./reference.ts";

/** How a registry is reached. */
export interface RegistryOptions {
  /** Whether http will do, besides for hosts of the loopback network. */
  readonly insecure?: boolean;
  /** Certificates (PEM) that are trusted besides those of the system. */
  readonly certificates?: readonly string[];
  /** What may be asked for a client; whatever the caller likes when absent. */
  readonly policy?: RegistryPolicy | undefined;
  /** How addresses are found, where there is a policy. */
  readonly pinned?: PinnedOptions | undefined;
  /** Hosts whose token services may get the logins of registries elsewhere. */
  readonly tokenServices?: readonly string[] | undefined;
  /** Who we are there; as docker knows it when absent. */
  readonly credentials?: (host: string) => Promise<Credentials | undefined>;
  /** Ends the work early. */
  readonly signal?: AbortSignal | undefined;
  /** How persistent fetching is. */
  readonly fetch?: Pick<FetchOptions, "attempts" | "backoff" | "timeout"> | undefined;
}

/** A manifest or an index as a registry has it. */
export interface RegistryDocument {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** `sha256:HEX` of the bytes. */
  readonly digest: string;
  /** What the registry says that it is. */
  readonly mediaType: string | undefined;
}

/** A response, and who gave it after all redirects. */
interface Answer {
  readonly response: Response;
  readonly origin: string;
}

/** Where the registry of names without a host answers. */
const DEFAULT_API = "registry-1.docker.io";
const MAX_REDIRECTS = 5;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const PING_TIMEOUT = 15_000; // milliseconds

/** A registry; see the module. */
export class Registry implements Disposable {
  /** As in references. */
  readonly host: string;
  readonly #options: RegistryOptions;
  readonly #client: Deno.HttpClient | undefined;
  readonly #pinned: PinnedFetch | undefined;
  #base: Promise<string> | undefined;
  #found: Promise<Credentials | undefined> | undefined;
  /** Values of the Authorization field by scope. */
  readonly #authorizations = new Map<string, Promise<string | undefined>>();

  /** Asks nobody anything yet. */
  constructor(host: string, options: RegistryOptions = {}) {
    this.host = host;
    this.#options = options;
    const { certificates = [], policy, pinned } = options;
    this.#pinned = policy && new PinnedFetch(policy, { certificates, ...pinned });
    this.#client = certificates.length === 0
      ? undefined
      : Deno.createHttpClient({ caCerts: [...certificates] });
  }

  /**
   * A manifest or an index.
   *
   * @param reference tag or digest
   * @throws {CloudletError} `not-found`, `denied`, `unavailable`, `untrusted`, `cancelled`
   */
  async manifest(repository: string, reference: string): Promise<RegistryDocument> {
    const url = `${await this.#baseUrl()}/v2/${repository}/manifests/${reference}`;
    const found = await fetchDocument(
      url,
      MAX_DOCUMENT,
      this.#fetching(repository, { accept: ACCEPTED_TYPES.join(", ") }),
    );
    const name = `${this.host}/${repository}`;
    if (found === undefined) {
      throw new CloudletError(
        `Cannot find the image ${name} ${reference}: the registry has no such image`,
        { code: "not-found", remedy: "check the name and the tag" },
      );
    }
    const digest = digestOfBytes(found.bytes);
    const told = found.headers.get("docker-content-digest");
    const expected = parseDigest(reference) === undefined ? told : reference;
    if (expected !== null && parseDigest(expected) !== undefined && expected !== digest) {
      throw new CloudletError(
        `Cannot trust ${url}: its digest is ${digest}, expected is ${expected}`,
        { code: "untrusted", remedy: "try again later; if it persists, report it to the registry" },
      );
    }
    return {
      bytes: found.bytes,
      digest,
      mediaType: found.headers.get("content-type") ?? undefined,
    };
  }

  /**
   * Fetches a blob, going on where an earlier attempt ended.
   *
   * @param goal path that the checked blob gets
   * @param signal ends the work early
   * @param advance told how many bytes have come in
   * @throws {CloudletError} `not-found`, `denied`, `unavailable`, `untrusted`, `host`, `cancelled`
   */
  async blob(
    repository: string,
    { digest, size }: Descriptor,
    goal: string,
    signal?: AbortSignal,
    advance: (bytes: number) => void = () => {},
  ): Promise<void> {
    const url = `${await this.#baseUrl()}/v2/${repository}/blobs/${digest}`;
    const expected = { size, sha256: parseDigest(digest)! };
    const options = this.#fetching(repository, {}, signal);
    if (!(await fetchFile(url, goal, expected, options, advance))) {
      throw new CloudletError(`Cannot fetch ${url}: the registry lacks this part of the image`, {
        code: "not-found",
        remedy: "push the image again, or use another one",
      });
    }
  }

  /** Ends connections. */
  [Symbol.dispose](): void {
    this.#client?.close();
  }

  #fetching(
    repository: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined = this.#options.signal,
  ): FetchOptions {
    return {
      ...this.#options.fetch,
      signal,
      send: (url, init) => this.#send(repository, url, init, headers),
      explain: (status) => this.#explain(repository, status),
      remedy: `check the network and the name of the registry, ${this.host}`,
    };
  }

  #explain(repository: string, status: number): CloudletError | undefined {
    const name = `${this.host}/${repository}`;
    switch (status) {
      case 401:
        return new CloudletError(
          `Cannot pull ${name}: the registry wants to know who asks, or has no such image (401)`,
          {
            code: "denied",
            remedy: "check the name; log in with a tool that writes docker's config.json",
          },
        );
      case 403:
        return new CloudletError(`Cannot pull ${name}: the registry denies access (403)`, {
          code: "denied",
          remedy: "check the name; log in as somebody who may read it",
        });
      case 429:
        return new CloudletError(
          `Cannot pull ${name}: the registry has had too many requests from here (429)`,
          {
            code: "unavailable",
            remedy: "try again later, or log in: that often raises the limit",
          },
        );
      default:
        return new CloudletError(`Cannot pull ${name}: the registry answers ${status}`, {
          code: "unavailable",
          remedy: "try again later; check the name of the registry",
        });
    }
  }

  /** `https://HOST`, or `http://HOST` where that is allowed and nothing else is spoken. */
  #baseUrl(): Promise<string> {
    return this.#base ??= this.#findBase().catch((error) => {
      this.#base = undefined;
      throw error;
    });
  }

  async #findBase(): Promise<string> {
    const host = this.host === DEFAULT_HOST ? DEFAULT_API : this.host;
    const url = new URL(`https://${host}/v2/`);
    if (!isLoopback(url.hostname) && !this.#options.insecure) return `https://${host}`;
    const timeout = AbortSignal.timeout(this.#options.fetch?.timeout ?? PING_TIMEOUT);
    const { signal } = this.#options;
    try {
      const response = await this.#fetch(url, {
        signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
      });
      await response.body?.cancel();
      return `https://${host}`;
    } catch (cause) {
      signal?.throwIfAborted();
      if (cause instanceof CloudletError) throw cause;
      // A certificate is TLS: http would only fail with worse words.
      if (/certificate/i.test(networkReason(cause))) {
        throw new CloudletError(`Cannot reach the registry ${host}: ${networkReason(cause)}`, {
          code: "unavailable",
          remedy: "name its certificate authority in the settings, [registry] ca",
          cause,
        });
      }
      return `http://${host}`;
    }
  }

  /** One request, which follows no redirect. */
  #fetch(url: URL, init: RequestInit): Promise<Response> {
    const options = { ...init, ...(this.#client && { client: this.#client }) };
    if (this.#pinned !== undefined) return this.#pinned.fetch(url, options);
    return fetch(url, { ...options, redirect: "manual" });
  }

  /** Makes a request, and proves who we are when that is asked for. */
  async #send(
    repository: string,
    url: string,
    init: RequestInit,
    headers: Readonly<Record<string, string>>,
  ): Promise<Response> {
    const scope = `repository:${repository}:pull`;
    const used = this.#authorizations.get(scope);
    const attempt = (authorization: string | undefined) =>
      this.#follow(url, {
        ...init,
        headers: {
          ...init.headers as Record<string, string>,
          ...headers,
          ...(authorization === undefined ? {} : { authorization }),
        },
      });
    const { response, origin } = await attempt(await used?.catch(() => undefined));
    // Another host that the registry redirects to has no say in where the login goes.
    if (response.status !== 401 || origin !== new URL(url).origin) return response;
    const challenges = parseChallenges(response.headers.get("www-authenticate") ?? "");
    // Several requests may fail at once: the first one asks for a new token, the others get it.
    let next = this.#authorizations.get(scope);
    if (next === used) {
      next = this.#credentials().then((credentials) =>
        authorizationFor(challenges, {
          host: this.host,
          credentials,
          scope,
          secure: !url.startsWith("http:"),
          tokenServices: this.#options.tokenServices ?? [],
          fetching: { ...this.#options.fetch, signal: this.#options.signal },
          send: async (url, init) => (await this.#follow(url, init)).response,
        })
      );
      next.catch(() => {}); // whoever waits hears of it
      this.#authorizations.set(scope, next);
    }
    const authorization = await next;
    if (authorization === undefined) return response;
    await response.body?.cancel();
    return (await attempt(authorization)).response;
  }

  #credentials(): Promise<Credentials | undefined> {
    return this.#found ??= (this.#options.credentials ?? findCredentials)(this.host);
  }

  /** Follows redirects; credentials stay with the host that they are for. */
  async #follow(from: string, init: RequestInit): Promise<Answer> {
    let url = new URL(from);
    let headers = init.headers as Record<string, string> | undefined;
    for (let hops = 0;; hops++) {
      const response = await this.#fetch(url, { ...init, ...(headers && { headers }) });
      const location = response.headers.get("location");
      if (!REDIRECTS.has(response.status) || location === null) {
        return { response, origin: url.origin };
      }
      await response.body?.cancel();
      const refuse = (why: string) =>
        new CloudletError(`Cannot fetch ${from}: the registry redirects ${why}`, {
          code: "untrusted",
          remedy: "report it to whoever runs the registry",
        });
      if (hops === MAX_REDIRECTS) throw refuse(`more than ${MAX_REDIRECTS} times`);
      if (!URL.canParse(location, url)) throw refuse("to something that is no URL");
      const next = new URL(location, url);
      if (next.protocol !== "https:" && next.protocol !== url.protocol) {
        throw refuse(`from ${url.protocol} to ${next.protocol}`);
      }
      if (next.origin !== url.origin) {
        if (init.body) throw refuse("a login to another host");
        const { authorization: _, ...rest } = headers ?? {};
        headers = rest;
      }
      url = next;
    }
  }
}
