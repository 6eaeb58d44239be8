/**
 * VmmService inside this process: what `run` uses when it is given no server.
 *
 * @module
 */
import type { Transport } from "@connectrpc/connect";
import { type EmbeddedOptions, embeddedService } from "../../service/embedded.ts";
import { inMemoryTransport } from "../../service/routes.ts";

export type { EmbeddedOptions };

/** A transport to a service of its own, which holds nothing while no run is under way. */
export function embeddedTransport(options: EmbeddedOptions): Transport {
  return inMemoryTransport(embeddedService(options));
}
