/**
 * The host's side of a vsock device, Unix sockets:
 *
 * - a client connects to `<path>`, sends `CONNECT <port>\n` and gets `OK <port>\n` when a program in
 *   the guest accepted; the connection is closed without an answer when none did;
 * - when the guest connects to port N of the host (CID 2), the device connects to `<path>_<N>`.
 *
 * @module
 */
import { EAGAIN, EINTR } from "../../../ffi/errno.ts";
import { errno, libc } from "../../../ffi/libc.ts";
import {
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
} from "../../../ffi/uapi/mman.ts";
import type { DeviceHost } from "../../virtio/device.ts";
import { Shutdown } from "./packet.ts";
import { Owed, VsockStream } from "./stream.ts";
import { connectUnix, UnixListener } from "./unix_socket.ts";

/** The most streams at once; more are refused. */
export const MAX_STREAMS = 1024;
/** `CONNECT 4294967295\n` */
const MAX_GREETING = 19;
/** Host ports of connections that the host begins: above those that a program would choose. */
const FIRST_HOST_PORT = 0x4000_0000;
const LAST_HOST_PORT = 0x7fff_ffff;

/** The streams of a device, and the line of those that have something for the guest. */
export class HostMuxer implements Disposable {
  /** Whether clients are accepted: the guest has a driver. */
  open = false;
  /** The host port that was given to a client last. */
  lastPort = FIRST_HOST_PORT;
  readonly #host: Pick<DeviceHost, "watch" | "unwatch">;
  readonly #onReady: () => void;
  readonly #listener: UnixListener;
  /** By host port, then by guest port. */
  readonly #streams = new Map<number, Map<number, VsockStream>>();
  /** Every stream with an open socket or a place in #streams. */
  readonly #all = new Set<VsockStream>();
  /** Streams that may have something for the guest; the first is next. */
  readonly #ready = new Set<VsockStream>();

