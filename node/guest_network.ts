/**
 * The network of one machine of this host: the VM's card, the ports that lead into it, and what a
 * person may want to know of both.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import { lazyImport } from "../base/lazy_import.ts";
import { setNetwork } from "../vmm/devices/net/kind.ts";
import type { DeviceRequests } from "../vmm/devices/kind.ts";
import type { Intercepted } from "./interception/open.ts";
import type { MachineNetwork, MachineNetworkEvent, PublishedPort } from "./network.ts";
import { EventQueue } from "./progress_events.ts";
import { ListeningPort } from "./published_port.ts";
import { findResolvers, type ResolverAddress } from "./resolvers.ts";

/** Most ports of one machine. */
const MOST_PORTS = 64;

/** Makes the file, with its header: what the VM's thread writes later follows it. */
async function beginCapture(path: string): Promise<void> {
  const { pcapHeader } = await lazyImport<typeof import("../vmm/net/pcap.ts")>(
    "../vmm/net/pcap.ts",
    import.meta.url,
  );
  try {
    await Deno.writeFile(path, pcapHeader());
  } catch (cause) {
    throw new CloudletError(`Cannot write the network's frames to ${path}: ${messageOf(cause)}`, {
      code: "host",
      remedy: "name a file that can be written",
      cause,
    });
  }
}

/** See the module. */
export class GuestNetwork implements AsyncDisposable {
  /** Path of the vsock device's socket. */
  readonly #socket: string;
  readonly #events = new EventQueue<MachineNetworkEvent>();
  readonly #ports = new AsyncDisposableStack();
  readonly #unanswered = new Set<number>();
  #authority = "";

  /** @param socket path of the vsock device's socket */
  constructor(socket: string) {
    this.#socket = socket;
  }

  /** Certificate (PEM) that programs have to trust; empty for none. */
  get authority(): string {
    return this.#authority;
  }

  /** Takes what the VM's device says. */
  heard(event: MachineNetworkEvent): void {
    this.#events.push(event);
  }

  /**
   * Gives the VM its network. What it had before is gone, with its connections.
   *
   * @param devices of the VM, which need not run yet
   * @param network what it may do
   * @param capture path of a file that gets all frames, for Wireshark; none when absent
   * @throws {CloudletError} `conflict` for a port that is taken, `invalid-input` for too many, `host`
   *   when the capture cannot be written
   */
  async plug(devices: DeviceRequests, network: MachineNetwork, capture?: string): Promise<void> {
    const { policy, publish, bandwidth, secrets = [], downloads = false } = network;
    if (publish.length > MOST_PORTS) {
      throw new CloudletError(
        `Cannot publish ${publish.length} ports: ${MOST_PORTS} are the most`,
        {
          code: "invalid-input",
        },
      );
    }
    const upstreams: ResolverAddress[] = policy === undefined ? [] : await findResolvers();
    for (const port of publish) await this.#publish(port);
    const interception = policy && (secrets.length > 0 || downloads)
      ? await this.#intercept({ secrets, downloads })
      : undefined;
    if (capture !== undefined && policy !== undefined) await beginCapture(capture);
    setNetwork(devices, policy && { policy, upstreams, bandwidth, interception, capture });
  }

  async #intercept(intercepted: Intercepted) {
    const { openProxy } = await lazyImport<typeof import("./interception/open.ts")>(
      "./interception/open.ts",
      import.meta.url,
    ); // and with it what makes certificates
    const { proxy, certificate } = await openProxy(
      intercepted,
      (message) => this.#events.push({ kind: "secret", message }),
    );
    const { port, token } = this.#ports.use(proxy);
    this.#authority = certificate;
    const { secrets, downloads } = intercepted;
    const hosts = downloads ? "all" as const : secrets.flatMap(({ hosts }) => hosts);
    return { port, token, hosts };
  }

  async #publish(asked: PublishedPort): Promise<void> {
    const { guestPort } = asked;
    const listening = this.#ports.use(
      await ListeningPort.open(asked, {
        socket: this.#socket,
        onUnanswered: () => {
          if (this.#unanswered.has(guestPort)) return;
          this.#unanswered.add(guestPort);
          this.#events.push({ kind: "unanswered", ...listening.published });
        },
      }),
    );
    this.#events.push({ kind: "published", ...listening.published });
  }

  /** What happens, until `end` resolves. */
  during(end: Promise<unknown>): AsyncIterable<MachineNetworkEvent> {
    return this.#events.during(end);
  }

  /** Closes the ports; the VM's card ends with the VM. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#ports[Symbol.asyncDispose]();
  }
}
