/**
 * One vsock stream: a connection of the guest joined to a Unix socket of the host, with the credit
 * of both directions (virtio 1.2, 5.10.6.3).
 *
 * @module
 */
import { EAGAIN, EINTR } from "../../../ffi/errno.ts";
import type { OwnedFd } from "../../../ffi/fd.ts";
import { errno, libc } from "../../../ffi/libc.ts";
import { SHUT_RD, SHUT_WR } from "../../../ffi/uapi/mman.ts";
import { ByteQueue } from "../../byte_queue.ts";
import type { IoVector } from "../../virtio/iovec.ts";

/** Bytes of one stream that the host buffers towards its socket: what the guest is told. */
export const BUFFER_BYTES: number = 256 * 1024;
/** Room for what {@linkcode VsockStream.answer} writes, which the guest does not know of. */
const MAX_ANSWER = 16;

/** Packets that a stream owes to the guest, apart from data: bits. */
export const Owed = {
  REQUEST: 1,
  RESPONSE: 2,
  CREDIT_UPDATE: 4,
  SHUTDOWN: 8,
  RST: 16,
} as const;

/** How far a stream has come. */
export type StreamPhase =
  | "greeting" // the client has not said CONNECT yet
  | "connecting" // the guest was asked
  | "open"
  | "closing" // the host's end is gone, the guest was told
  | "lingering"; // the guest's end is gone, the rest goes to the host's end

/** A stream's state; {@linkcode VsockDevice} drives it. */
export class VsockStream {
  /** How far it has come. */
  phase: StreamPhase;
  /** Port of the guest's end; 0 in the greeting. */
  guestPort = 0;
  /** {@linkcode Owed} bits. */
  owed = 0;

  // towards the guest
  /** The socket may have something to read. */
  readable = false;
  /** The socket has no more to read. */
  ended = false;
  /** The host's end is closed for good: epoll's EPOLLHUP. */
  hungUp = false;
  /** The guest does not read any more. */
  guestDeaf = false;
  /** {@linkcode Shutdown} flags that the guest was told or is going to be told. */
  shutdownFlags = 0;
  /** What the client sent right behind its CONNECT line. */
  first: Uint8Array = new Uint8Array(0);
  #sent = 0;
  #peerBuffer = 0;
  #peerForwarded = 0;

  // from the guest
  /** The guest writes no more. */
  guestEnded = false;
  #writable = true;
  readonly #pending = new ByteQueue();
  #endPassed = false;
  #forwarded = 0;
  #advertised = 0;

  /**
   * @param socket the host's end, owned by the stream
   * @param hostPort port of the host's end
   * @param phase where it begins
   */
  constructor(readonly socket: OwnedFd, readonly hostPort: number, phase: StreamPhase) {
    this.phase = phase;
  }

  /** Takes the credit from a packet of the guest. */
  credit(bufAlloc: number, fwdCnt: number): void {
    this.#peerBuffer = bufAlloc;
    this.#peerForwarded = fwdCnt;
  }

  /** Bytes that the guest has room for. */
  get room(): number {
    // 5.10.6.3: peer_free = peer_buf_alloc - (tx_cnt - peer_fwd_cnt), modulo 2^32
    const unread = (this.#sent - this.#peerForwarded) >>> 0;
    return Math.max(0, this.#peerBuffer - unread);
  }

  /** Notes that data went to the guest. */
  sent(bytes: number): void {
    this.#sent = (this.#sent + bytes) >>> 0;
  }

  /** fwd_cnt for the header of a packet that is about to go to the guest. */
  advertise(): number {
    this.owed &= ~Owed.CREDIT_UPDATE;
    return this.#advertised = this.#forwarded;
  }

  /** Bytes that wait for the host's end to take them. */
  get pendingBytes(): number {
    return this.#pending.length;
  }

  /** Whether there is data, or the end of it, for the guest and room for it. */
  get hasData(): boolean {
    if (this.phase !== "open" || this.ended || this.guestDeaf) return false;
    return (this.readable || this.first.length > 0) && this.room > 0;
  }

  /**
   * Passes data of the guest on: to the socket as far as that goes now, the rest is kept.
   *
   * @param vector the payload in guest memory
   * @param copy copies the payload from an offset on to the given place
   * @returns false when the guest sent more than it had credit for or the socket failed
   */
  receive(vector: IoVector, copy: (target: Uint8Array, from: number) => void): boolean {
    const length = vector.bytes;
    if (this.#pending.length + length > BUFFER_BYTES + MAX_ANSWER) return false;
    let done = 0;
    if (this.#pending.length === 0 && this.#writable) {
      const written = Number(libc().writev(this.socket.fd, vector.array, vector.count));
      if (written < 0) {
        const error = errno();
        if (error !== EAGAIN && error !== EINTR) return false;
        this.#writable = error === EINTR;
      } else {
        done = written;
        this.#writable = written === length;
        this.#pass(written);
      }
    }
    if (done < length) {
      copy(this.#pending.extend(length - done), done);
    }
    // An EINTR left the socket writable: no event would come.
    return this.#writable ? this.flush() : true;
  }

  /**
   * Tells the host's end something that is not from the guest.
   *
   * @param text up to 16 ASCII characters
   * @returns false when the socket failed
   */
  answer(text: string): boolean {
    const bytes = new TextEncoder().encode(text);
    this.#pending.extend(bytes.length).set(bytes);
    // Not the guest's bytes: they must not count as forwarded.
    this.#forwarded = (this.#forwarded - bytes.length) >>> 0;
    this.#advertised = (this.#advertised - bytes.length) >>> 0;
    return this.flush();
  }

  /** The socket takes data again. */
  writableAgain(): void {
    this.#writable = true;
  }

  /**
   * Writes what waits to the socket, and its end when the guest has ended.
   *
   * @returns false when the socket failed
   */
  flush(): boolean {
    while (this.#pending.length > 0 && this.#writable) {
      const bytes = this.#pending.waiting;
      const written = Number(libc().write(this.socket.fd, bytes, BigInt(bytes.length)));
      if (written < 0) {
        const error = errno();
        if (error === EINTR) continue;
        if (error !== EAGAIN) return false;
        this.#writable = false;
        break;
      }
      this.#pending.consume(written);
      this.#pass(written);
    }
    if (this.#pending.length === 0 && this.guestEnded && !this.#endPassed) {
      this.#endPassed = true;
      libc().shutdown(this.socket.fd, SHUT_WR);
    }
    return true;
  }

  #pass(bytes: number): void {
    this.#forwarded = (this.#forwarded + bytes) >>> 0;
    // The guest may be waiting for room; half of it is worth a packet.
    if (((this.#forwarded - this.#advertised) >>> 0) >= BUFFER_BYTES / 2) {
      this.owed |= Owed.CREDIT_UPDATE;
    }
  }

  /** The guest does not read any more: the host's writer shall get EPIPE. */
  deafen(): void {
    this.guestDeaf = true;
    libc().shutdown(this.socket.fd, SHUT_RD);
  }

  /** Closes the host's end and forgets what waits for it. */
  close(): void {
    this.#pending.clear();
    this.first = new Uint8Array(0);
    this.socket[Symbol.dispose]();
  }
}
