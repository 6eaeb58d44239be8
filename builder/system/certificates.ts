/**
 * What update-ca-certificates(8) makes of the package ca-certificates: one file with all certificates,
 * and the directory in which OpenSSL finds them by the hash of their subjects.
 *
 * @module
 */
import { createHash, X509Certificate } from "node:crypto";
import { symlinkNode, type Tree } from "../tree.ts";
import { addDirectory, addMissing, namesIn, readText } from "./text.ts";

const SOURCE = "usr/share/ca-certificates/mozilla";
const DIRECTORY = "etc/ssl/certs";

/** Adds them, where the package is. */
export function addCertificates(tree: Tree): void {
  const files = namesIn(tree, SOURCE).filter((name) => name.endsWith(".crt"));
  if (files.length === 0 || tree.lookup(`${DIRECTORY}/ca-certificates.crt`) !== undefined) return;
  const texts: string[] = [];
  const taken = new Map<string, number>();
  for (const file of files) {
    const text = readText(tree, `${SOURCE}/${file}`);
    if (text === undefined) continue;
    texts.push(text.endsWith("\n") ? text : `${text}\n`);
    // update-ca-certificates: sed -e 's/ /_/g' -e 's/[()]/=/g' -e 's/,/_/g'
    const name = `${
      file.slice(0, -".crt".length).replaceAll(/[ ,]/g, "_").replaceAll(/[()]/g, "=")
    }.pem`;
    tree.add(`${DIRECTORY}/${name}`, symlinkNode(`/${SOURCE}/${file}`));
    const hash = subjectHash(text);
    if (hash === undefined) continue;
    const count = taken.get(hash) ?? 0;
    taken.set(hash, count + 1);
    tree.add(`${DIRECTORY}/${hash}.${count}`, symlinkNode(name));
  }
  addMissing(tree, `${DIRECTORY}/ca-certificates.crt`, texts.join(""));
  addDirectory(tree, "usr/local/share/ca-certificates");
  addMissing(
    tree,
    "etc/ca-certificates.conf",
    files.map((file) => `mozilla/${file}\n`).join(""),
  );
}

/** One element of DER: X.690 8.1. */
interface Element {
  readonly tag: number;
  readonly content: Uint8Array;
  /** With tag and length. */
  readonly whole: Uint8Array;
}

function* elements(bytes: Uint8Array): Generator<Element> {
  for (let at = 0; at < bytes.length;) {
    const start = at;
    const tag = bytes[at++]!;
    let length = bytes[at++] ?? 0;
    if (length > 0x80) {
      const count = length & 0x7f;
      length = 0;
      for (let i = 0; i < count; i++) length = length * 256 + (bytes[at++] ?? 0);
    }
    if (at + length > bytes.length) throw new RangeError("an element passes the end");
    yield {
      tag,
      content: bytes.subarray(at, at + length),
      whole: bytes.subarray(start, at + length),
    };
    at += length;
  }
}

function encode(tag: number, content: Uint8Array): Uint8Array {
  const size = content.length;
  const length = size < 128 ? [size] : size < 256 ? [0x81, size] : [0x82, size >> 8, size & 255];
  return new Uint8Array([tag, ...length, ...content]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

const DECODERS: Readonly<Record<number, string>> = {
  0x0c: "utf-8", // UTF8String
  0x13: "latin1", // PrintableString
  0x14: "latin1", // T61String
  0x16: "latin1", // IA5String
  0x1a: "latin1", // VisibleString
  0x1e: "utf-16be", // BMPString
};
const UTF8_STRING = 0x0c;
const SET = 0x31;
const SEQUENCE = 0x30;

/** An attribute's value as OpenSSL compares it: crypto/x509/x_name.c, asn1_string_canon(). */
function canonical({ tag, content, whole }: Element): Uint8Array {
  const decoder = DECODERS[tag];
  if (decoder === undefined) return whole;
  const text = new TextDecoder(decoder).decode(content)
    .replaceAll(/[ \t\n\v\f\r]+/g, " ").replaceAll(/^ | $/g, "")
    .replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());
  return encode(UTF8_STRING, new TextEncoder().encode(text));
}

/**
 * The hash of a certificate's subject: `openssl x509 -subject_hash`, X509_NAME_hash_ex(3).
 *
 * @param pem a certificate in PEM
 * @returns eight hex digits; undefined when it is no certificate
 */
export function subjectHash(pem: string): string | undefined {
  try {
    const [certificate] = elements(new X509Certificate(pem).raw);
    const [toBeSigned] = elements(certificate!.content);
    // RFC 5280 4.1: [version], serialNumber, signature, issuer, validity, subject
    const fields = [...elements(toBeSigned!.content)].filter(({ tag }) => tag !== 0xa0);
    const names = [...elements(fields[4]!.content)].map((set) =>
      encode(
        SET,
        concat([...elements(set.content)].map((attribute) => {
          const [type, value] = elements(attribute.content);
          return encode(SEQUENCE, concat([type!.whole, canonical(value!)]));
        })),
      )
    );
    const digest = createHash("sha1").update(concat(names)).digest();
    return digest.readUInt32LE(0).toString(16).padStart(8, "0");
  } catch {
    return undefined;
  }
}
