/**
 * Datagrams between the guest and servers that a rule for UDP allows: a socket of the host for each
 * pair of ends, until it has been idle for a while (RFC 4787).
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";
import type { HostDatagrams, HostSockets } from "./sockets.ts";
import { type Clock, WakeUp } from "./timer.ts";

/** Flows of a guest at one time; the one that was used least lately makes room. */
const MOST_FLOWS = 256;
/** RFC 4787 section 4.3, REQ-5: "MUST NOT expire in less than two minutes". */
const IDLE = 120_000;
/** Datagrams of a flow in one turn. */
const BUDGET = 32;

/** Both ends. */
export interface FlowEnds {
  /** The guest's port. */
  readonly guestPort: number;
  /** The address and port that the guest uses. */
  readonly address: number;
  readonly port: number;
  /** The address that is used here: another one for this host. */
  readonly hostAddress: number;
}

interface Flow {
  readonly ends: FlowEnds;
  readonly socket: HostDatagrams;
  used: number;
}

/** Takes a datagram for the guest. */
export type Deliver = (ends: FlowEnds, datagram: Uint8Array) => void;

/** See the module. */
export class UdpFlows implements Disposable {
  readonly #sockets: HostSockets;
  readonly #clock: Clock;
  readonly #deliver: Deliver;
  readonly #flows = new Map<string, Flow>();
  readonly #wakeUp: WakeUp;

  /**
   * @param sockets of the host
   * @param clock the time
   * @param deliver to the guest
   */
  constructor(sockets: HostSockets, clock: Clock, deliver: Deliver) {
    this.#sockets = sockets;
    this.#clock = clock;
    this.#deliver = deliver;
    this.#wakeUp = new WakeUp(clock, () => this.#tick());
  }

  /** How many there are. */
  get size(): number {
    return this.#flows.size;
  }

  /** Sends a datagram of the guest; false when the host has no socket for it. */
  send(ends: FlowEnds, datagram: Pieces): boolean {
    const key = keyOf(ends);
    let flow = this.#flows.get(key);
    if (flow === undefined) {
      const socket = this.#sockets.datagrams(
        ends.hostAddress,
        ends.port,
        () => this.#onDatagrams(key),
      );
      if (typeof socket === "number") return false;
      flow = { ends, socket, used: 0 };
      this.#wakeUp.at(this.#clock.now() + IDLE);
    }
    this.#flows.delete(key); // those that were used last are last
    this.#flows.set(key, flow);
    flow.used = this.#clock.now();
    flow.socket.send(datagram);
    if (this.#flows.size > MOST_FLOWS) this.#end(this.#flows.keys().next().value!);
    return true;
  }

  #onDatagrams(key: string): void {
    const flow = this.#flows.get(key);
    if (flow === undefined) return;
    for (let budget = BUDGET; budget > 0; budget--) {
      const datagram = flow.socket.receive();
      if (datagram === undefined) return;
      this.#deliver(flow.ends, datagram);
    }
  }

  #tick(): void {
    const now = this.#clock.now();
    for (const [key, { used }] of [...this.#flows]) {
      if (used + IDLE <= now) this.#end(key);
      else this.#wakeUp.at(used + IDLE);
    }
  }

  #end(key: string): void {
    const flow = this.#flows.get(key);
    this.#flows.delete(key);
    flow?.socket[Symbol.dispose]();
  }

  /** Forgets all flows. */
  clear(): void {
    for (const key of [...this.#flows.keys()]) this.#end(key);
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}

function keyOf({ guestPort, address, port }: FlowEnds): string {
  return `${guestPort * 65_536 + port} ${address}`;
}
