/**
 * A plug through which so many bytes a second pass, each way. What is too early waits: frames of the
 * guest in its own queue, frames for it where they come from.
 *
 * @module
 */
import { RateLimit } from "../../base/token_bucket.ts";
import type { Pieces } from "../../ffi/pieces.ts";
import { ForwardingPort } from "./forwarding_port.ts";
import type { Link, NetworkPort, Offload, Plug } from "./link.ts";
import type { Clock } from "./timer.ts";

/** Bytes: one frame may always pass. */
const LEAST_BURST = 1500;

/** How much may pass. */
export interface Bandwidth {
  /** Bytes a second, each way; no limit when undefined. */
  readonly bandwidth?: number | undefined;
}

class LimitedLink implements Link {
  readonly way: RateLimit;
  readonly #link: Link;
  readonly #clock: Clock;
  /** Called when something may pass that could not. */
  ready = () => {};
  #waits = false;

  constructor(link: Link, clock: Clock) {
    this.#link = link;
    this.#clock = clock;
    this.way = new RateLimit(() => clock.now(), LEAST_BURST);
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
  readonly #fromGuest: RateLimit;

  constructor(port: NetworkPort<Settings>, link: LimitedLink, clock: Clock) {
    super(port);
    this.#link = link;
    this.#fromGuest = new RateLimit(() => clock.now(), LEAST_BURST);
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
