/**
 * What the stack needs of the host's sockets. The kernel's are in kernel_sockets.ts; a simulation can
 * have others.
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";

/** Called with the `EPOLL*` bits of a socket: once for each change. */
export type SocketHandler = (events: number) => void;

/** A TCP connection from the host to a server. Results below zero are errno values, negated. */
export interface HostSocket extends Disposable {
  /** Takes the pending error: 0 for none. */
  error(): number;
  /** Bytes that the server has sent and {@linkcode HostSocket.discard} has not forgotten. */
  available(): number;
  /**
   * Copies bytes of the server, and leaves them where they are.
   *
   * @param offset of the first one
   * @returns how many; 0 when there are none
   */
  peek(offset: number, into: Pieces): number;
  /** Forgets the first bytes. */
  discard(bytes: number): void;
  /** Sends bytes; returns how many were taken. */
  send(bytes: Pieces): number;
  /** Says that no more follows. */
  shutdown(): void;
  /** Closes it by a reset. Disposal closes it in order. */
  reset(): void;
}

/** A UDP socket that is connected. */
export interface HostDatagrams extends Disposable {
  /** Sends a datagram, or loses it. */
  send(bytes: Pieces): void;
  /** The next one, valid until the next call; undefined for none. A failure is none, too. */
  receive(): Uint8Array | undefined;
}

/** Makes sockets. */
export interface HostSockets {
  /**
   * Dials a server; the handler is called when it has answered or could not be reached.
   *
   * @param address as a 32-bit number
   * @returns an errno value, negated, when that cannot even be tried
   */
  dial(address: number, port: number, handler: SocketHandler): HostSocket | number;
  /** Makes a socket for datagrams to and from one address. */
  datagrams(address: number, port: number, handler: SocketHandler): HostDatagrams | number;
}
