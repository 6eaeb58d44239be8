/**
 * What tables of a config file that say what may be reached look like.
 *
 * @module
 */
import { ACCESS } from "../workload/network_access.ts";
import { z } from "zod";

/** A text of a config file. */
export const text: z.ZodString = z.string()
  .refine((text) => !text.includes("\0"), "must not have a NUL byte in it");

/** The table as the file has it. */
export const networkTable = z.strictObject({
  access: z.enum(ACCESS).optional(),
  allow: z.array(text).default([]),
  deny: z.array(text).default([]),
  publish: z.array(text).default([]),
  bandwidth: text.optional(),
  /** By the program's variable: the variable of this process that has the value, and who gets it. */
  secrets: z.record(
    text,
    z.strictObject({ env: text.min(1, "must not be empty"), hosts: z.array(text).min(1) }),
  ).default({}),
});

/** See {@linkcode networkTable}. */
export type NetworkTable = z.infer<typeof networkTable>;

/** `[build] network`: what installing a project's packages may reach. */
export const buildNetworkTable = z.union([
  z.enum(["none", "public"]),
  z.array(text),
  networkTable.omit({ publish: true }),
], 'expected "public", a list of hosts, or a table').optional();
