/**
 * What a connection is told, and what it says.
 *
 * @module
 */
import type { TcpHeader } from "../wire/tcp.ts";

/** The states of RFC 9293 section 3.3.2 that a connection has here, and `dialing` before them. */
export type TcpState =
  | "dialing"
  | "syn-received"
  | "established"
  | "fin-wait-1"
  | "fin-wait-2"
  | "closing"
  | "close-wait"
  | "last-ack"
  | "time-wait"
  | "closed";

/** Why a connection is over. */
export type CloseReason =
  | "finished" // both sides have ended
  | "reset" // the guest reset it
  | "refused" // the server could not be reached
  | "aborted" // the host's socket failed, or the policy ended it
  | "timed-out"; // the guest has gone silent

/** What a connection does. */
export interface Output {
  /**
   * Sends a segment to the guest.
   *
   * @param header of it; ports are those of the connection
   * @param offset of the payload in what the server has sent and the guest not acknowledged
   * @param length of the payload in bytes; 0 for none
   * @returns how many bytes of the payload went; -1 when the link has no room, so that none of the
   * segment did: {@linkcode TcpConnection.resume} follows when it has. One without a payload goes
   * always, or is lost.
   */
  send(header: TcpHeader, offset: number, length: number): number;
  /**
   * Takes bytes of the segment that is being handled for the server.
   *
   * @param from offset in the segment's payload
   * @param to offset behind the last byte
   * @returns how many of them wait for the server's socket from now on
   */
  take(from: number, to: number): number;
  /** A copy of bytes of the segment that is being handled, which wait for others. */
  keep(from: number, to: number): Uint8Array;
  /** Takes such bytes for the server; returns how many wait for its socket. */
  takeKept(bytes: Uint8Array): number;
  /** The guest has acknowledged so many bytes of the server's: the socket can forget them. */
  forget(bytes: number): void;
  /** The guest sends no more: the socket is shut down for writing when the queue is empty. */
  end(): void;
  /** It is over; nothing follows. */
  closed(reason: CloseReason): void;
}

/** What a connection is made of. */
export interface ConnectionOptions {
  /** The guest's port. */
  readonly guestPort: number;
  /** The port of the server. */
  readonly serverPort: number;
  /** The guest's SYN. */
  readonly syn: TcpHeader;
  /** Our initial sequence number: not to be guessed (RFC 6528). */
  readonly initialSequence: number;
  /** Most bytes of a segment that are taken from the guest: of the link's MTU. */
  readonly mss: number;
  /** Most bytes of what is handed to the device at once: a multiple of the segment size. */
  readonly unit: number;
  /** Bytes that may wait for the server. */
  readonly queue: number;
  /** Milliseconds; from any origin. */
  readonly now: number;
}
