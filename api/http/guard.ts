/**
 * Who may reach the routes that manage runs, on every port: decided by a request's head, before
 * anything of its body is read.
 *
 * A program on this host, such as curl, may; so may a page that the server itself served. A page of
 * another origin in a browser on this host may not, although the browser would send its request:
 *
 * - The browser says where an unsafe request comes from (Fetch Metadata, Origin); a page cannot
 *   change that.
 * - A page that reaches the server through a name of its own (DNS rebinding) sends that name.
 *
 * Ports and routes of what runs in a microVM are not managed with, and this is not for them.
 *
 * @module
 */
import type { RequestHead } from "../../service/server.ts";
import type { Keys } from "./keys.ts";
import { HttpError } from "./problem.ts";

/** Whom a {@linkcode Guard} lets in. */
export interface GuardOptions {
  /** The keys that are taken; without them no request needs one. */
  readonly keys?: Keys | undefined;
  /** Names that a request may call the server by; any when absent. */
  readonly hosts?: ReadonlySet<string> | undefined;
  /** Paths that need no key. */
  readonly open?: ReadonlySet<string> | undefined;
}

/** Throws for a request that is not let in. */
export type Guard = (head: RequestHead) => void;

/** RFC 9110 section 9.2.1: methods that change nothing. */
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);
/** Values of Sec-Fetch-Site with which no other page is behind a request. */
const OWN_SITE: ReadonlySet<string> = new Set(["same-origin", "none"]);

/**
 * Makes a guard.
 *
 * @returns a function that throws an {@linkcode HttpError}: 421 for a name that is not the server's,
 *   403 for an unsafe request of another origin's page, 401 without a known key
 */
export function makeGuard({ keys, hosts, open }: GuardOptions): Guard {
  return (head) => {
    checkHost(head, hosts);
    checkOrigin(head);
    if (!open?.has(head.path)) keys?.check(head.field("authorization"));
  };
}

/**
 * Names under which a server is known that listens on `hostname`: without keys it answers to no
 * others.
 */
export function ownNames(hostname: string): ReadonlySet<string> {
  const name = hostname.toLowerCase();
  return new Set(["localhost", "127.0.0.1", "[::1]", name.includes(":") ? `[${name}]` : name]);
}

function checkHost({ authorities }: RequestHead, hosts: ReadonlySet<string> | undefined): void {
  if (hosts === undefined) return;
  const names = authorities.map((authority) => authority.replace(/:\d*$/, "").toLowerCase());
  const foreign = names.find((name) => !hosts.has(name));
  if (names.length > 0 && foreign === undefined) return;
  throw new HttpError(
    421,
    `Cannot serve the request: this server is not ${JSON.stringify(foreign ?? "")}`,
    "use the address that the server printed, or give it API keys",
  );
}

function checkOrigin(head: RequestHead): void {
  if (SAFE.has(head.method) && head.field("upgrade") === undefined) return;
  const origin = head.field("origin");
  const site = head.field("sec-fetch-site");
  const own = origin === undefined
    ? site === undefined || OWN_SITE.has(site)
    : isOwn(origin, head.authorities) && site !== "cross-site";
  if (own) return;
  throw new HttpError(
    403,
    "Cannot serve the request: it comes from a page of another origin",
    "use a page of the server itself, such as /docs, or a program that is no browser",
  );
}

/** Whether an Origin field names the host and port that the request is for. */
function isOwn(origin: string, authorities: readonly string[]): boolean {
  if (!URL.canParse(origin)) return false;
  const { protocol, host } = new URL(origin);
  if (protocol !== "http:" && protocol !== "https:") return false;
  // A proxy in front of the server may speak TLS, so the origin's scheme says what no port means.
  return authorities.length > 0 && authorities.every((authority) => {
    const own = `${protocol}//${authority}`;
    return URL.canParse(own) && new URL(own).host === host;
  });
}
