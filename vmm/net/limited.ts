/**
 * A plug through which so many bytes a second pass, each way. What is too early waits: frames of the
 * guest in its own queue, frames for it where they come from.
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";
import { ForwardingPort } from "./forwarding_port.ts";
import type { Link, NetworkPort, Offload, Plug } from "./link.ts";
import type { Clock } from "./timer.ts";
import { TokenBucket } from "./token_bucket.ts";

/** What may pass at once, in milliseconds of the rate; one frame always does. */
const BURST = 100;
/** A frame may be longer than what may pass at once: the bucket is in debt then. */
const LEAST_BURST = 1500;

/** How much may pass. */
export interface Bandwidth {
  /** Bytes a second, each way; no limit when undefined. */
  readonly bandwidth?: number | undefined;
}

/** One way. */
class Way {
  #bucket: TokenBucket | undefined;

  constructor(readonly clock: Clock) {}

  set rate(rate: number | undefined) {
    if (rate === this.#bucket?.rate) return;
    const burst = Math.max(LEAST_BURST, (rate ?? 0) * BURST / 1000);
    this.#bucket = rate === undefined ? undefined : new TokenBucket(rate, burst, this.clock.now());
  }

  passed(bytes: number): void {
    this.#bucket?.spend(bytes, this.clock.now());
  }

  /** Milliseconds until something may pass. */
  get wait(): number {
    return this.#bucket?.debt(this.clock.now()) ?? 0;
  }
}

class LimitedLink implements Link {
  readonly way: Way;
  readonly #link: Link;
  readonly #clock: Clock;
  /** Called when something may pass that could not. */
  ready = () => {};
  #waits = false;

  constructor(link: Link, clock: Clock) {
    this.#link = link;
    this.#clock = clock;
    this.way = new Way(clock);
  }

  get mtu(): number {
    return this.#link.mtu;
  }

  get largest(): number {
    return this.#link.largest;
  }

  reserve(wanted: number, least?: number): Pieces | undefined {
    const { wait } = this.way;
    if (wait === 0) return this.#link.reserve(wanted, least);
    if (!this.#waits) {
      this.#waits = true;
      this.#clock.after(Math.ceil(wait), () => {
        this.#waits = false;
        this.ready();
      });
    }
    return undefined;
  }

  commit(length: number, offload?: Offload): void {
    this.way.passed(length);
    this.#link.commit(length, offload);
  }
}

class LimitedPort<Settings extends Bandwidth> extends ForwardingPort<Settings> {
  readonly #link: LimitedLink;
  readonly #fromGuest: Way;

  constructor(port: NetworkPort<Settings>, link: LimitedLink, clock: Clock) {
    super(port);
    this.#link = link;
    this.#fromGuest = new Way(clock);
    link.ready = () => port.ready();
  }

  override configure(settings: Settings): void {
    this.#fromGuest.rate = this.#link.way.rate = settings.bandwidth;
    super.configure(settings);
  }

  override receive(frame: Pieces): void {
    this.#fromGuest.passed(frame.length);
    super.receive(frame);
  }

  override holdOff(): number {
    return Math.max(this.#fromGuest.wait, super.holdOff());
  }
}

/** The plug with a limit, which its settings name. */
export function limited<Settings extends Bandwidth>(
  plug: Plug<Settings>,
  clock: Clock,
): Plug<Settings> {
  return (link) => {
    const limitedLink = new LimitedLink(link, clock);
    return new LimitedPort(plug(limitedLink), limitedLink, clock);
  };
}
