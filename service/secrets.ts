/**
 * Secrets that programs have placeholders of, checked.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { NetworkSecret } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { READ_AT_START, TRUST_VARIABLES } from "../workload/trusted_certificates.ts";
import { type HostSecret, parseRule, type Rule } from "../node/network.ts";

/** Most secrets of a run, and characters of a value: header fields have some thousands at most. */
const MOST_SECRETS = 64;
const MOST_VALUE = 8192;
/** So short a text stands in an answer by chance. */
const LEAST_VALUE = 8;
/** Letters and digits of a placeholder at least: none is met by chance. */
const LEAST_PLACEHOLDER = 32;
const HTTPS = 443;

/** A secret, and the variable that has its placeholder. */
export interface NamedSecret extends HostSecret {
  /** Of the variable. */
  readonly name: string;
}

function refuse(name: string, why: string, remedy: string): CloudletError {
  return new CloudletError(`Cannot keep the secret ${JSON.stringify(name)}: ${why}`, {
    code: "invalid-input",
    remedy,
  });
}

/** As long as the value where that is long enough: programs may check the length. */
function newPlaceholder(length: number): string {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  const bytes = crypto.getRandomValues(new Uint8Array(Math.max(LEAST_PLACEHOLDER, length)));
  return Array.from(bytes, (byte) => letters[byte % letters.length]).join("");
}

/**
 * The secrets that are asked for, each with a placeholder of this run's.
 *
 * @throws {CloudletError} `invalid-input`; no error has the value in it
 */
export function secretsOf(asked: readonly NetworkSecret[]): NamedSecret[] {
  if (asked.length > MOST_SECRETS) {
    throw refuse(asked[0]!.name, `there are ${asked.length}`, `have at most ${MOST_SECRETS}`);
  }
  const names = new Set<string>();
  return asked.map(({ name, value, hosts }) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      throw refuse(name.slice(0, 100), "it is no name of a variable", "use letters, digits and _");
    }
    if (names.has(name)) throw refuse(name, "there are two of the name", "rename one of them");
    names.add(name);
    if (value.length < LEAST_VALUE || value.length > MOST_VALUE || /[\r\n\0]/.test(value)) {
      const remedy = `use ${LEAST_VALUE} to ${MOST_VALUE} characters without line breaks`;
      throw refuse(name, "its value is too short, too long, or has a line break", remedy);
    }
    if (hosts.length === 0) throw refuse(name, "no host gets it", "name the hosts that it is for");
    const targets = hosts.map((host) => {
      const { target, port, protocol } = parseRule(host, "allow");
      if (target.kind === "name" && port === undefined && protocol === undefined) return target;
      throw refuse(name, `${JSON.stringify(host)} is no name of a host`, "write api.example.com");
    });
    return { name, value, hosts: targets, placeholder: newPlaceholder(value.length) };
  });
}

/** What lets programs reach the hosts of their secrets. */
export function rulesOf(secrets: readonly NamedSecret[]): Rule[] {
  return secrets.flatMap(({ hosts }) => hosts).map((target) => {
    const name = target.kind === "name" ? `${target.subdomains ? "*." : ""}${target.name}` : "";
    return { action: "allow", target, port: HTTPS, text: `${name}:${HTTPS}` };
  });
}

/** What a program with secrets is started with: their placeholders, and whom it has to trust. */
export function secretOptions(
  network: { readonly secrets?: readonly NamedSecret[] | undefined } | undefined,
  language: string,
  { env, cold }: { readonly env: Readonly<Record<string, string>>; readonly cold: boolean },
): { readonly env: Record<string, string>; readonly cold: boolean } {
  const { secrets = [] } = network ?? {};
  if (secrets.length === 0) return { env: { ...env }, cold };
  return {
    // A program's own lists of certificates are its own matter.
    env: {
      ...TRUST_VARIABLES,
      ...env,
      ...Object.fromEntries(secrets.map(({ name, placeholder }) => [name, placeholder])),
    },
    cold: cold || READ_AT_START.has(language),
  };
}
