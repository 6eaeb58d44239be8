/**
 * The place of a network stack, which is loaded when the guest is given a network: most guests have
 * none, and each module costs the start of the device thread.
 *
 * @module
 */
import { lazyImport } from "../../../base/lazy_import.ts";
import type { Pieces } from "../../../ffi/pieces.ts";
import type { Link, NetworkPort } from "../../net/link.ts";
import { lostConnections } from "../../net/saved.ts";
import type { LinkEnds } from "../../net/guest_stack.ts";
import type { NetworkSettings } from "../../net/stack.ts";
import type { DeviceHost, DeviceState } from "../../virtio/device.ts";

/** See the module. */
export class LazyStack implements NetworkPort<NetworkSettings> {
  readonly #link: Link;
  readonly #host: DeviceHost;
  readonly #options: LinkEnds;
  #stack: NetworkPort<NetworkSettings> | undefined;
  /** Of a snapshot, for the stack when there is one. */
  #saved: DeviceState = [];

  /**
   * @param link to the guest
   * @param host of the device
   * @param options the addresses
   */
  constructor(link: Link, host: DeviceHost, options: LinkEnds) {
    this.#link = link;
    this.#host = host;
    this.#options = options;
  }

  configure(settings: NetworkSettings): void {
    if (this.#stack !== undefined) return this.#stack.configure(settings);
    this.#host.load(
      () =>
        lazyImport<typeof import("../../net/guest_stack.ts")>(
          "../../net/guest_stack.ts",
          import.meta.url,
        ),
      ({ guestStack }) => {
        if (this.#stack === undefined) {
          this.#stack = guestStack(this.#link, this.#host, this.#options, settings.capture);
          this.#stack.restore(this.#saved);
        }
        this.#stack.configure(settings);
        this.#stack.ready();
      },
    );
  }

  receive(frame: Pieces): void {
    this.#stack?.receive(frame);
  }

  holdOff(): number {
    return this.#stack?.holdOff?.() ?? 0;
  }

  flush(): void {
    this.#stack?.flush();
  }

  ready(): void {
    this.#stack?.ready();
  }

  reset(): void {
    this.#saved = [];
    this.#stack?.reset();
  }

  counters(): Readonly<Record<string, number>> {
    return this.#stack?.counters() ?? {};
  }

  save(): DeviceState {
    return this.#stack?.save() ?? this.#saved;
  }

  restore(state: DeviceState): void {
    lostConnections(state); // a snapshot that is none is refused at once
    this.#saved = state;
  }

  [Symbol.dispose](): void {
    this.#stack?.[Symbol.dispose]();
  }
}
