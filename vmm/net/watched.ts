/**
 * A plug that shows each frame as it passes, both ways.
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";
import type { DeviceState } from "../virtio/device.ts";
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

class WatchedPort<Settings> implements NetworkPort<Settings> {
  readonly #port: NetworkPort<Settings>;
  readonly #watcher: FrameWatcher;

  constructor(port: NetworkPort<Settings>, watcher: FrameWatcher) {
    this.#port = port;
    this.#watcher = watcher;
  }

  configure(settings: Settings): void {
    this.#port.configure(settings);
  }

  receive(frame: Pieces): void {
    this.#watcher("from-guest", frame);
    this.#port.receive(frame);
  }

  holdOff(): number {
    return this.#port.holdOff?.() ?? 0;
  }

  flush(): void {
    this.#port.flush();
  }

  ready(): void {
    this.#port.ready();
  }

  reset(): void {
    this.#port.reset();
  }

  counters(): Readonly<Record<string, number>> {
    return this.#port.counters();
  }

  save(): DeviceState {
    return this.#port.save();
  }

  restore(state: DeviceState): void {
    this.#port.restore(state);
  }

  [Symbol.dispose](): void {
    this.#port[Symbol.dispose]();
  }
}

/** The plug with a watcher in between. */
export function watched<Settings>(
  plug: Plug<Settings>,
  watcher: FrameWatcher,
): Plug<Settings> {
  return (link) => new WatchedPort(plug(new WatchedLink(link, watcher)), watcher);
}
