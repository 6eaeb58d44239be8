/**
 * The table `[network]` of a config file.
 *
 * @module
 */
import { type NetworkOptions, parseBandwidth, parsePublished } from "../api/network.ts";
import { messageOf } from "../base/errors.ts";
import type { SchemaProblem } from "../base/schema_problems.ts";

/** As the file has it. */
export interface NetworkTable {
  readonly access?: NetworkOptions["access"] | undefined;
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  readonly publish: readonly string[];
  readonly bandwidth?: string | undefined;
}

/**
 * The network that a config gives its program; undefined for none. Rules are checked by the service.
 *
 * @param problems gets what cannot be read
 */
export function networkOf(
  { access, allow, deny, publish, bandwidth }: NetworkTable,
  problems: SchemaProblem[],
): NetworkOptions | undefined {
  const readable = (path: string[], read: () => unknown) => {
    try {
      read();
    } catch (error) {
      problems.push({ path: ["network", ...path], message: messageOf(error) });
    }
  };
  publish.forEach((port, i) => readable(["publish", String(i)], () => parsePublished(port)));
  if (bandwidth !== undefined) readable(["bandwidth"], () => parseBandwidth(bandwidth));
  if (access === undefined && allow.length + deny.length + publish.length === 0) return undefined;
  return {
    ...(access !== undefined && { access }),
    ...{ allow, deny, publish },
    ...(bandwidth !== undefined && { bandwidth }),
  };
}
