/**
 * Where the agent listens and where it calls.
 *
 * @module
 */

/** vsock port on which the agent serves WorkloadRunner. */
export const AGENT_PORT = 1024;

/**
 * vsock port of the host to which the agent connects once when it serves; it sends one line, the
 * decimal number of its own port, and closes. Nobody need listen there.
 */
export const READY_PORT = 1025;
