/**
 * How much a program may reach where no rule matches, from nothing to the internet.
 *
 * @module
 */

/** In the order of their numbers on the wire, and of what they allow. */
export const ACCESS = ["none", "listed", "public"] as const;
/** One of {@linkcode ACCESS}. */
export type AccessName = (typeof ACCESS)[number];
