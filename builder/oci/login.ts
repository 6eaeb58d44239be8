/**
 * Answering a registry's challenge: HTTP Basic (RFC 7617), and the tokens of the distribution
 * project's token services, which the registry names.
 *
 * @module
 */
import { hostAddress } from "../../base/addresses.ts";
import { CloudletError } from "../../base/errors.ts";
import { type Document, fetchDocument, type FetchOptions } from "../fetch.ts";
import type { Challenge } from "./challenge.ts";
import type { Credentials } from "./credentials.ts";

/** What answering a challenge takes. */
export interface LoginOptions {
  /** The registry, as in references. */
  readonly host: string;
  /** Who we are there. */
  readonly credentials: Credentials | undefined;
  /** What a token is for. */
  readonly scope: string;
  /** Whether the registry speaks https. */
  readonly secure: boolean;
  /** Hosts whose token services may get the logins of registries elsewhere. */
  readonly tokenServices: readonly string[];
  /** How persistent fetching is. */
  readonly fetching: FetchOptions;
  /** Makes a request, and follows redirects. */
  readonly send: (url: string, init: RequestInit) => Promise<Response>;
}

const MAX_TOKEN = 1024 * 1024; // bytes of a token service's answer
const CLIENT_ID = "cloudlet";

/**
 * The value of the Authorization field that challenges ask for; undefined when we have none.
 *
 * @throws {CloudletError} `denied`, `untrusted`, `unavailable`, `cancelled`
 */
export async function authorizationFor(
  challenges: readonly Challenge[],
  options: LoginOptions,
): Promise<string | undefined> {
  const bearer = challenges.find(({ scheme }) => scheme === "bearer");
  if (bearer !== undefined) return `Bearer ${await tokenFrom(bearer, options)}`;
  const { credentials } = options;
  const basic = challenges.some(({ scheme }) => scheme === "basic");
  if (!basic || credentials?.kind !== "password") return undefined;
  return basicAuthorization(credentials);
}

/**
 * Whether a token service may get the login of a registry: on the same host, on one above or below
 * it in the domain name system, which has the same owner, or on one that the user lists.
 */
export function mayGetLogin(
  registry: string,
  service: string,
  listed: readonly string[] = [],
): boolean {
  const [own, other] = [registry, service].map((host) => new URL(`http://${host}`).hostname);
  if (own === other || listed.includes(service) || listed.includes(other!)) return true;
  if (hostAddress(own!) !== undefined || hostAddress(other!) !== undefined) return false;
  const isBelow = (below: string, above: string) =>
    above.includes(".") && below.endsWith(`.${above}`);
  return isBelow(own!, other!) || isBelow(other!, own!);
}

async function tokenFrom({ parameters }: Challenge, options: LoginOptions): Promise<string> {
  const { host, scope } = options;
  const refuse = (why: string, code: "untrusted" | "denied" = "untrusted", remedy?: string) =>
    new CloudletError(`Cannot log in to the registry ${host}: ${why}`, {
      code,
      remedy: remedy ??
        (code === "denied"
          ? "log in with a tool that writes docker's config.json, or remove the old login"
          : "report it to the operator of the registry"),
    });
  const realm = parameters.get("realm") ?? "";
  if (!URL.canParse(realm)) throw refuse("its token service has no URL");
  const endpoint = new URL(realm);
  if (endpoint.protocol !== "https:" && (endpoint.protocol !== "http:" || options.secure)) {
    throw refuse("its token service does not speak https");
  }
  const isOwn = mayGetLogin(host, endpoint.host, options.tokenServices);
  const kept = options.credentials !== undefined && !isOwn;
  // Without the login, what everybody may read can still be read.
  const credentials = kept ? undefined : options.credentials;
  const query = new URLSearchParams({ scope: parameters.get("scope") ?? scope });
  const service = parameters.get("service");
  if (service !== undefined) query.set("service", service);
  let init: RequestInit;
  if (credentials?.kind === "identity") {
    query.set("grant_type", "refresh_token");
    query.set("refresh_token", credentials.token);
    query.set("client_id", CLIENT_ID);
    init = { method: "POST", body: query };
  } else {
    for (const [name, value] of query) endpoint.searchParams.append(name, value);
    init = {
      headers: credentials === undefined ? {} : { authorization: basicAuthorization(credentials) },
    };
  }
  const found = await fetchDocument(endpoint.href, MAX_TOKEN, {
    ...options.fetching,
    send: (url, { signal }) => options.send(url, { ...init, signal: signal ?? null }),
    explain(status) {
      if (status !== 400 && status !== 401 && status !== 403) return undefined;
      if (!kept) {
        return refuse(
          `its token service refuses ${credentials ? "the login" : "us"} (${status})`,
          "denied",
        );
      }
      return refuse(
        `its token service refuses us (${status}), and did not get the login, ` +
          `since it is on another host, ${endpoint.host}`,
        "denied",
        `if both have the same owner, add "${endpoint.host}" to [registry] token_services of ` +
          "the settings",
      );
    },
  });
  const token = tokenOf(found);
  if (token === undefined) throw refuse("its token service gives no token");
  return token;
}

function basicAuthorization(credentials: Credentials & { kind: "password" }): string {
  const { username, password } = credentials;
  return `Basic ${new TextEncoder().encode(`${username}:${password}`).toBase64()}`;
}

function tokenOf(document: Document | undefined): string | undefined {
  if (document === undefined) return undefined;
  try {
    const answer = JSON.parse(new TextDecoder().decode(document.bytes));
    const token = answer?.token ?? answer?.access_token;
    // RFC 6750 2.1: b64token; nothing that could end the header field
    return typeof token === "string" && /^[\x21-\x7e]+$/.test(token) ? token : undefined;
  } catch {
    return undefined;
  }
}
