/**
 * Requests that are refused by their head: answered in the caller's protocol, with their body unread.
 *
 * @module
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import {
  codeToHttpStatus,
  contentTypeStreamRegExp,
  createEndStreamSerialization,
  endStreamFlag,
  errorToJsonBytes,
} from "@connectrpc/connect/protocol-connect";
import {
  contentTypeRegExp as grpcContentType,
  setTrailerStatus,
} from "@connectrpc/connect/protocol-grpc";
import { contentTypeRegExp as grpcWebContentType } from "@connectrpc/connect/protocol-grpc-web";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import type { ConnectError } from "@connectrpc/connect";
import { toConnectError } from "./connect_errors.ts";

/** A request of either version of HTTP. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;
/** Its response. */
export type NodeResponse =
  | ServerResponse<IncomingMessage>
  | Http2ServerResponse<Http2ServerRequest>;

/** Milliseconds that a client has to read its refusal before the connection ends. */
const LINGER = 2000;

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** Answers a request with an error, and ends its connection or its HTTP/2 stream. */
export function refuse(request: NodeRequest, response: NodeResponse, thrown: unknown): void {
  const own = thrown instanceof Error && "status" in thrown ? Number(thrown.status) : undefined;
  const type = request.headers["content-type"] ?? "";
  const { status, headers, body } = answerTo(type, toConnectError(thrown), own);
  let end: () => void;
  if ("stream" in response) {
    const { stream } = response;
    // Trailers-Only is a block of fields that ends the stream.
    stream.respond({ ":status": status, ...headers }, { endStream: body.length === 0 });
    if (body.length > 0) stream.end(body);
    end = () => stream.close();
  } else {
    response.writeHead(status, { ...headers, connection: "close" });
    response.end(body);
    end = () => request.socket.destroy();
  }
  // A client that is still sending gets time to read: closed with bytes unread, a connection may lose
  // the answer (RFC 9112 section 9.6). What is unread waits in the kernel or at the client meanwhile.
  const timer = setTimeout(end, LINGER);
  response.once("close", () => clearTimeout(timer));
}

/**
 * What a client understands that sent a content type.
 *
 * @param own the status of a refusal that a protocol of RPCs does not know
 */
function answerTo(type: string, error: ConnectError, own: number | undefined): Answer {
  if (grpcContentType.test(type) || grpcWebContentType.test(type)) {
    const headers = Object.fromEntries(setTrailerStatus(new Headers(), error)); // Trailers-Only
    return { status: 200, headers: { ...headers, "content-type": type }, body: new Uint8Array() };
  }
  if (contentTypeStreamRegExp.test(type) && own === undefined) {
    const end = createEndStreamSerialization({}).serialize({ metadata: new Headers(), error });
    const body = encodeEnvelope(endStreamFlag, end);
    return { status: 200, headers: { "content-type": type }, body };
  }
  return {
    status: own ?? codeToHttpStatus(error.code),
    headers: { "content-type": "application/json" },
    body: errorToJsonBytes(error, {}),
  };
}
