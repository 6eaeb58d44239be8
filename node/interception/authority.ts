/**
 * The certificate authority of this installation. Guests whose secrets are put in on the way out trust
 * it, and nobody else does: its certificates say that cloudlet is the server.
 *
 * @module
 */
import "reflect-metadata"; // what the next one needs
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { createSecureContext, type SecureContext } from "node:tls";
import { join } from "node:path";
import { stateDir } from "../../base/dirs.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY = 24 * 3_600_000;
const AUTHORITY_DAYS = 3650;
const SERVER_DAYS = 30;
/** A clock of a guest may be behind. */
const BEFORE = DAY;
/** Certificates that are kept. */
const MOST_NAMES = 256;
const FILE = "network-authority.pem";

function pem(kind: string, bytes: Uint8Array): string {
  const lines = bytes.toBase64().replaceAll(/.{64}/g, "$&\n").trimEnd();
  return `-----BEGIN ${kind}-----\n${lines}\n-----END ${kind}-----\n`;
}

function fromPem(text: string, kind: string): Uint8Array<ArrayBuffer> | undefined {
  const body = new RegExp(`-----BEGIN ${kind}-----([^-]*)-----END`).exec(text)?.[1];
  return body === undefined ? undefined : Uint8Array.fromBase64(body.replaceAll(/\s/g, ""));
}

async function newKeys(): Promise<CryptoKeyPair> {
  return await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as CryptoKeyPair;
}

async function privatePem(key: CryptoKey): Promise<string> {
  return pem("PRIVATE KEY", new Uint8Array(await crypto.subtle.exportKey("pkcs8", key)));
}

/** RFC 5280 section 4.1.2.2: positive, at most 20 bytes. */
function serialNumber(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0]! &= 0x7f;
  return bytes.toHex();
}

function times(days: number) {
  const now = Date.now();
  return { notBefore: new Date(now - BEFORE), notAfter: new Date(now + days * DAY) };
}

/** See the module. */
export class Authority {
  /** Its own certificate, as PEM: what guests trust. */
  readonly certificate: string;
  readonly #parsed: X509Certificate;
  readonly #key: CryptoKey;
  readonly #contexts = new Map<string, Promise<SecureContext>>();

  private constructor(parsed: X509Certificate, key: CryptoKey) {
    this.certificate = `${parsed.toString("pem").trimEnd()}\n`;
    this.#parsed = parsed;
    this.#key = key;
  }

  /**
   * This installation's; made when it is missing or about to end.
   *
   * @param directory where it is kept; the state's when absent
   */
  static async open(directory: string = stateDir()): Promise<Authority> {
    const path = join(directory, FILE);
    const text = await readTextIfAny(path);
    return (text === undefined ? undefined : await Authority.#read(text)) ??
      await Authority.#make(path, directory);
  }

  static async #read(text: string): Promise<Authority | undefined> {
    const [certificate, key] = [fromPem(text, "CERTIFICATE"), fromPem(text, "PRIVATE KEY")];
    if (certificate === undefined || key === undefined) return undefined;
    const parsed = new X509Certificate(certificate);
    if (parsed.notAfter.getTime() < Date.now() + SERVER_DAYS * DAY) return undefined;
    const imported = await crypto.subtle.importKey("pkcs8", key, ALGORITHM, true, ["sign"]);
    return new Authority(parsed, imported);
  }

  static async #make(path: string, directory: string): Promise<Authority> {
    const keys = await newKeys();
    const parsed = await X509CertificateGenerator.createSelfSigned({
      serialNumber: serialNumber(),
      name: "CN=cloudlet on this machine",
      ...times(AUTHORITY_DAYS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
    const certificate = `${parsed.toString("pem").trimEnd()}\n`;
    await writeFileAtomic(path, `${certificate}${await privatePem(keys.privateKey)}`, 0o600);
    return new Authority(parsed, keys.privateKey);
  }

  /** What a TLS server of a name has. */
  contextOf(name: string): Promise<SecureContext> {
    const known = this.#contexts.get(name);
    if (known !== undefined) return known;
    if (this.#contexts.size >= MOST_NAMES) {
      this.#contexts.delete(this.#contexts.keys().next().value!);
    }
    const made = this.#context(name);
    this.#contexts.set(name, made);
    made.catch(() => this.#contexts.delete(name));
    return made;
  }

  async #context(name: string): Promise<SecureContext> {
    const keys = await newKeys();
    const certificate = await X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: "CN=cloudlet", // a name may be longer than this field takes; the next one counts
      issuer: this.#parsed.subject,
      ...times(SERVER_DAYS),
      signingAlgorithm: ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      extensions: [
        new SubjectAlternativeNameExtension([{ type: "dns", value: name }]),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        // RFC 5280 sections 4.2.1.1 and 4.2.1.2, which Python insists on since 3.13
        await AuthorityKeyIdentifierExtension.create(this.#parsed.publicKey),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    return createSecureContext({
      key: await privatePem(keys.privateKey),
      cert: certificate.toString("pem"),
    });
  }
}
