/**
 * The index of a suite's packages (Packages), read lazily: an index has some 60,000 paragraphs, of
 * which a resolution needs a hundred.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { CloudletError } from "../../base/errors.ts";
import { type Clause, parseParagraph, parseRelations } from "./control.ts";
import { compareVersions } from "./version.ts";

/** A package that can be fetched and unpacked. */
export interface DebianPackage {
  /** Name of the binary package. */
  readonly name: string;
  /** Debian version. */
  readonly version: string;
  /** `amd64` or `all`. */
  readonly architecture: string;
  /** SHA-256 of the .deb in hex. */
  readonly sha256: string;
  /** Length of the .deb in bytes. */
  readonly size: number;
  /** URL of the .deb. */
  readonly url: string;
  /** Name of the source package. */
  readonly source: string;
}

/** What the resolver needs to know of a package. */
export interface PackageRecord extends DebianPackage {
  /** Pre-Depends, then Depends. */
  readonly depends: readonly Clause[];
  /** Virtual packages (Provides). */
  readonly provides: readonly Clause[];
  /** Conflicts and Breaks. */
  readonly conflicts: readonly Clause[];
  /** Whether it is `Essential: yes`. */
  readonly essential: boolean;
  /** Whether dependencies with the qualifier `:any` are satisfied by it. */
  readonly multiArchAllowed: boolean;
  /** Rank of its priority: 0 is required, 4 is extra. */
  readonly priority: number;
  /** Place in the index, the last resort where two packages are equally good. */
  readonly order: number;
}

/** One Packages file, and where its packages are. */
export interface IndexFile {
  /** The text; only its ASCII part matters. */
  readonly bytes: Uint8Array;
  /** URL that the Filename fields are relative to, with a slash at the end. */
  readonly base: string;
  /** For error messages. */
  readonly name: string;
}

const PRIORITIES = ["required", "important", "standard", "optional", "extra"];
const SHA256 = /^[0-9a-f]{64}$/;
const NAME = /^[a-z0-9][a-z0-9+.-]*$/;
const MAX_PACKAGE = 8 * 1024 ** 3; // bytes; only to refuse nonsense

interface Stanza {
  readonly file: number;
  readonly start: number;
}

/** Several Packages files seen as one. */
export class PackageIndex {
  readonly #files: readonly (IndexFile & { readonly text: string })[];
  readonly #stanzas: Stanza[] = [];
  readonly #byName = new Map<string, number[]>();
  readonly #byProvided = new Map<string, number[]>();
  readonly #essential: number[] = [];
  readonly #records = new Map<number, PackageRecord>();
  readonly #candidates = new Map<string, readonly PackageRecord[]>();

