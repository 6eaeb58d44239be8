/**
 * What a guest's first bytes on a connection say of the server that it wants. They wait until that is
 * clear: a request that may not be made must not be half made.
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";
import { httpHost } from "./wire/http_host.ts";
import { type HelloName, helloName } from "./wire/tls_hello.ts";

/** RFC 8446 section 5.1: ContentType handshake. */
const HANDSHAKE = 22;
/** Ports on which a server's name is expected: what has none there does not pass. */
const NAMED_PORTS: ReadonlySet<number> = new Set([80, 443]);

/** What is known. */
export type ServerName =
  /** More bytes are needed. */
  | { readonly kind: "more" }
  /** There is nothing to check. */
  | { readonly kind: "free" }
  /** It wants this server; undefined where it ought to say one and does not. */
  | { readonly kind: "name"; readonly name: string | undefined };

/** See the module. */
export class FirstBytes {
  readonly #port: number;
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  /** @param port of the server */
  constructor(port: number) {
    this.#port = port;
  }

  /** What has come so far. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** Takes more bytes. */
  add(bytes: Uint8Array): ServerName {
    this.#bytes = concatBytes([this.#bytes, bytes]);
    if (this.#bytes.length === 0) return { kind: "more" };
    return this.#judge(this.#bytes[0] === HANDSHAKE ? helloName(this.#bytes) : this.#plain());
  }

  #plain(): HelloName {
    return this.#port === 80 ? httpHost(this.#bytes) : { kind: "other" };
  }

  #judge(found: HelloName): ServerName {
    switch (found.kind) {
      case "more":
        return { kind: "more" };
      case "name":
        return { kind: "name", name: found.name };
      case "none":
        return { kind: "name", name: undefined };
      case "other":
        return NAMED_PORTS.has(this.#port) ? { kind: "name", name: undefined } : { kind: "free" };
    }
  }
}
