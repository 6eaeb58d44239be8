/**
 * Linux's own TCP as the guest, without a VM: a TAP with virtio-net headers whose other end is in a
 * network namespace. This is the card that the stack is plugged into.
 *
 * @module
 */
import { OwnedFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { addressOf } from "../../ffi/mapping.ts";
import { Pieces } from "../../ffi/pieces.ts";
import { EPOLLIN, O_CLOEXEC, O_NONBLOCK, O_RDWR } from "../../ffi/uapi/mman.ts";
import { fillHeader, HEADER_BYTES } from "../../vmm/devices/net/header.ts";
import {
  LEAST_FRAME,
  type Link,
  MOST_FRAME,
  type NetworkPort,
  type Offload,
  type Plug,
} from "../../vmm/net/link.ts";
import type { NetworkSettings } from "../../vmm/net/stack.ts";
import type { Scheduler } from "../../vmm/virtio/slot.ts";

// include/uapi/linux/if_tun.h
const TUNSETIFF = 0x4004_54ca;
const TUNSETOFFLOAD = 0x4004_54d0;
const TUNSETVNETHDRSZ = 0x4004_54d8;
const IFF_TAP = 2;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 1;
const TUN_F_TSO4 = 2;

/** Bytes for the guest in one turn, as of the device. */
const TURN_BYTES = 1 << 20;
/** Frames of the guest in one turn. */
const TURN_FRAMES = 64;

/** Makes a TAP in the namespace of the caller; it is gone with its descriptor. */
export function openTap(name: string, segments: boolean): OwnedFd {
  using stack = new DisposableStack();
  const tap = stack.use(OwnedFd.open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  const request = new Uint8Array(40); // struct ifreq: char ifr_name[16]; short ifr_flags
  new TextEncoder().encodeInto(name, request);
  new DataView(request.buffer).setUint16(16, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
  check("TUNSETIFF", libc().ioctl(tap.fd, TUNSETIFF, request));
  const size = new Uint8Array(Int32Array.of(HEADER_BYTES).buffer);
  check("TUNSETVNETHDRSZ", libc().ioctl(tap.fd, TUNSETVNETHDRSZ, size));
  const offload = segments ? TUN_F_CSUM | TUN_F_TSO4 : TUN_F_CSUM;
  check("TUNSETOFFLOAD", libc().ioctl_number(tap.fd, TUNSETOFFLOAD, BigInt(offload)));
  stack.move();
  return tap;
}

/** A card at work. */
export class TapCard implements Link, Disposable {
  /** Frames that the TAP did not take. */
  lost = 0;
  readonly #port: NetworkPort<NetworkSettings>;
  readonly #out = new Uint8Array(HEADER_BYTES + MOST_FRAME);
  readonly #in = new Uint8Array(HEADER_BYTES + MOST_FRAME);
  readonly #outAddress = addressOf(this.#out);
  readonly #inAddress = addressOf(this.#in);
  readonly #pieces = new Pieces(1);
  readonly #frame = new Pieces(1);
  #turn = TURN_BYTES;
  #scheduled = false;

  constructor(
    readonly fd: number,
    readonly mtu: number,
    readonly segments: boolean,
    readonly scheduler: Scheduler,
    plug: Plug<NetworkSettings>,
  ) {
    this.#port = plug(this);
    scheduler.watch(fd, EPOLLIN, () => this.#read());
  }

  get largest(): number {
    return this.segments ? MOST_FRAME : LEAST_FRAME + this.mtu;
  }

  counters(): Readonly<Record<string, number>> {
    return { ...this.#port.counters(), tapLost: this.lost };
  }

  reserve(wanted: number): Pieces | undefined {
    if (!this.#scheduled) {
      this.#scheduled = true;
      this.scheduler.defer(() => {
        this.#scheduled = false;
        this.#turn = TURN_BYTES;
        this.#port.ready();
      });
    }
    if (this.#turn <= 0) return undefined;
    this.#pieces.clear();
    this.#pieces.add(this.#outAddress + HEADER_BYTES, wanted);
    return this.#pieces;
  }

  commit(length: number, offload?: Offload): void {
    if (length === 0) return;
    fillHeader(this.#out, 1, offload);
    this.#turn -= length;
    const size = HEADER_BYTES + length;
    const written = libc().write(this.fd, this.#out, BigInt(size));
    if (Number(written) !== size) this.lost++; // the interface is not up
  }

  #read(): void {
    for (let budget = TURN_FRAMES; budget > 0; budget--) {
      const got = Number(libc().read(this.fd, this.#in, BigInt(this.#in.length)));
      if (got < HEADER_BYTES + LEAST_FRAME) break;
      this.#frame.clear();
      this.#frame.add(this.#inAddress + HEADER_BYTES, got - HEADER_BYTES);
      this.#port.receive(this.#frame);
    }
    this.#port.flush();
  }

  [Symbol.dispose](): void {
    this.scheduler.unwatch(this.fd);
    this.#port[Symbol.dispose]();
  }
}
