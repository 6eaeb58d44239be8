/**
 * The table `[network]` of a config file.
 *
 * @module
 */
import {
  type BuildNetworkOptions,
  type NetworkOptions,
  parseBandwidth,
  parsePublished,
  type SecretOptions,
} from "../api/network.ts";
import { CloudletError, messageOf } from "../base/errors.ts";
import type { SchemaProblem } from "../base/schema_problems.ts";
import type { NetworkTable } from "./config_schema.ts";

/**
 * The value of a secret.
 *
 * @param variable of this process
 * @throws {CloudletError} `invalid-input` when it is not set
 */
export function secretFrom(variable: string): string {
  const value = Deno.env.get(variable);
  if (value !== undefined && value !== "") return value;
  throw new CloudletError(`Cannot take the secret from ${variable}: the variable is not set`, {
    code: "invalid-input",
    remedy: `set ${variable} for cloudlet; the program does not get it`,
  });
}

/**
 * Reads `NAME@HOST[,HOST...]`, the value of which is this process's variable of the name.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function parseSecret(text: string): readonly [name: string, secret: SecretOptions] {
  const [, name, hosts] = /^([A-Za-z_]\w*)@([^@\s]+)$/.exec(text) ?? [];
  if (name === undefined || hosts === undefined) {
    throw new CloudletError(`${JSON.stringify(text)} does not say who gets the secret`, {
      code: "invalid-input",
      remedy: "write NAME@HOST, such as API_KEY@api.example.com, with more hosts behind commas",
    });
  }
  return [name, { value: secretFrom(name), hosts: hosts.split(",") }];
}

/**
 * The network that a config gives its program; undefined for none. Rules are checked by the service.
 *
 * @param problems gets what cannot be read
 * @param table where it is written
 */
export function networkOf(
  { access, allow, deny, publish, bandwidth, secrets }: NetworkTable,
  problems: SchemaProblem[],
  table: readonly string[] = ["network"],
): NetworkOptions | undefined {
  const readable = (path: string[], read: () => unknown) => {
    try {
      read();
    } catch (error) {
      problems.push({ path: [...table, ...path], message: messageOf(error) });
    }
  };
  publish.forEach((port, i) => readable(["publish", String(i)], () => parsePublished(port)));
  if (bandwidth !== undefined) readable(["bandwidth"], () => parseBandwidth(bandwidth));
  const values: Record<string, SecretOptions> = {};
  for (const [name, { env, hosts }] of Object.entries(secrets)) {
    readable(["secrets", name, "env"], () => {
      values[name] = { value: secretFrom(env), hosts };
    });
  }
  const count = allow.length + deny.length + publish.length + Object.keys(secrets).length;
  if (access === undefined && count === 0) return undefined;
  return {
    ...(access !== undefined && { access }),
    ...{ allow, deny, publish, secrets: values },
    ...(bandwidth !== undefined && { bandwidth }),
  };
}

/** What installing a project's packages may reach, as `[build] network` has it; undefined for nothing. */
export function buildNetworkOf(
  network: "none" | "public" | readonly string[] | Omit<NetworkTable, "publish"> | undefined,
  problems: SchemaProblem[],
): BuildNetworkOptions | undefined {
  if (network === undefined || typeof network === "string" || isList(network)) return network;
  const { publish: _, ...rest } =
    networkOf({ ...network, publish: [] }, problems, ["build", "network"]) ?? {};
  return rest;
}

function isList(network: object): network is readonly string[] {
  return Array.isArray(network);
}