  /**
   * @param host watches the sockets
   * @param path name of the socket that clients connect to
   * @param onReady called when a stream may have something for the guest
   * @throws {SyscallError} when the socket cannot be made
   */
  constructor(host: Pick<DeviceHost, "watch" | "unwatch">, path: string, onReady: () => void) {
    this.#host = host;
    this.#onReady = onReady;
    this.#listener = new UnixListener(path);
    host.watch(this.#listener.fd, EPOLLIN, () => this.#accept());
  }

  /** How many streams there are. */
  get size(): number {
    return this.#all.size;
  }

  /** The stream between two ports. */
  find(hostPort: number, guestPort: number): VsockStream | undefined {
    return this.#streams.get(hostPort)?.get(guestPort);
  }

  /** Whether a stream has something for the guest. */
  get hasReady(): boolean {
    return this.#ready.size > 0;
  }

  /** Takes the next stream that has something for the guest out of the line. */
  takeReady(): VsockStream | undefined {
    const [stream] = this.#ready;
    if (stream !== undefined) this.#ready.delete(stream);
    return stream;
  }

  /**
   * Connects to the socket of a port of the host.
   *
   * @returns the stream, or undefined when nothing listens there or there are too many streams
   */
  connect(hostPort: number, guestPort: number): VsockStream | undefined {
    if (this.#all.size >= MAX_STREAMS) return undefined;
    const socket = connectUnix(`${this.#listener.path}_${hostPort}`);
    if (socket === undefined) return undefined;
    const stream = new VsockStream(socket, hostPort, "open");
    stream.guestPort = guestPort;
    this.#index(stream);
    this.#adopt(stream);
    return stream;
  }

  /** The guest has closed its end: what it sent before goes on to the host's end, and no more. */
  linger(stream: VsockStream): void {
    this.#unindex(stream);
    this.#ready.delete(stream);
    stream.phase = "lingering";
    stream.owed = 0;
    if (stream.pendingBytes === 0) this.drop(stream);
  }

  /** Closes every stream. */
  dropAll(): void {
    for (const stream of [...this.#all]) this.drop(stream);
  }

  #accept(): void {
    for (let socket = this.#listener.accept(); socket; socket = this.#listener.accept()) {
      if (!this.open || this.#all.size >= MAX_STREAMS) {
        socket[Symbol.dispose]();
        continue;
      }
      this.#adopt(new VsockStream(socket, this.#freePort(), "greeting"));
    }
  }

  #freePort(): number {
    do {
      this.lastPort = this.lastPort >= LAST_HOST_PORT ? FIRST_HOST_PORT : this.lastPort + 1;
    } while (this.#streams.has(this.lastPort));
    return this.lastPort;
  }

  #adopt(stream: VsockStream): void {
    this.#all.add(stream);
    this.#host.watch(
      stream.socket.fd,
      EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
      (events) => this.#socketEvent(stream, events),
    );
  }

  #socketEvent(stream: VsockStream, events: number): void {
    if ((events & (EPOLLHUP | EPOLLERR)) !== 0) stream.hungUp = true;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) stream.readable = true;
    if (stream.phase === "greeting") {
      this.#greet(stream);
    } else {
      if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) !== 0) {
        stream.writableAgain();
        if (!stream.flush()) this.fail(stream);
        else if (stream.phase === "lingering" && stream.pendingBytes === 0) this.drop(stream);
      }
      if (stream.phase === "connecting" && stream.hungUp) this.fail(stream);
      // The other end shut down writing first and closed later: the guest should know.
      if (stream.phase === "open" && stream.ended && stream.hungUp) this.hostClosed(stream);
      this.wake(stream);
    }
    this.#onReady();
  }

  #greet(stream: VsockStream): void {
    const bytes = new Uint8Array(MAX_GREETING);
    const peeked = stream.first;
    bytes.set(peeked);
    let length = peeked.length;
    while (length < MAX_GREETING && bytes.indexOf(0x0a) < 0) {
      const room = bytes.subarray(length);
      const got = Number(libc().read(stream.socket.fd, room, BigInt(room.length)));
      if (got < 0 && errno() === EINTR) continue;
      if (got < 0 && errno() === EAGAIN) {
        stream.first = bytes.slice(0, length);
        return;
      }
      if (got <= 0) return this.drop(stream);
      length += got;
    }
    const text = new TextDecoder().decode(bytes.subarray(0, length));
    const match = /^CONNECT (\d{1,10})\n/.exec(text);
    const port = Number(match?.[1] ?? NaN);
    if (!(port <= 0xffff_ffff)) return this.drop(stream);
    stream.first = bytes.slice(match![0].length, length);
    stream.guestPort = port;
    stream.phase = "connecting";
    this.#index(stream);
    this.owe(stream, Owed.REQUEST);
  }

  #index(stream: VsockStream): void {
    const ports = this.#streams.get(stream.hostPort) ?? new Map<number, VsockStream>();
    ports.set(stream.guestPort, stream);
    this.#streams.set(stream.hostPort, ports);
  }

  #unindex(stream: VsockStream): void {
    const ports = this.#streams.get(stream.hostPort);
    if (ports?.get(stream.guestPort) !== stream) return;
    ports.delete(stream.guestPort);
    if (ports.size === 0) this.#streams.delete(stream.hostPort);
  }

  #closeSocket(stream: VsockStream): void {
    if (stream.socket.closed) return;
    this.#host.unwatch(stream.socket.fd);
    stream.close();
  }

  /** Forgets a stream; the guest is told nothing more of it. */
  drop(stream: VsockStream): void {
    this.#closeSocket(stream);
    this.#unindex(stream);
    this.#all.delete(stream);
    this.#ready.delete(stream);
  }

  /** Ends a stream that went wrong: the guest gets a reset. */
  fail(stream: VsockStream): void {
    if (stream.phase === "lingering") return this.drop(stream);
    this.#closeSocket(stream);
    stream.phase = "closing";
    this.owe(stream, Owed.RST);
  }

  /** The host's end is gone, and everything it sent was delivered. */
  hostClosed(stream: VsockStream): void {
    this.#closeSocket(stream);
    stream.phase = "closing";
    stream.shutdownFlags = Shutdown.BOTH;
    this.owe(stream, Owed.SHUTDOWN);
  }

  /**
   * Notes that a packet is to go to the guest.
   *
   * @param stream whose packet
   * @param packet {@linkcode Owed} bits
   */
  owe(stream: VsockStream, packet: number): void {
    stream.owed |= packet;
    this.#ready.add(stream);
  }

  /** Puts a stream that has something for the guest behind those that wait already. */
  wake(stream: VsockStream): void {
    if (!this.#all.has(stream)) return;
    if (stream.owed !== 0 || stream.hasData) this.#ready.add(stream);
  }

  /** Closes every stream and the socket, and removes its name. */
  [Symbol.dispose](): void {
    this.dropAll();
    this.#host.unwatch(this.#listener.fd);
    this.#listener[Symbol.dispose]();
  }
}
