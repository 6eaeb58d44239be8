/**
 * Errors over HTTP: problem details for HTTP APIs (RFC 9457).
 *
 * @module
 */
import { CloudletError, type ErrorCode } from "../../base/errors.ts";

/** The body of every refusal, as `application/problem+json`. */
export interface Problem {
  /** Names the kind of problem. */
  readonly type: string;
  /** The kind in words; the same for every problem of a kind. */
  readonly title: string;
  /** The HTTP status. */
  readonly status: number;
  /** What could not be done, and why. */
  readonly detail: string;
  /** What can be done about it. */
  readonly remedy?: string;
  /** What is wrong in the request, each with a JSON Pointer (RFC 6901). */
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
}

const KINDS: Readonly<Record<ErrorCode, readonly [status: number, title: string]>> = {
  "invalid-input": [422, "The request asks for something that cannot be"],
  "not-found": [404, "There is no such thing"],
  "untrusted": [502, "What was fetched failed a check"],
  "unavailable": [503, "The service cannot do it now"],
  "host": [500, "The host lacks something"],
  "guest": [500, "The microVM failed"],
  "conflict": [409, "Somebody else holds it"],
  "exhausted": [429, "A limit is reached"],
  "denied": [401, "The caller may not do this"],
  "cancelled": [499, "The run was given up"],
  "internal": [500, "A defect of cloudlet"],
};

/** Seconds after which a client may try again what a limit refused. */
export const RETRY_AFTER = 5;

/** The problem that an error is. */
export function problemOf(error: CloudletError, status?: number): Problem {
  const [usual, title] = KINDS[error.code];
  return {
    type: `urn:cloudlet:problem:${error.code}`, // no host of ours answers for it
    title,
    status: status ?? usual,
    detail: error.message,
    ...(error.remedy !== undefined && { remedy: error.remedy }),
    ...("errors" in error && { errors: error.errors as NonNullable<Problem["errors"]> }),
  };
}

/** A response that carries a problem. */
export function problemResponse(problem: Problem): Response {
  const headers = new Headers({ "content-type": "application/problem+json" });
  if (problem.status === 401) headers.set("www-authenticate", 'Bearer realm="cloudlet"');
  if (problem.status === 429 || problem.status === 503) {
    headers.set("retry-after", String(RETRY_AFTER));
  }
  return new Response(JSON.stringify(problem) + "\n", { status: problem.status, headers });
}

/** An error that has a status of its own, such as 413 or 415. */
export class HttpError extends CloudletError {
  /**
   * @param status HTTP status
   * @param message what could not be done, and why
   * @param remedy what to do about it
   */
  constructor(readonly status: number, message: string, remedy?: string) {
    super(message, {
      code: status === 404
        ? "not-found"
        : status === 401 || status === 403
        ? "denied"
        : "invalid-input",
      ...(remedy !== undefined && { remedy }),
    });
  }
}
