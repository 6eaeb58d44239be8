/**
 * A plug on a bad cable: frames are lost, come twice or come late, both ways.
 *
 * @module
 */
import { addressOf } from "../../ffi/mapping.ts";
import { Pieces } from "../../ffi/pieces.ts";
import { ForwardingPort } from "./forwarding_port.ts";
import {
  type Link,
  MOST_FRAME,
  type NetworkPort,
  type Offload,
  type Plug,
  sendFrame,
} from "./link.ts";
import type { Clock } from "./timer.ts";

/** How bad it is; shares of all frames, 0 to 1. */
export interface Faults {
  readonly lost: number;
  readonly twice: number;
  /** Frames that later ones overtake. */
  readonly late: number;
  /** Numbers from 0 to 1. */
  readonly random: () => number;
}

/** Milliseconds that a late frame is late. */
const LATE = 2;

/** Passes frames on, or not. */
function convey(
  faults: Faults,
  clock: Clock,
  frame: Uint8Array<ArrayBuffer>,
  pass: (frame: Uint8Array<ArrayBuffer>) => void,
): void {
  const { lost, twice, late, random } = faults;
  if (random() < lost) return;
  for (let n = random() < twice ? 2 : 1; n > 0; n--) {
    if (random() < late) clock.after(LATE, () => pass(frame));
    else pass(frame);
  }
}

class FaultyLink implements Link {
  readonly #bytes = new Uint8Array(MOST_FRAME);
  readonly #pieces = new Pieces(1);

  constructor(readonly link: Link, readonly faults: Faults, readonly clock: Clock) {}

  get mtu(): number {
    return this.link.mtu;
  }

  get largest(): number {
    return this.link.largest;
  }

  reserve(wanted: number): Pieces {
    this.#pieces.clear();
    this.#pieces.add(addressOf(this.#bytes), wanted);
    return this.#pieces;
  }

  commit(length: number, offload?: Offload): void {
    if (length === 0) return;
    convey(this.faults, this.clock, this.#bytes.slice(0, length), (frame) => {
      sendFrame(this.link, frame, offload);
    });
  }
}

class FaultyPort<Settings> extends ForwardingPort<Settings> {
  constructor(port: NetworkPort<Settings>, readonly faults: Faults, readonly clock: Clock) {
    super(port);
  }

  override receive(frame: Pieces): void {
    const bytes = new Uint8Array(Math.max(128, frame.length)); // small ones move about
    frame.read(bytes);
    const { length } = frame;
    convey(this.faults, this.clock, bytes, (bytes) => {
      const pieces = new Pieces(1);
      pieces.add(addressOf(bytes), length);
      this.port.receive(pieces);
      this.port.flush();
    });
  }
}

/** The plug on such a cable. */
export function faulty<Settings>(
  plug: Plug<Settings>,
  faults: Faults,
  clock: Clock,
): Plug<Settings> {
  return (link) => new FaultyPort(plug(new FaultyLink(link, faults, clock)), faults, clock);
}
