/**
 * The host's sockets over FFI: non-blocking, watched by the device worker's epoll.
 *
 * @module
 */
import { EAGAIN, EINPROGRESS, EINTR } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { errno, libc } from "../../ffi/libc.ts";
import { addressOf } from "../../ffi/mapping.ts";
import { MAX_PIECES, Pieces } from "../../ffi/pieces.ts";
import {
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  SHUT_WR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../ffi/uapi/mman.ts";
import {
  AF_INET,
  FIONREAD,
  IPPROTO_TCP,
  linger,
  MSG_DONTWAIT,
  MSG_PEEK,
  MSG_TRUNC,
  msghdr,
  SO_ERROR,
  SO_LINGER,
  SO_PEEK_OFF,
  SOCK_DGRAM,
  sockaddr_in,
  SOL_SOCKET,
  TCP_NODELAY,
} from "../../ffi/uapi/socket.ts";
import type { DeviceHost } from "../virtio/device.ts";
import type { HostDatagrams, HostSocket, HostSockets, SocketHandler } from "./sockets.ts";

/** Watches descriptors. */
export type Watcher = Pick<DeviceHost, "watch" | "unwatch">;

const MOST_DATAGRAM = 65_536;
/** Where bytes are copied that nobody wants. */
const JUNK_BYTES = 65_536;

/** One thread, one call at a time: what calls need is shared. */
const word = new Uint8Array(4);
const wordView = new DataView(word.buffer);
const wordLength = new Uint8Array(Uint32Array.of(4).buffer);
let scratch: {
  readonly message: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  readonly junk: Uint8Array<ArrayBuffer>;
  readonly pieces: Pieces;
  readonly datagram: Uint8Array<ArrayBuffer>;
} | undefined;

function shared() {
  if (scratch !== undefined) return scratch;
  const message = new Uint8Array(msghdr.size);
  const view = new DataView(message.buffer);
  const [junk, datagram] = [new Uint8Array(JUNK_BYTES), new Uint8Array(MOST_DATAGRAM)];
  return scratch = { message, view, junk, pieces: new Pieces(), datagram };
}

/** A socket that is connected, or will be; an errno value, negated, when that is not possible. */
function connected(type: number, address: number, port: number): OwnedFd | number {
  const fd = libc().socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno();
  const socket = new OwnedFd(fd);
  const name = new Uint8Array(sockaddr_in.size);
  const view = new DataView(name.buffer);
  view.setUint16(sockaddr_in.offsetOf("sin_family"), AF_INET, true);
  view.setUint16(sockaddr_in.offsetOf("sin_port"), port);
  view.setUint32(sockaddr_in.offsetOf("sin_addr"), address);
  if (libc().connect(fd, name, name.length) === 0) return socket;
  const error = errno();
  if (error === EINPROGRESS) return socket;
  socket[Symbol.dispose]();
  return -error;
}

function setOption(fd: number, level: number, option: number, value: number): number {
  wordView.setInt32(0, value, true);
  return libc().setsockopt(fd, level, option, word, 4) === 0 ? 0 : -errno();
}

function sendPieces(fd: number, { array, count }: Pieces): number {
  for (;;) {
    const sent = Number(libc().writev(fd, array, count));
    if (sent >= 0) return sent;
    const error = errno();
    if (error === EAGAIN) return 0;
    if (error !== EINTR) return -error;
  }
}

class KernelSocket implements HostSocket {
  readonly #socket: OwnedFd;
  readonly #watcher: Watcher;
  /** Where the kernel's next look begins; undefined when it always begins with the first byte. */
  #peekAt: number | undefined;

  constructor(socket: OwnedFd, watcher: Watcher, peekOffset: boolean) {
    this.#socket = socket;
    this.#watcher = watcher;
    setOption(socket.fd, IPPROTO_TCP, TCP_NODELAY, 1);
    // Of TCP since Linux 6.9.
    if (peekOffset && setOption(socket.fd, SOL_SOCKET, SO_PEEK_OFF, 0) === 0) this.#peekAt = 0;
  }

  error(): number {
    wordView.setUint32(0, 0);
    const result = libc().getsockopt(this.#socket.fd, SOL_SOCKET, SO_ERROR, word, wordLength);
    return result < 0 ? errno() : wordView.getInt32(0, true);
  }

  available(): number {
    return libc().ioctl(this.#socket.fd, FIONREAD, word) < 0 ? 0 : wordView.getInt32(0, true);
  }

  peek(offset: number, into: Pieces): number {
    const { message, view, junk, pieces } = shared();
    const skip = this.#peekAt === undefined ? offset : 0;
    let list = into;
    if (skip > 0) {
      list = pieces;
      list.clear();
      const address = addressOf(junk);
      for (let left = skip; left > 0; left -= JUNK_BYTES) {
        list.add(address, Math.min(left, JUNK_BYTES));
      }
      list.append(into);
    } else if (this.#peekAt !== undefined && this.#peekAt !== offset) {
      setOption(this.#socket.fd, SOL_SOCKET, SO_PEEK_OFF, offset);
      this.#peekAt = offset;
    }
    view.setBigUint64(msghdr.offsetOf("msg_iov"), BigInt(list.address), true);
    view.setBigUint64(
      msghdr.offsetOf("msg_iovlen"),
      BigInt(Math.min(list.count, MAX_PIECES)),
      true,
    );
    const got = Number(libc().recvmsg(this.#socket.fd, message, MSG_PEEK | MSG_DONTWAIT));
    if (got < 0) return errno() === EAGAIN ? 0 : -errno();
    if (this.#peekAt !== undefined) this.#peekAt += got;
    return Math.max(0, got - skip);
  }

  discard(bytes: number): void {
    while (bytes > 0) {
      const flags = MSG_TRUNC | MSG_DONTWAIT;
      const gone = Number(libc().recv(this.#socket.fd, null, BigInt(bytes), flags));
      if (gone <= 0) return; // the connection has failed, which its events tell
      if (this.#peekAt !== undefined) this.#peekAt = Math.max(0, this.#peekAt - gone);
      bytes -= gone;
    }
  }

  send(bytes: Pieces): number {
    return sendPieces(this.#socket.fd, bytes);
  }

  shutdown(): void {
    libc().shutdown(this.#socket.fd, SHUT_WR);
  }

  reset(): void {
    if (this.#socket.closed) return;
    const option = new Uint8Array(linger.size);
    linger.set(new DataView(option.buffer), 0, { l_onoff: 1, l_linger: 0 });
    libc().setsockopt(this.#socket.fd, SOL_SOCKET, SO_LINGER, option, option.length);
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#socket.closed) return;
    this.#watcher.unwatch(this.#socket.fd);
    this.#socket[Symbol.dispose]();
  }
}

class KernelDatagrams implements HostDatagrams {
  readonly #socket: OwnedFd;
  readonly #watcher: Watcher;

  constructor(socket: OwnedFd, watcher: Watcher) {
    this.#socket = socket;
    this.#watcher = watcher;
  }

  send(bytes: Pieces): void {
    sendPieces(this.#socket.fd, bytes);
  }

  receive(): Uint8Array | undefined {
    const { datagram } = shared();
    const length = BigInt(datagram.length);
    const got = Number(libc().recv(this.#socket.fd, datagram, length, MSG_DONTWAIT));
    return got < 0 ? undefined : datagram.subarray(0, got);
  }

  [Symbol.dispose](): void {
    if (this.#socket.closed) return;
    this.#watcher.unwatch(this.#socket.fd);
    this.#socket[Symbol.dispose]();
  }
}

/** See the module. */
export class KernelSockets implements HostSockets {
  readonly #watcher: Watcher;
  readonly #peekOffset: boolean;

  /**
   * @param watcher calls the handlers
   * @param peekOffset false does without SO_PEEK_OFF, as kernels before 6.9 have it
   */
  constructor(watcher: Watcher, peekOffset = true) {
    this.#watcher = watcher;
    this.#peekOffset = peekOffset;
  }

  dial(address: number, port: number, handler: SocketHandler): HostSocket | number {
    const socket = connected(SOCK_STREAM, address, port);
    if (typeof socket === "number") return socket;
    // Edge-triggered: what the guest has no room for stays in the socket.
    const events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    this.#watcher.watch(socket.fd, events, handler);
    return new KernelSocket(socket, this.#watcher, this.#peekOffset);
  }

  datagrams(address: number, port: number, handler: SocketHandler): HostDatagrams | number {
    const socket = connected(SOCK_DGRAM, address, port);
    if (typeof socket === "number") return socket;
    this.#watcher.watch(socket.fd, EPOLLIN, handler);
    return new KernelDatagrams(socket, this.#watcher);
  }
}
