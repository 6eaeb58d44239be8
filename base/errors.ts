/**
 * The one error type that cloudlet throws on purpose.
 *
 * A message says what could not be done and why; {@linkcode CloudletError.remedy} says what to do
 * about it. The command line prints both, the API turns {@linkcode CloudletError.code} into a status.
 *
 * @module
 */

/** What kind of failure it is; stable, machine-readable. */
export type ErrorCode =
  | "invalid-input" // the caller's config, arguments or files
  | "not-found" // something named does not exist
  | "untrusted" // a signature, digest or format check failed
  | "unavailable" // a mirror, registry or device does not answer
  | "host" // the host lacks something: permission, memory, disk, a feature
  | "guest" // the microVM failed
  | "conflict" // somebody else holds it
  | "exhausted" // a limit is reached; later the same may work
  | "denied" // the caller may not do this
  | "cancelled" // the caller gave up
  | "internal"; // a defect of cloudlet

/** Options of {@linkcode CloudletError}. */
export interface CloudletErrorOptions {
  /** The kind of failure. */
  readonly code: ErrorCode;
  /** What the user can do about it: one imperative sentence without a full stop. */
  readonly remedy?: string;
  /** The error that led to this one. */
  readonly cause?: unknown;
}

/** A failure with a kind and a remedy. Message form: "Cannot <do> <what>: <why>". */
export class CloudletError extends Error {
  /** Tells it from other errors where classes cannot, such as in another thread. */
  override readonly name = "CloudletError";
  /** The kind of failure. */
  readonly code: ErrorCode;
  /** What the user can do about it. */
  readonly remedy: string | undefined;

  /**
   * Makes an error, to be thrown.
   *
   * @param message what could not be done, and why
   * @param options kind, remedy and cause
   */
  constructor(message: string, options: CloudletErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = options.code;
    this.remedy = options.remedy;
  }
}

/** The message of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
