/**
 * Errors on the wire: a {@linkcode CloudletError} becomes a Connect error with a code that every
 * gRPC client knows and a detail that gives it back whole.
 *
 * @module
 */
import { Code, ConnectError } from "@connectrpc/connect";
import { CloudletError, type ErrorCode } from "../base/errors.ts";
import { ProblemSchema } from "../proto/gen/vmmorchestrator/vmm_pb.ts";

const CODES: Readonly<Record<ErrorCode, Code>> = {
  "invalid-input": Code.InvalidArgument,
  "not-found": Code.NotFound,
  "untrusted": Code.DataLoss,
  "unavailable": Code.Unavailable,
  "host": Code.FailedPrecondition,
  "guest": Code.Aborted,
  "conflict": Code.AlreadyExists,
  "exhausted": Code.ResourceExhausted,
  "denied": Code.Unauthenticated,
  "cancelled": Code.Canceled,
  "internal": Code.Internal,
};

const BY_CODE: Partial<Record<Code, ErrorCode>> = {
  ...Object.fromEntries(Object.entries(CODES).map(([error, code]) => [code, error])),
  [Code.OutOfRange]: "invalid-input",
  [Code.PermissionDenied]: "denied",
  [Code.DeadlineExceeded]: "cancelled",
};

/**
 * The Connect error that says what `thrown` says. What nobody threw on purpose is logged here and
 * told to the client without its inner workings.
 */
export function toConnectError(thrown: unknown): ConnectError {
  if (thrown instanceof ConnectError) return thrown;
  if (thrown instanceof CloudletError) {
    const detail = {
      desc: ProblemSchema,
      value: { code: thrown.code, remedy: thrown.remedy ?? "" },
    };
    return new ConnectError(thrown.message, CODES[thrown.code], undefined, [detail], thrown);
  }
  if (thrown instanceof DOMException && thrown.name === "AbortError") {
    return new ConnectError("the caller left", Code.Canceled, undefined, undefined, thrown);
  }
  console.error("cloudlet: unexpected error:", thrown);
  return new ConnectError("unexpected error", Code.Internal, undefined, undefined, thrown);
}

/** The {@linkcode CloudletError} that a service's or an agent's error stands for. */
export function fromConnectError(thrown: unknown): CloudletError {
  if (thrown instanceof CloudletError) return thrown;
  const error = ConnectError.from(thrown);
  if (error.cause instanceof CloudletError) return error.cause;
  const [problem] = error.findDetails(ProblemSchema);
  const known = problem !== undefined && Object.hasOwn(CODES, problem.code);
  const code = known ? problem.code as ErrorCode : BY_CODE[error.code] ?? "internal";
  return new CloudletError(error.rawMessage, {
    code,
    cause: thrown,
    ...(problem?.remedy && { remedy: problem.remedy }),
  });
}
