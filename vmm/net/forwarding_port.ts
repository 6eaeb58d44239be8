/**
 * What wrappers around a port have in common: all is passed on.
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";
import type { DeviceState } from "../virtio/device.ts";
import type { NetworkPort } from "./link.ts";

/** A port that is another one; wrappers override what is theirs. */
export class ForwardingPort<Settings> implements NetworkPort<Settings> {
  /** The one that is wrapped. */
  protected readonly port: NetworkPort<Settings>;

  /** @param port the wrapper's own from now on */
  constructor(port: NetworkPort<Settings>) {
    this.port = port;
  }

  /** See {@linkcode NetworkPort.configure}. */
  configure(settings: Settings): void {
    this.port.configure(settings);
  }

  /** See {@linkcode NetworkPort.receive}. */
  receive(frame: Pieces): void {
    this.port.receive(frame);
  }

  /** See {@linkcode NetworkPort.holdOff}. */
  holdOff(): number {
    return this.port.holdOff?.() ?? 0;
  }

  /** See {@linkcode NetworkPort.flush}. */
  flush(): void {
    this.port.flush();
  }

  /** See {@linkcode NetworkPort.ready}. */
  ready(): void {
    this.port.ready();
  }

  /** See {@linkcode NetworkPort.reset}. */
  reset(): void {
    this.port.reset();
  }

  /** See {@linkcode NetworkPort.counters}. */
  counters(): Readonly<Record<string, number>> {
    return this.port.counters();
  }

  /** See {@linkcode NetworkPort.save}. */
  save(): DeviceState {
    return this.port.save();
  }

  /** See {@linkcode NetworkPort.restore}. */
  restore(state: DeviceState): void {
    this.port.restore(state);
  }

  /** Ends both. */
  [Symbol.dispose](): void {
    this.port[Symbol.dispose]();
  }
}
