/**
 * passt behind the same card as the stack, for benchmarks: frames go to it by its own protocol, a
 * length of four bytes before each.
 *
 * @module
 */
import { OwnedFd } from "../../ffi/fd.ts";
import { EAGAIN } from "../../ffi/errno.ts";
import { check, errno, libc } from "../../ffi/libc.ts";
import type { Pieces } from "../../ffi/pieces.ts";
import { AF_UNIX, EPOLLIN, EPOLLOUT, SOCK_CLOEXEC, SOCK_STREAM } from "../../ffi/uapi/mman.ts";
import { MSG_DONTWAIT } from "../../ffi/uapi/socket.ts";
import { type Link, MOST_FRAME, type NetworkPort, sendFrame } from "../../vmm/net/link.ts";
import type { DeviceState } from "../../vmm/virtio/device.ts";
import type { Scheduler } from "../../vmm/virtio/slot.ts";

const BUFFER = 4 << 20;
const LENGTH = 4;

/** A connection to passt. */
export class PasstPort implements NetworkPort {
  readonly #socket: OwnedFd;
  readonly #in = new Uint8Array(BUFFER);
  readonly #out = new Uint8Array(BUFFER);
  #have = 0;
  #from = 0;
  #waiting = 0;

  constructor(readonly link: Link, readonly scheduler: Scheduler, path: string) {
    this.#socket = new OwnedFd(
      check("socket", libc().socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)),
    );
    const name = new TextEncoder().encode(`\x01\0${path}\0`);
    check("connect", libc().connect(this.#socket.fd, name, name.length));
    scheduler.watch(this.#socket.fd, EPOLLIN | EPOLLOUT | 0x8000_0000, () => this.#turn());
  }

  #turn(): void {
    this.#flush();
    while (this.#deliver()) {
      const room = this.#in.subarray(this.#have);
      const got = Number(
        libc().recv(this.#socket.fd, room, BigInt(room.length), MSG_DONTWAIT),
      );
      if (got === 0) throw new Error("passt has gone");
      if (got < 0) return;
      this.#have += got;
    }
  }

  /** Passes on what is there; false when the link has no room. */
  #deliver(): boolean {
    let at = 0;
    let hasRoom = true;
    const view = new DataView(this.#in.buffer);
    while (this.#have - at >= LENGTH) {
      const length = view.getUint32(at);
      if (length > MOST_FRAME) throw new Error("passt sends nonsense");
      if (this.#have - at < LENGTH + length) break;
      const frame = this.#in.subarray(at + LENGTH, at + LENGTH + length);
      const isTcp = frame[12] === 8 && frame[23] === 6;
      const { mtu } = this.link;
      const segment = length > mtu + 14 ? mtu - 40 : 0;
      const offload = { checksumStart: 34, checksumOffset: 16, segment, headers: 54 };
      hasRoom = sendFrame(this.link, frame, isTcp ? offload : undefined);
      if (!hasRoom) break;
      at += LENGTH + length;
    }
    this.#in.copyWithin(0, at, this.#have);
    this.#have -= at;
    return hasRoom;
  }

  receive(frame: Pieces): void {
    if (this.#waiting + LENGTH + frame.length > BUFFER) this.#flush();
    if (this.#waiting + LENGTH + frame.length > BUFFER) return; // lost
    new DataView(this.#out.buffer).setUint32(this.#waiting, frame.length);
    frame.read(this.#out.subarray(this.#waiting + LENGTH));
    this.#waiting += LENGTH + frame.length;
    this.#flush();
  }

  #flush(): void {
    while (this.#from < this.#waiting) {
      const part = this.#out.subarray(this.#from, this.#waiting);
      const flags = MSG_DONTWAIT;
      const sent = Number(libc().send(this.#socket.fd, part, BigInt(part.length), flags));
      if (sent < 0) {
        if (errno() !== EAGAIN) throw new Error("passt takes no more");
        return;
      }
      this.#from += sent;
    }
    this.#from = this.#waiting = 0;
  }

  configure(): void {}
  flush(): void {}
  ready(): void {
    this.#turn();
  }
  reset(): void {}
  counters(): Readonly<Record<string, number>> {
    return { connections: 0 };
  }
  save(): DeviceState {
    return null;
  }
  restore(): void {}

  [Symbol.dispose](): void {
    this.scheduler.unwatch(this.#socket.fd);
    this.#socket[Symbol.dispose]();
  }
}
