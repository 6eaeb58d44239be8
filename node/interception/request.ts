/**
 * A request of a guest with the values of its secrets, and the answer without them.
 *
 * @module
 */
import type { IncomingHttpHeaders } from "node:http";
import type { HostSecret } from "../network.ts";
import { type Replacement, replacement } from "./substitution.ts";

/** A secret, without its hosts. */
export type Secret = Pick<HostSecret, "placeholder" | "value">;

/** Header fields of one connection, not of the request (RFC 9110 section 7.6.1). */
const OF_THE_CONNECTION: ReadonlySet<string> = new Set([
  ...["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"],
  ...["http2-settings", "host", "expect"],
]);

/** How a value stands in a body. */
function inBody(contentType: string): (value: string) => string {
  if (/^application\/x-www-form-urlencoded\b/i.test(contentType)) return encodeURIComponent;
  if (/^application\/([\w.+-]+\+)?json\b/i.test(contentType)) {
    return (value) => JSON.stringify(value).slice(1, -1);
  }
  return (value) => value;
}

function replaceText(
  text: string,
  secrets: readonly Secret[],
  write: (value: string) => string = (value) => value,
): string {
  return secrets.reduce(
    (all, { placeholder, value }) => all.replaceAll(placeholder, () => write(value)),
    text,
  );
}

/** A header field's value; that of Basic authentication is behind base64 (RFC 7617). */
function inField(text: string, secrets: readonly Secret[]): string {
  const basic = /^(basic +)([A-Za-z0-9+/]+=*)$/i.exec(text);
  if (basic === null) return replaceText(text, secrets);
  try {
    const plain = new TextDecoder().decode(Uint8Array.fromBase64(basic[2]!));
    const put = replaceText(plain, secrets);
    return put === plain ? text : basic[1]! + new TextEncoder().encode(put).toBase64();
  } catch {
    return text; // it is no base64
  }
}

/** What is asked of a server. */
export interface Outgoing {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string | string[]>;
  /** What is replaced in the body. */
  readonly body: readonly Replacement[];
  /** Whether a value was put into the path or the header fields. */
  readonly usesSecrets: boolean;
}

/**
 * The request that the server gets.
 *
 * @param incoming the guest's
 * @param host that it is for
 */
export function outgoing(
  incoming: {
    readonly method?: string | undefined;
    readonly url?: string | undefined;
    readonly headers: IncomingHttpHeaders;
  },
  host: string,
  secrets: readonly Secret[],
): Outgoing {
  const headers: Record<string, string | string[]> = {};
  const path = replaceText(incoming.url ?? "/", secrets, encodeURIComponent);
  let usesSecrets = path !== (incoming.url ?? "/");
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (value === undefined || OF_THE_CONNECTION.has(name) || name.startsWith(":")) continue;
    const put = Array.isArray(value)
      ? value.map((text) => inField(text, secrets))
      : inField(value, secrets);
    usesSecrets ||= String(put) !== String(value);
    headers[name] = put;
  }
  headers["host"] = host;
  headers["accept-encoding"] = "identity"; // a value that comes back has to be seen
  if ("grpc-accept-encoding" in headers) headers["grpc-accept-encoding"] = "identity";
  const write = inBody(String(incoming.headers["content-type"] ?? ""));
  return {
    method: incoming.method ?? "GET",
    path,
    headers,
    usesSecrets,
    body: secrets.map(({ placeholder, value }) => replacement(placeholder, write(value))),
  };
}

/** What is replaced in an answer: a server that repeats a value tells the guest its placeholder. */
export function backwards(secrets: readonly Secret[]): Replacement[] {
  return secrets.flatMap(({ placeholder, value }) =>
    [...new Set([value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value)])]
      .map((written) => replacement(written, placeholder))
  );
}

/** The header fields of an answer. */
export function answered(
  headers: IncomingHttpHeaders,
  secrets: readonly Secret[],
): Record<string, string | string[]> {
  const hide = (text: string) =>
    secrets.reduce((all, { placeholder, value }) => all.replaceAll(value, placeholder), text);
  const result: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || OF_THE_CONNECTION.has(name) || name.startsWith(":")) continue;
    if (name === "content-length" && secrets.length > 0) continue; // it may be another one
    result[name] = Array.isArray(value) ? value.map(hide) : hide(value);
  }
  return result;
}
