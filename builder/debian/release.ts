/**
 * The signed head of a suite (InRelease): Debian wiki "DebianRepository/Format", RFC 9580 section 7
 * (cleartext signatures).
 *
 * @module
 */
import { CloudletError, messageOf } from "../../base/errors.ts";
import { parseParagraph } from "./control.ts";
import type { Expected } from "../fetch_file.ts";

/** What a verified InRelease says. */
export interface Release {
  /** URL that it came from, for error messages. */
  readonly url: string;
  /** Origin field, `Debian` for Debian. */
  readonly origin: string;
  /** Codename field, such as `bookworm-security`. */
  readonly codename: string;
  /** Suite field, such as `oldstable-security`: which state the release is in. */
  readonly suite: string;
  /** When it was made, in milliseconds since 1970. */
  readonly date: number;
  /** When it ends to be valid, in milliseconds since 1970. */
  readonly validUntil: number | undefined;
  /** Whether files can be had under their digests. */
  readonly byHash: boolean;
  /** Architectures field. */
  readonly architectures: readonly string[];
  /** Whether packages of architecture `all` are in every architecture's index. */
  readonly allIncluded: boolean;
  /** Files by path relative to the InRelease. */
  readonly files: ReadonlyMap<string, Expected>;
}

function untrusted(url: string, why: string, remedy: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot trust ${url}: ${why}`, { code: "untrusted", remedy, cause });
}

/** OpenPGP certificates. */
export interface Keyring {
  /** For error messages. */
  readonly name: string;
  /** Files with certificates, each ASCII-armoured (several blocks are fine) or binary. */
  readonly parts: readonly Uint8Array[];
}

const ARMOR = /-----BEGIN PGP PUBLIC KEY BLOCK-----[\s\S]*?-----END PGP PUBLIC KEY BLOCK-----/g;

// OpenPGP.js takes a while to load, and a cached release needs none of it.
const loadOpenpgp = () => import("openpgp");
type Openpgp = Awaited<ReturnType<typeof loadOpenpgp>>;
type Key = Awaited<ReturnType<Openpgp["readKey"]>>;

async function readKeys(openpgp: Openpgp, keyring: Keyring): Promise<Key[]> {
  try {
    const keys: Key[] = [];
    for (const part of keyring.parts) {
      const blocks = new TextDecoder("latin1").decode(part).match(ARMOR);
      if (blocks === null) keys.push(...await openpgp.readKeys({ binaryKeys: part }));
      for (const armoredKeys of blocks ?? []) keys.push(...await openpgp.readKeys({ armoredKeys }));
    }
    if (keys.length === 0) throw new Error("it has no keys");
    return keys;
  } catch (cause) {
    throw new CloudletError(`Cannot read the keyring ${keyring.name}: ${messageOf(cause)}`, {
      code: "invalid-input",
      remedy: "install the package debian-archive-keyring, or name another keyring in the settings",
      cause,
    });
  }
}

/** Fingerprints of the primary keys in a keyring, in hex. */
export async function fingerprints(keyring: Keyring): Promise<string[]> {
  const keys = await readKeys(await loadOpenpgp(), keyring);
  return keys.map((key) => key.getFingerprint());
}

/**
 * Verifies the signature of an InRelease.
 *
 * @param text the file as it came
 * @param url where it came from, for error messages
 * @param keyring keys that are trusted; one good signature by one of them is enough, and a bad one by
 *   any of them is refused
 * @param now the time at which keys must be valid
 * @returns the signed text, which alone may be used
 * @throws {CloudletError} `untrusted` when it was tampered with or not signed by a trusted, valid key;
 *   {@linkcode isUnknownSigner} tells the case that no signer is known
 */
export async function verifyInRelease(
  text: string,
  url: string,
  keyring: Keyring,
  now: Date = new Date(),
): Promise<string> {
  const openpgp = await loadOpenpgp();
  const verificationKeys = await readKeys(openpgp, keyring);
  let message: Awaited<ReturnType<Openpgp["readCleartextMessage"]>>;
  try {
    // Text before or after the signed part would not be seen by the verification.
    if (!/^-----BEGIN PGP SIGNED MESSAGE-----\r?\n/.test(text)) {
      throw new Error("no signed message");
    }
    message = await openpgp.readCleartextMessage({ cleartextMessage: text });
  } catch (cause) {
    const why = `it is no signed text (${messageOf(cause)})`;
    throw untrusted(url, why, "check the mirror's URL, or use another mirror", cause);
  }
  const result = await openpgp.verify({ message, verificationKeys, date: now });
  let good = false;
  const faults: string[] = [];
  const strangers: string[] = [];
  for (const { keyID, verified } of result.signatures) {
    const id = keyID.toHex();
    const signer = verificationKeys.find((key) => key.getKeys(keyID).length > 0);
    if (signer === undefined) {
      strangers.push(id);
      continue;
    }
    try {
      await verified;
      // So far the key was only asked for at the time of the signature.
      await signer.getSigningKey(keyID, now);
      good = true;
    } catch (cause) {
      const why = messageOf(cause);
      if (/digest did not match|signature verification failed/i.test(why)) {
        throw untrusted(
          url,
          `the signature by key ${id} does not match the text (${why})`,
          "somebody changed the file on the way: use another mirror",
          cause,
        );
      }
      faults.push(`key ${id}: ${why}`);
    }
  }
  if (good) return result.data;
  if (faults.length > 0) {
    const remedy = "update the package debian-archive-keyring, or check this machine's clock";
    throw untrusted(url, `no signature is valid (${faults.join("; ")})`, remedy);
  }
  const who = strangers.length === 0 ? "nobody" : `unknown keys (${strangers.join(", ")})`;
  throw new UnknownSigner(
    `Cannot trust ${url}: it is signed by ${who}, none of them in ${keyring.name}`,
    {
      code: "untrusted",
      remedy:
        "update the package debian-archive-keyring, or name the right keyring in the settings",
    },
  );
}

class UnknownSigner extends CloudletError {}

/** Whether an error of {@linkcode verifyInRelease} says that no signer is in the keyring. */
export function isUnknownSigner(error: unknown): boolean {
  return error instanceof UnknownSigner;
}

const MAX_FILE = 4 * 1024 ** 3; // bytes; only to refuse nonsense

/**
 * Reads a verified release.
 *
 * @throws {CloudletError} `untrusted` when it is malformed
 */
export function parseRelease(text: string, url: string): Release {
  const fields = parseParagraph(text);
  const malformed = (why: string) => untrusted(url, why, "use another mirror");
  const time = (field: string) => {
    const value = fields.get(field);
    if (value === undefined) return undefined;
    const time = Date.parse(value);
    if (Number.isNaN(time)) throw malformed(`its field ${field} is no date`);
    return time;
  };
  const files = new Map<string, Expected>();
  for (const line of (fields.get("sha256") ?? "").split("\n")) {
    if (line.trim() === "") continue;
    const match = /^\s*([0-9a-f]{64})\s+(\d+)\s+(\S+)\s*$/.exec(line);
    const size = Number(match?.[2]);
    if (match === null || size > MAX_FILE) throw malformed("its list of SHA256 is malformed");
    files.set(match[3]!, { sha256: match[1]!, size });
  }
  if (files.size === 0) throw malformed("it has no list of SHA256");
  const date = time("date");
  if (date === undefined) throw malformed("it has no Date");
  const architectures = (fields.get("architectures") ?? "").split(/\s+/).filter(Boolean);
  return {
    url,
    origin: fields.get("origin") ?? "",
    codename: fields.get("codename") ?? "",
    suite: fields.get("suite") ?? "",
    date,
    validUntil: time("valid-until"),
    byHash: fields.get("acquire-by-hash") === "yes",
    architectures,
    allIncluded: !architectures.includes("all") ||
      (fields.get("no-support-for-architecture-all") ?? "").split(/\s+/).includes("Packages"),
    files,
  };
}

/**
 * Checks that a release is of the suite that was asked for: a mirror could answer with any other
 * that has a good signature, such as with `bookworm` in place of `bookworm-security`. apt only warns
 * ("Conflicting distribution").
 *
 * @param suite its codename or its state, as in the URL
 * @throws {CloudletError} `untrusted` when it is another
 */
export function checkSuite(release: Release, suite: string): void {
  if (release.codename === suite || release.suite === suite) return;
  throw untrusted(
    release.url,
    `it is of the suite ${release.codename} (${release.suite}), not of ${suite}`,
    "use another mirror, or correct the suite in the settings or the host's apt sources",
  );
}

/**
 * Checks that a release is not of the future: such a one would be taken for the newest for as long.
 *
 * @param maxFuture milliseconds by which this machine's clock may be late
 * @throws {CloudletError} `untrusted` when its Date is later than that
 */
export function checkDate(release: Release, maxFuture: number, now: Date = new Date()): void {
  if (release.date - now.getTime() <= maxFuture) return;
  throw untrusted(
    release.url,
    `it is not valid before ${new Date(release.date).toISOString()}`,
    "check this machine's clock, or use another mirror",
  );
}

/**
 * Checks that a release is still valid.
 *
 * @throws {CloudletError} `untrusted` when its Valid-Until has passed
 */
export function checkValidity(release: Release, now: Date = new Date()): void {
  if (release.validUntil === undefined || now.getTime() <= release.validUntil) return;
  throw untrusted(
    release.url,
    `it was valid until ${new Date(release.validUntil).toISOString()}`,
    "check this machine's clock, or use a mirror that is up to date",
  );
}
