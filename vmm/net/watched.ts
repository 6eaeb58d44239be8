/**
 * A plug that shows each frame as it passes, both ways.
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";
import { ForwardingPort } from "./forwarding_port.ts";
import type { Link, NetworkPort, Offload, Plug } from "./link.ts";

/** Which way a frame goes. */
export type Direction = "from-guest" | "to-guest";

/** Looks at frames; their bytes are there during the call only. */
export type FrameWatcher = (direction: Direction, frame: Pieces) => void;

class WatchedLink implements Link {
  readonly #link: Link;
  readonly #watcher: FrameWatcher;
  #frame: Pieces | undefined;

  constructor(link: Link, watcher: FrameWatcher) {
    this.#link = link;
    this.#watcher = watcher;
  }

  get mtu(): number {
    return this.#link.mtu;
  }

  get largest(): number {
    return this.#link.largest;
  }

  reserve(wanted: number, least?: number): Pieces | undefined {
    return this.#frame = this.#link.reserve(wanted, least);
  }

  commit(length: number, offload?: Offload): void {
    if (length > 0 && this.#frame !== undefined) {
      this.#frame.truncate(length);
      this.#watcher("to-guest", this.#frame);
    }
    this.#link.commit(length, offload);
  }
}

class WatchedPort<Settings> extends ForwardingPort<Settings> {
  readonly #watcher: FrameWatcher;

  constructor(port: NetworkPort<Settings>, watcher: FrameWatcher) {
    super(port);
    this.#watcher = watcher;
  }

  override receive(frame: Pieces): void {
    this.#watcher("from-guest", frame);
    super.receive(frame);
  }
}

/** The plug with a watcher in between. */
export function watched<Settings>(
  plug: Plug<Settings>,
  watcher: FrameWatcher,
): Plug<Settings> {
  return (link) => new WatchedPort(plug(new WatchedLink(link, watcher)), watcher);
}
