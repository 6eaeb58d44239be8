/**
 * What doctor finds.
 *
 * @module
 */
import type { Fix } from "./doctor_fix.ts";

/** What one check found. */
export interface Finding {
  /** What was looked at. */
  readonly name: string;
  /** `warn`: it works, but not as well as it could, or not everything does. */
  readonly ok: "ok" | "warn" | "fail";
  /** What was seen. */
  readonly detail: string;
  /** What to do about it. */
  readonly remedy?: string;
  /** The same, to be done. */
  readonly fix?: Fix;
}

/** A finding before it has its name. */
export type Verdict = Omit<Finding, "name">;
