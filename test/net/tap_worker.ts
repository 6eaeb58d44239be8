/**
 * The thread of the stack, as the device worker is one: it blocks in epoll.
 *
 * @module
 */
import { workerScope } from "../../base/worker_scope.ts";
import { clearEvent } from "../../ffi/eventfd.ts";
import { EPOLLIN } from "../../ffi/uapi/mman.ts";
import { Poller } from "../../vmm/device_thread/poller.ts";
import { faulty } from "../../vmm/net/faults_testing.ts";
import { KernelSockets } from "../../vmm/net/kernel_sockets.ts";
import type { Plug } from "../../vmm/net/link.ts";
import type { Policy } from "../../vmm/net/policy.ts";
import type { Upstream } from "../../vmm/net/resolver.ts";
import { type NetworkSettings, NetworkStack } from "../../vmm/net/stack.ts";
import { traceFrame } from "../../vmm/net/tracer.ts";
import { watched } from "../../vmm/net/watched.ts";
import { Random } from "../fuzz/harness.ts";
import { PasstPort } from "./passt.ts";
import { TapCard } from "./tap.ts";

/** What a thread is told. */
export interface StackStart {
  /** Descriptor of the TAP. */
  readonly tap: number;
  /** eventfd that asks for the counters, and one that ends the thread. */
  readonly ask: number;
  readonly end: number;
  readonly mtu: number;
  readonly segments: boolean;
  readonly policy: Policy | undefined;
  readonly upstreams: readonly Upstream[];
  readonly guestMac: Uint8Array;
  readonly gatewayMac: Uint8Array;
  readonly guest: number;
  readonly gateway: number;
  /** Whether the kernel's SO_PEEK_OFF is used. */
  readonly peekOffset: boolean;
  /** Socket of the passt that takes the stack's place. */
  readonly passt: string | undefined;
  /** Shares of frames, and a seed. */
  readonly faults?: {
    readonly lost: number;
    readonly twice: number;
    readonly late: number;
    readonly seed: number;
  } | undefined;
}

/** What it says. */
export type StackSays =
  | { readonly kind: "counters"; readonly counters: Readonly<Record<string, number>> }
  | { readonly kind: "event"; readonly event: unknown };

const scope = workerScope<StackStart, StackSays>();

async function run(start: StackStart): Promise<void> {
  using poller = new Poller((message) => {
    console.error(`stack: ${message}`);
    Deno.exit(3);
  });
  const clock = {
    now: () => performance.now(),
    after: (milliseconds: number, task: () => void) => poller.after(milliseconds, task),
  };
  let plug: Plug<NetworkSettings> = (link) => {
    const stack = new NetworkStack(link, {
      addresses: start,
      sockets: new KernelSockets(poller, start.peekOffset),
      clock,
      own: (address) => address >>> 8 === start.gateway >>> 8,
      onEvent: (event) => scope.postMessage({ kind: "event", event }),
    });
    stack.configure(start);
    return stack;
  };
  const { passt } = start;
  if (passt !== undefined) plug = (link) => new PasstPort(link, poller, passt);
  if (start.faults !== undefined) {
    const { seed, ...rates } = start.faults;
    const random = new Random(seed);
    plug = faulty(plug, { ...rates, random: () => random.u32() / 2 ** 32 }, clock);
  }
  if (Deno.env.get("CLOUDLET_TRACE") !== undefined) {
    const begin = performance.now();
    plug = watched(plug, (direction, frame) => {
      console.error((performance.now() - begin).toFixed(1), traceFrame(direction, frame));
    });
  }
  using card = new TapCard(start.tap, start.mtu, start.segments, poller, plug);
  poller.watch(start.ask, EPOLLIN, () => {
    clearEvent(start.ask);
    scope.postMessage({ kind: "counters", counters: card.counters() });
  });
  poller.watch(start.end, EPOLLIN, () => {
    clearEvent(start.end);
    poller.stop();
  });
  scope.postMessage({ kind: "counters", counters: card.counters() });
  await poller.run();
}

scope.onmessage = ({ data }) => {
  run(data);
  scope.close();
};
