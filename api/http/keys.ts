/**
 * API keys. The server keeps only their SHA-256: a key is 256 random bits, so there is nothing to
 * guess, and a slow hash would only slow every request down.
 *
 * ```text
 * # one key a line: a name for people, a colon, the hash
 * alice: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
 * ```
 *
 * @module
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { CloudletError, messageOf } from "../../base/errors.ts";

function hashOf(key: string): Uint8Array {
  return createHash("sha256").update(key).digest();
}

/** A new key, and the line that a file of keys holds for it. */
export function newKey(name: string): { readonly key: string; readonly line: string } {
  const random = crypto.getRandomValues(new Uint8Array(32));
  const key = `clt_${random.toBase64({ alphabet: "base64url", omitPadding: true })}`;
  return { key, line: `${name}: sha256:${hashOf(key).toHex()}` };
}

/** The keys that a server takes. */
export class Keys {
  readonly #hashes: readonly (readonly [name: string, hash: Uint8Array])[];

  /** @param lines of a file of keys */
  constructor(lines: readonly string[]) {
    this.#hashes = lines.flatMap((text, index) => {
      const line = text.trim();
      if (line === "" || line.startsWith("#")) return [];
      const match = /^([^:]+):\s*sha256:([0-9a-f]{64})$/.exec(line);
      if (match === null) {
        throw new CloudletError(`Cannot read the API keys: line ${index + 1} is not one`, {
          code: "invalid-input",
          remedy: "`cloudlet key NAME` makes a key and its line",
        });
      }
      return [[match[1]!.trim(), Uint8Array.fromHex(match[2]!)] as const];
    });
  }

  /**
   * Reads a file of keys.
   *
   * @throws {CloudletError} `invalid-input` when a line is wrong or the file cannot be read
   */
  static async read(path: string): Promise<Keys> {
    let text: string;
    try {
      text = await Deno.readTextFile(path);
    } catch (cause) {
      throw new CloudletError(`Cannot read the API keys in ${path}: ${messageOf(cause)}`, {
        code: "invalid-input",
        remedy: "give the path of a file of keys",
        cause,
      });
    }
    const keys = new Keys(text.split("\n"));
    if (keys.#hashes.length === 0) {
      throw new CloudletError(`Cannot use the API keys in ${path}: there is none`, {
        code: "invalid-input",
        remedy: "`cloudlet key NAME` makes a key and its line",
      });
    }
    return keys;
  }

  /**
   * Whose key a request carries.
   *
   * @param authorization the header of that name: `Bearer KEY`
   * @throws {CloudletError} `denied` when it is missing or unknown
   */
  check(authorization: string | null | undefined): string {
    const given = /^Bearer +([^\s]{1,512})$/i.exec(authorization ?? "")?.[1];
    if (given === undefined) {
      throw new CloudletError("Cannot serve the request: it carries no API key", {
        code: "denied",
        remedy: "send the header Authorization: Bearer KEY",
      });
    }
    const hash = hashOf(given);
    let owner: string | undefined;
    for (const [name, known] of this.#hashes) {
      if (timingSafeEqual(hash, known)) owner = name; // no early end: the time tells nothing
    }
    if (owner !== undefined) return owner;
    throw new CloudletError("Cannot serve the request: its API key is not known here", {
      code: "denied",
      remedy: "check the key, or ask whoever runs the server for one",
    });
  }
}
