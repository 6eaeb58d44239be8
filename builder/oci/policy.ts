/**
 * Which registries a server asks for its clients.
 *
 * A client names the image, and a registry names further servers by redirects and token services. A
 * server with a policy asks no host of its own network unless its operator listed it.
 *
 * @module
 */
import { addressKind, hostAddress } from "../../base/addresses.ts";
import { CloudletError } from "../../base/errors.ts";
import type { RegistrySettings } from "../../base/settings.ts";
import type { Reference } from "./reference.ts";

/** What the operator of a server lets its clients pull. Hosts are written as in references. */
export interface RegistryPolicy {
  /** Registries that images may come from; every public one when empty. */
  readonly allowed: readonly string[];
  /** Registries that may speak http; they are allowed as well. */
  readonly insecure: readonly string[];
}

/**
 * The policy of a server.
 *
 * @param settings of its operator
 * @param allowed registries that the command line names, in place of those of the settings
 */
export function registryPolicy(
  settings: Pick<RegistrySettings, "allowed" | "insecure">,
  allowed: readonly string[] = settings.allowed,
): RegistryPolicy {
  return { allowed, insecure: settings.insecure };
}

/** `HOST[:PORT]` without the port that the scheme has anyway. */
function usual(host: string, protocol: string): string {
  return URL.canParse(`${protocol}//${host}`) ? new URL(`${protocol}//${host}`).host : host;
}

/** Whether the operator named the host and port of a URL. */
export function isListed(policy: RegistryPolicy, { protocol, host }: URL): boolean {
  return [...policy.allowed, ...policy.insecure].some((name) => usual(name, protocol) === host);
}

function denied(what: string, why: string, remedy: string): CloudletError {
  return new CloudletError(`Cannot pull ${what}: ${why}`, { code: "denied", remedy });
}

/**
 * Checks what a client asks for, without the network.
 *
 * @param insecure whether the client wants http
 * @throws {CloudletError} `denied`
 */
export function checkReference(
  policy: RegistryPolicy,
  reference: Reference,
  insecure: boolean,
): void {
  if (reference.kind !== "registry") return;
  const { host, repository } = reference;
  const name = `${host}/${repository}`;
  if (insecure && !policy.insecure.includes(host)) {
    throw denied(
      name,
      "only the server's operator may choose http",
      `ask the operator to add ${JSON.stringify(host)} to [registry] insecure of the settings`,
    );
  }
  const listed = isListed(policy, new URL(`https://${host}`));
  if (!listed && policy.allowed.length > 0) {
    throw denied(
      name,
      "this server does not pull from that registry",
      `use one of ${[...policy.allowed, ...policy.insecure].join(", ")}`,
    );
  }
  const address = hostAddress(new URL(`https://${host}`).hostname);
  if (!listed && address !== undefined) checkAddress(address, host);
}

/**
 * Checks an address that is about to be dialled for a host that is not listed.
 *
 * @param kindOf classifies an address
 * @throws {CloudletError} `denied`; it does not tell the address, which may be a secret of the
 *   server's network
 */
export function checkAddress(
  address: string,
  host: string,
  kindOf: (address: string) => ReturnType<typeof addressKind> = addressKind,
): void {
  if (kindOf(address) === "public") return;
  throw denied(
    `from ${host}`,
    "its address is not a public one",
    `ask the operator to add ${JSON.stringify(host)} to [registry] allowed of the settings`,
  );
}
