/**
 * How the service itself ends runs, in words and numbers.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";

/** Exit code of what SIGKILL ended: 128 + 9. */
export const KILLED = 137;

/** The error for a run that comes too late. */
export function closing(): CloudletError {
  return new CloudletError("Cannot start the run: the service is about to end", {
    code: "unavailable",
    remedy: "try again when it is back",
  });
}

/** The verdict on a run that was stopped. */
export function stoppedBy(why: string) {
  return {
    outcome: "stopped",
    exitCode: KILLED,
    message: `the microVM was stopped: ${why}`,
  } as const;
}
