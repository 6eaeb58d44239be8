/**
 * Which server the commands talk to.
 *
 * @module
 */
import type { ServerAddress } from "../api/library/options.ts";

/** Where a server listens that was told nothing else. */
export const defaultServer = "http://localhost:3000";

/** The flag that names a server. */
export const serverFlag = {
  kind: "parsed",
  parse: String,
  optional: true,
  placeholder: "url",
  brief: `the server's address; ${defaultServer} when absent`,
} as const;

/** Flags of every command that asks a server. */
export interface ServerFlags {
  readonly server?: string;
}

/** Name of the variable that holds an API key. */
export const KEY_VARIABLE = "CLOUDLET_API_KEY";

/**
 * The server that `--server`, the config or the default tells, with the key of the environment.
 *
 * @param flags of the command
 * @param config the table `[server]`
 */
export function serverFromFlags(
  flags: { readonly server?: string },
  config?: { readonly address: string; readonly port: number },
): ServerAddress {
  const key = Deno.env.get(KEY_VARIABLE);
  const host = config?.address.includes(":") ? `[${config.address}]` : config?.address;
  const url = flags.server ?? (config ? `http://${host}:${config.port}` : defaultServer);
  return { url, ...(key && { key }) };
}
