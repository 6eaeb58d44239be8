/**
 * A transport to the VmmService of a server, over the Connect protocol.
 *
 * connect-web cannot stream requests and connect-node opens HTTP/2 only to servers that speak it;
 * fetch does both with either version.
 *
 * @module
 */
import type { Interceptor, Transport } from "@connectrpc/connect";
import { universalClientResponseFromFetch } from "@connectrpc/connect/protocol";
import { createTransport } from "@connectrpc/connect/protocol-connect";
import { CloudletError, messageOf } from "../../base/errors.ts";
import type { ServerAddress } from "../library/options.ts";

const MAX_MESSAGE = 1 << 30; // bytes; what a server sends is bounded far below

/**
 * A transport to a server.
 *
 * @throws {CloudletError} `invalid-input` when the address is no http or https URL
 */
export function remoteTransport({ url, key }: ServerAddress): Transport {
  const base = URL.canParse(url) ? new URL(url) : undefined;
  if (base === undefined || !/^https?:$/.test(base.protocol)) {
    throw new CloudletError(`Cannot use the server ${JSON.stringify(url)}: it is no http URL`, {
      code: "invalid-input",
      remedy: "write it as http://HOST:PORT",
    });
  }
  const authorize: Interceptor = (next) => (request) => {
    if (key !== undefined) request.header.set("authorization", `Bearer ${key}`);
    return next(request);
  };
  return createTransport({
    async httpClient(request) {
      const body = request.body === undefined ? null : ReadableStream.from(request.body);
      const init: RequestInit & { duplex?: "half" } = {
        method: request.method,
        headers: request.header,
        body: body as ReadableStream<Uint8Array<ArrayBuffer>> | null,
        duplex: "half",
        redirect: "error", // the key goes where it was told to go
        ...(request.signal && { signal: request.signal }),
      };
      try {
        return universalClientResponseFromFetch(await fetch(request.url, init));
      } catch (cause) {
        if (request.signal?.aborted) throw cause;
        throw new CloudletError(`Cannot reach the server ${base.origin}: ${messageOf(cause)}`, {
          code: "unavailable",
          remedy: "start it with `cloudlet serve`, or correct its address",
          cause,
        });
      }
    },
    baseUrl: base.href.replace(/\/$/, ""),
    useBinaryFormat: true,
    interceptors: [authorize],
    acceptCompression: [],
    sendCompression: null,
    compressMinBytes: Number.MAX_SAFE_INTEGER,
    readMaxBytes: MAX_MESSAGE,
    writeMaxBytes: MAX_MESSAGE,
  });
}
