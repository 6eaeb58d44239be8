/**
 * The guest's resolver: answers questions for addresses of names that a rule could allow, and no
 * others. It asks an upstream resolver itself, so that what a guest says leaves the host only as a
 * name that was allowed.
 *
 * @module
 */
import { TokenBucket } from "../../base/token_bucket.ts";
import { addressOf } from "../../ffi/mapping.ts";
import { Pieces } from "../../ffi/pieces.ts";
import type { Gate } from "./gate.ts";
import type { HostDatagrams, HostSockets } from "./sockets.ts";
import { type Clock, WakeUp } from "./timer.ts";
import {
  DnsCode,
  type DnsQuestion,
  DnsType,
  emitAnswer,
  emitQuestion,
  parseAnswer,
  parseQuestion,
} from "./wire/dns.ts";

/** Questions that wait for an upstream's answer at one time. */
const MOST_PENDING = 64;
/** Questions a second, and how many may come at once. */
const [RATE, BURST] = [50, 200];
/** Milliseconds for which one upstream is waited for, and how often one is asked. */
const PATIENCE = 2000;
const TRIES = 3;
/** Addresses of an answer: as many as fit into RFC 1035's 512 bytes behind the longest name. */
const MOST_ADDRESSES = 14;
/** Seconds: names are pinned for as long as that at least. */
const MOST_TTL = 300;

/** A resolver that is asked. */
export interface Upstream {
  /** Address as a 32-bit number. */
  readonly address: number;
  /** UDP port. */
  readonly port: number;
}

/** What a resolver works with. */
export interface ResolverOptions {
  /** The host's sockets. */
  readonly sockets: HostSockets;
  /** Which names. */
  readonly gate: Gate;
  /** The time. */
  readonly clock: Clock;
}

/** Sends an answer. */
export type Answer = (message: Uint8Array) => void;

/** A question that an upstream was asked. */
interface Pending {
  readonly question: DnsQuestion;
  readonly answer: Answer;
  readonly id: number;
  tries: number;
  due: number;
  socket: HostDatagrams | undefined;
}

/** See the module. */
export class Resolver implements Disposable {
  /** Questions that came too fast. */
  tooMany = 0;
  /** Who is asked, in this order. */
  upstreams: readonly Upstream[] = [];
  readonly #options: ResolverOptions;
  readonly #pending = new Set<Pending>();
  readonly #wakeUp: WakeUp;
  readonly #rate: TokenBucket;

  /** @param options what it works with */
  constructor(options: ResolverOptions) {
    this.#options = options;
    this.#wakeUp = new WakeUp(options.clock, () => this.#tick());
    this.#rate = new TokenBucket(RATE, BURST, options.clock.now());
  }

  /** Questions that wait for an answer. */
  get pending(): number {
    return this.#pending.size;
  }

  /**
   * A message of the guest.
   *
   * @param bytes of it
   * @param answer called at most once, now or later
   */
  ask(bytes: Uint8Array, answer: Answer): void {
    const question = parseQuestion(bytes);
    if (question === undefined) return;
    const say = (code: number) => answer(emitAnswer(question, code));
    if (!question.isStandard) return say(DnsCode.NOT_IMPLEMENTED);
    const isRoom = this.#rate.take(1, this.#options.clock.now()) &&
      this.#pending.size < MOST_PENDING;
    if (!isRoom) {
      this.tooMany++;
      return say(DnsCode.REFUSED);
    }
    if (!this.#options.gate.lookUp(question.name)) return say(DnsCode.REFUSED);
    // There is no IPv6, and nothing but addresses is needed to connect.
    if (question.type !== DnsType.A) return say(DnsCode.NO_ERROR);
    const id = crypto.getRandomValues(new Uint16Array(1))[0]!;
    const pending = { question, answer, id, tries: 0, due: 0, socket: undefined };
    this.#pending.add(pending);
    this.#askUpstream(pending);
  }

  #askUpstream(pending: Pending): void {
    const { sockets, clock } = this.#options;
    const { upstreams } = this;
    const upstream = upstreams[pending.tries++ % upstreams.length];
    if (upstream === undefined || pending.tries > TRIES) {
      return this.#finish(pending, DnsCode.SERVER_FAILURE);
    }
    pending.due = clock.now() + PATIENCE;
    // A socket, and thus a port, of its own: RFC 5452 section 9.2
    pending.socket?.[Symbol.dispose]();
    pending.socket = undefined;
    const { address, port } = upstream;
    const socket = sockets.datagrams(address, port, () => this.#onDatagram(pending));
    if (typeof socket === "number") return this.#finish(pending, DnsCode.SERVER_FAILURE);
    pending.socket = socket;
    const message = emitQuestion(pending.id, pending.question.name);
    const padded = new Uint8Array(512);
    padded.set(message);
    const pieces = new Pieces(1);
    pieces.add(addressOf(padded), message.length);
    socket.send(pieces);
    this.#wakeUp.at(pending.due);
  }

  #onDatagram(pending: Pending): void {
    if (!this.#pending.has(pending)) return;
    const bytes = pending.socket?.receive();
    // A port that is closed: the next one.
    if (bytes === undefined) return this.#askUpstream(pending);
    const reply = parseAnswer(bytes);
    const { question, id } = pending;
    if (reply === undefined || reply.id !== id || reply.name !== question.name) return;
    if (reply.code !== DnsCode.NO_ERROR) {
      const isName = reply.code === DnsCode.NAME_ERROR;
      return this.#finish(pending, isName ? DnsCode.NAME_ERROR : DnsCode.SERVER_FAILURE);
    }
    if (reply.truncated && reply.addresses.length === 0) {
      return this.#finish(pending, DnsCode.SERVER_FAILURE);
    }
    const ttl = Math.min(MOST_TTL, ...reply.addresses.map((record) => record.ttl));
    const addresses = reply.addresses.slice(0, MOST_ADDRESSES).map(({ address }) => address);
    const { gate, clock } = this.#options;
    const told = gate.answered(question.name, addresses, ttl, clock.now());
    const hidden = told.length === 0 && addresses.length > 0;
    this.#finish(
      pending,
      hidden ? DnsCode.NAME_ERROR : DnsCode.NO_ERROR,
      told.map((address) => ({ address, ttl })),
    );
  }

  #finish(
    pending: Pending,
    code: number,
    addresses: readonly { readonly address: number; readonly ttl: number }[] = [],
  ): void {
    this.#end(pending);
    pending.answer(emitAnswer(pending.question, code, addresses));
  }

  #end(pending: Pending): void {
    this.#pending.delete(pending);
    pending.socket?.[Symbol.dispose]();
    pending.socket = undefined;
  }

  #tick(): void {
    const now = this.#options.clock.now();
    for (const pending of [...this.#pending]) {
      if (pending.due <= now) this.#askUpstream(pending);
      if (this.#pending.has(pending)) this.#wakeUp.at(pending.due);
    }
  }

  /** Forgets all questions. */
  clear(): void {
    for (const pending of [...this.#pending]) this.#end(pending);
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}
