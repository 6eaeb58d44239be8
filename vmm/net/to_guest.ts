/**
 * Frames to the guest: headers around what the protocols say. Small frames that find no room wait, a
 * bounded number of them; data does not, since its socket keeps it.
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";
import { Pieces } from "../../ffi/pieces.ts";
import { type Link, type Offload, sendFrame } from "./link.ts";
import { ARP_BYTES, ArpOperation, emitArp } from "./wire/arp.ts";
import { emitEthernet, ETHERNET_HEADER, EtherType } from "./wire/ethernet.ts";
import { emitIpv4, IPV4_HEADER, Protocol } from "./wire/ipv4.ts";
import { emitTcp, TCP_CHECKSUM, TCP_HEADER, TCP_HEADER_MOST, type TcpHeader } from "./wire/tcp.ts";

/** Small frames that may wait for room. */
const MOST_WAITING = 1024;
/** Offset of what IPv4 carries. */
const BODY = ETHERNET_HEADER + IPV4_HEADER;
/** Bytes before the data of a TCP segment without options. */
const SEGMENT_HEADERS = BODY + TCP_HEADER;

/** Most bytes of headers: those of a SYN. */
const MOST_HEADERS = BODY + TCP_HEADER_MOST;

/** Who is on the link. */
export interface Addresses {
  /** The guest's hardware address. */
  readonly guestMac: Uint8Array;
  /** The gateway's: ours. */
  readonly gatewayMac: Uint8Array;
  /** The guest's address as a 32-bit number. */
  readonly guest: number;
  /** The gateway's. */
  readonly gateway: number;
}

interface Waiting {
  readonly frame: Uint8Array;
  readonly offload: Offload | undefined;
}

/** See the module. */
export class ToGuest {
  /** Small frames that were lost. */
  lost = 0;
  readonly #link: Link;
  readonly #addresses: Addresses;
  readonly #payload = new Pieces();
  /** The headers of a packet; Ethernet's are always the same. */
  readonly #headers = new Uint8Array(MOST_HEADERS);
  readonly #ipv4 = this.#headers.subarray(ETHERNET_HEADER, BODY);
  #waiting: Waiting[] = [];

  /**
   * @param link to the guest
   * @param addresses on it
   */
  constructor(link: Link, addresses: Addresses) {
    this.#link = link;
    this.#addresses = addresses;
    const { guestMac: destination, gatewayMac: source } = addresses;
    emitEthernet(this.#headers, { destination, source, type: EtherType.IPV4 });
  }

  /** Whether something small waits for room. */
  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Bytes of the largest segment's payload, for TCP. */
  get mss(): number {
    return this.#link.mtu - IPV4_HEADER - TCP_HEADER;
  }

  /** Most bytes of data that go to the guest at once. */
  get unit(): number {
    return this.#link.largest - SEGMENT_HEADERS;
  }

  /** Sends what waits; false when there is still something. */
  flush(): boolean {
    let sent = 0;
    for (const { frame, offload } of this.#waiting) {
      if (!sendFrame(this.#link, frame, offload)) break;
      sent++;
    }
    if (sent > 0) this.#waiting = this.#waiting.slice(sent);
    return this.#waiting.length === 0;
  }

  /** Forgets what waits. */
  clear(): void {
    this.#waiting = [];
  }

  #small(frame: Uint8Array, offload?: Offload): void {
    if (this.#waiting.length === 0 && sendFrame(this.#link, frame, offload)) return;
    const { length } = this.#waiting;
    if (length < MOST_WAITING) this.#waiting.push({ frame: frame.slice(), offload });
    else this.lost++;
  }

  /** Says who has the gateway's address. */
  arpReply(target: number, targetMac: Uint8Array): void {
    const { gatewayMac: senderMac, gateway: sender } = this.#addresses;
    const { guestMac: destination, gatewayMac: source } = this.#addresses;
    const frame = new Uint8Array(ETHERNET_HEADER + ARP_BYTES);
    emitEthernet(frame, { destination, source, type: EtherType.ARP });
    const { REPLY: operation } = ArpOperation;
    frame.set(emitArp({ operation, senderMac, sender, targetMac, target }), ETHERNET_HEADER);
    this.#small(frame);
  }

  /** Sends an IPv4 packet whose payload is complete. */
  packet(protocol: number, source: number, payload: Uint8Array): void {
    if (payload.length > this.#link.mtu - IPV4_HEADER) {
      this.lost++;
      return;
    }
    this.#emitIpv4(protocol, source, payload.length);
    this.#small(concatBytes([this.#headers.subarray(0, BODY), payload]));
  }

  /** Writes the Ethernet and IPv4 headers of a packet. */
  #emitIpv4(protocol: number, source: number, payload: number): void {
    const { guest: destination } = this.#addresses;
    emitIpv4(this.#ipv4, { protocol, source, destination, payload });
  }

  /** Writes all headers of a TCP segment; how many bytes they have. */
  #emitTcp(header: TcpHeader, source: number, payload: number): number {
    const { guest: destination } = this.#addresses;
    const bytes = emitTcp(header, payload, { source, destination });
    this.#emitIpv4(Protocol.TCP, source, bytes.length + payload);
    this.#headers.set(bytes, BODY);
    return BODY + bytes.length;
  }

  /** Sends a TCP segment without data. */
  control(header: TcpHeader, source: number): void {
    const length = this.#emitTcp(header, source, 0);
    this.#small(this.#headers.subarray(0, length), offload(length, 0));
  }

  /**
   * Sends a TCP segment with data.
   *
   * @param header of it
   * @param source address
   * @param length of the data
   * @param segment most bytes of a segment that the guest takes
   * @param fill puts the data in its place; returns how many bytes there are
   * @returns how many bytes went; -1 when there is no room
   */
  data(
    header: TcpHeader,
    source: number,
    length: number,
    segment: number,
    fill: (room: Pieces) => number,
  ): number {
    if (!this.flush()) return -1;
    const link = this.#link;
    const wanted = Math.min(length, this.unit);
    const least = Math.min(wanted, segment);
    const room = link.reserve(SEGMENT_HEADERS + wanted, SEGMENT_HEADERS + least);
    if (room === undefined) return -1;
    const filled = fill(room.slice(SEGMENT_HEADERS, wanted, this.#payload));
    if (filled <= 0) {
      link.commit(0);
      return 0;
    }
    const headers = this.#emitTcp(header, source, filled);
    room.write(this.#headers.subarray(0, headers));
    link.commit(headers + filled, offload(headers, filled > segment ? segment : 0));
    return filled;
  }
}

function offload(headers: number, segment: number): Offload {
  return { checksumStart: BODY, checksumOffset: TCP_CHECKSUM, segment, headers };
}
