/**
 * The table `[network]` of a config file.
 *
 * @module
 */
import {
  type NetworkOptions,
  parseBandwidth,
  parsePublished,
  type SecretOptions,
} from "../api/network.ts";
import { CloudletError, messageOf } from "../base/errors.ts";
import type { SchemaProblem } from "../base/schema_problems.ts";

/** As the file has it. */
export interface NetworkTable {
  readonly access?: NetworkOptions["access"] | undefined;
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  readonly publish: readonly string[];
  readonly bandwidth?: string | undefined;
  /** By the program's variable: the variable of this process that has the value, and who gets it. */
  readonly secrets: Readonly<Record<string, { env: string; hosts: readonly string[] }>>;
}

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
 */
export function networkOf(
  { access, allow, deny, publish, bandwidth, secrets }: NetworkTable,
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
