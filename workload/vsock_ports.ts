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

/**
 * vsock port on which the agent connects callers to 127.0.0.1: a caller sends one line, the decimal
 * number of a TCP port. `OK` comes back as a line when the port's listener has accepted, and the
 * connection is a stream to it from then on; otherwise a line with the reason, and the end.
 */
export const DIAL_PORT = 1026;