  /** @param files in the order of preference where versions are equal */
  constructor(files: readonly IndexFile[]) {
    this.#files = files.map((file) => {
      const { buffer, byteOffset, byteLength } = file.bytes;
      // One byte a character: searching such a string is as fast as memchr(3).
      const text = Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength).toString("latin1");
      return { ...file, text: text.endsWith("\n") ? text : `${text}\n` }; // each line has an end
    });
    for (let i = 0; i < this.#files.length; i++) this.#scan(i);
  }

  #scan(file: number): void {
    const { text, name } = this.#files[file]!;
    const from = this.#stanzas.length;
    for (let at = 0; at < text.length;) {
      if (text[at] === "\n") {
        at++;
        continue;
      }
      let end = text.indexOf("\n\n", at);
      if (end < 0) end = text.length;
      const line = text.slice(at, text.indexOf("\n", at));
      if (!line.startsWith("Package: ")) {
        throw new CloudletError(
          `Cannot read the package index ${name}: the paragraph at byte ${at} has no Package first`,
          { code: "untrusted", remedy: "use another mirror" },
        );
      }
      push(this.#byName, line.slice("Package: ".length), this.#stanzas.length);
      this.#stanzas.push({ file, start: at });
      at = end + 2;
    }
    // Fields that few paragraphs have are found by one search each, and then the paragraph.
    let stanza = from;
    const seek = (position: number) => {
      while (
        stanza + 1 < this.#stanzas.length && this.#stanzas[stanza + 1]!.start <= position
      ) stanza++;
      return stanza;
    };
    const PROVIDES = "\nProvides: ";
    for (let at = text.indexOf(PROVIDES); at >= 0; at = text.indexOf(PROVIDES, at + 1)) {
      const owner = seek(at);
      const start = at + PROVIDES.length;
      for (const part of text.slice(start, text.indexOf("\n", start)).split(",")) {
        push(this.#byProvided, /^\s*([^\s:(]*)/.exec(part)![1]!, owner);
      }
    }
    stanza = from;
    const ESSENTIAL = "\nEssential: yes\n";
    for (let at = text.indexOf(ESSENTIAL); at >= 0; at = text.indexOf(ESSENTIAL, at + 1)) {
      this.#essential.push(seek(at));
    }
  }

  #record(stanza: number): PackageRecord {
    let record = this.#records.get(stanza);
    if (record === undefined) {
      const { file, start } = this.#stanzas[stanza]!;
      const { text, base, name } = this.#files[file]!;
      let end = text.indexOf("\n\n", start);
      if (end < 0) end = text.length;
      record = parseRecord(text.slice(start, end), base, name, stanza);
      this.#records.set(stanza, record);
    }
    return record;
  }

  /** All versions of the package `name`, the highest first. */
  versions(name: string): readonly PackageRecord[] {
    let records = this.#candidates.get(name);
    if (records === undefined) {
      records = (this.#byName.get(name) ?? []).map((stanza) => this.#record(stanza))
        .sort((a, b) => compareVersions(b.version, a.version) || a.order - b.order);
      this.#candidates.set(name, records);
    }
    return records;
  }

  /** Packages that provide the virtual package `name`, in no useful order. */
  providers(name: string): readonly PackageRecord[] {
    return [...new Set(this.#byProvided.get(name) ?? [])].map((stanza) => this.#record(stanza));
  }

  /** Names of the packages that are `Essential: yes` in their highest version, sorted. */
  essential(): string[] {
    const names = new Set(this.#essential.map((stanza) => this.#record(stanza).name));
    return [...names].filter((name) => this.versions(name)[0]!.essential).sort();
  }

  /** Names of all packages, for finding what was meant by a wrong one. */
  names(): Iterable<string> {
    return this.#byName.keys();
  }
}

function push(map: Map<string, number[]>, key: string, value: number): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function parseRecord(text: string, base: string, index: string, order: number): PackageRecord {
  const fields = parseParagraph(text);
  const name = fields.get("package") ?? "";
  const get = (field: string) => fields.get(field) ?? "";
  const malformed = (why: string) =>
    new CloudletError(
      `Cannot read the package index ${index}: the paragraph of ${JSON.stringify(name)} ${why}`,
      { code: "untrusted", remedy: "use another mirror" },
    );
  if (!NAME.test(name)) throw malformed("has a malformed name");
  // It is found under the name in its first line.
  if (!text.startsWith(`Package: ${name}\n`)) throw malformed("has another name first");
  const version = get("version");
  if (!/^[0-9A-Za-z.+:~-]+$/.test(version)) throw malformed("has a malformed Version");
  const sha256 = get("sha256");
  if (!SHA256.test(sha256)) throw malformed("has no SHA256");
  const size = Number(get("size"));
  if (!Number.isInteger(size) || size <= 0 || size > MAX_PACKAGE) throw malformed("has no Size");
  const filename = get("filename");
  if (filename === "" || filename.startsWith("/") || filename.split("/").includes("..")) {
    throw malformed("has a Filename that leaves the archive");
  }
  const relations = (field: string) => parseRelations(get(field), `${name} ${version}`);
  let lazy: Pick<PackageRecord, "depends" | "provides" | "conflicts"> | undefined;
  // Dependencies are parsed on demand: most versions and providers are only looked at.
  const parsed = () =>
    lazy ??= {
      depends: [...relations("pre-depends"), ...relations("depends")],
      provides: relations("provides"),
      conflicts: [...relations("conflicts"), ...relations("breaks")],
    };
  const rank = PRIORITIES.indexOf(get("priority"));
  return {
    name,
    version,
    architecture: get("architecture"),
    sha256,
    size,
    url: base + filename.split("/").map(encodeURIComponent).join("/"),
    source: /^\S*/.exec(get("source"))![0] || name,
    essential: get("essential") === "yes",
    multiArchAllowed: get("multi-arch") === "allowed",
    priority: rank < 0 ? PRIORITIES.length : rank,
    order,
    get depends() {
      return parsed().depends;
    },
    get provides() {
      return parsed().provides;
    },
    get conflicts() {
      return parsed().conflicts;
    },
  };
}
