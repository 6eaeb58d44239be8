/**
 * What is between a network device and what it is plugged into: frames as pieces of memory, both
 * ways, and nothing of virtio. Wrappers with this interface on both sides write frames down, trace
 * them or lose them (tracer.ts, pcap.ts, faults.ts).
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";
import type { DeviceState } from "../virtio/device.ts";

/** Most bytes of a frame: an Ethernet header and the largest IPv4 packet. */
export const MOST_FRAME: number = 14 + 65_535;
/** Fewest bytes of a frame: its header. */
export const LEAST_FRAME = 14;

/** What is left to be done to a frame, as network cards do it. */
export interface Offload {
  /** Offset in the frame of what the checksum covers, to its end. */
  readonly checksumStart: number;
  /** Offset behind that of the checksum, which is the pseudo header's so far. */
  readonly checksumOffset: number;
  /** Bytes of a segment, for a TCP segment that is longer; 0 for none. */
  readonly segment: number;
  /** Bytes of all headers. */
  readonly headers: number;
}

/** The way to the guest. */
export interface Link {
  /** Most bytes of an IPv4 packet, but for {@linkcode Link.largest}. */
  readonly mtu: number;
  /** Most bytes of a frame: more than the MTU and a header when the guest takes large segments. */
  readonly largest: number;
  /**
   * Finds room for a frame. What is found is used at once: {@linkcode Link.commit} follows.
   *
   * @param wanted bytes of the frame
   * @param least so many do as well
   * @returns where to put it; undefined when there is no room: {@linkcode NetworkPort.ready} is called
   * when there is
   */
  reserve(wanted: number, least?: number): Pieces | undefined;
  /**
   * Sends the frame that was put there.
   *
   * @param length of it; 0 gives the room back
   * @param offload what is left to be done
   */
  commit(length: number, offload?: Offload): void;
}

/** What a network device is plugged into. All is called from its device's own thread. */
export interface NetworkPort<Settings = never> extends Disposable {
  /** What holds from now on. */
  configure(settings: Settings): void;
  /** A frame of the guest, from its Ethernet header on; its bytes are there during the call only. */
  receive(frame: Pieces): void;
  /** Milliseconds for which no more frames of the guest are to come; 0, or absent, for none. */
  holdOff?(): number;
  /** No more frames follow for now: what they deserve as an answer together is sent. */
  flush(): void;
  /** The link may have room again. */
  ready(): void;
  /** The guest's driver has gone: so are its connections. */
  reset(): void;
  /** What is counted, by name. */
  counters(): Readonly<Record<string, number>>;
  /** What a snapshot keeps. */
  save(): DeviceState;
  /** Takes over what was saved. */
  restore(state: DeviceState): void;
}

/** Plugs a device in. */
export type Plug<Settings = never> = (link: Link) => NetworkPort<Settings>;

/** Copies a small frame to the guest; false when there is no room. */
export function sendFrame(link: Link, frame: Uint8Array, offload?: Offload): boolean {
  const room = link.reserve(frame.length);
  if (room === undefined) return false;
  room.write(frame);
  link.commit(frame.length, offload);
  return true;
}
