/**
 * What users call an image: a name in a registry as docker users write it, `oci:DIR` or
 * `docker-archive:FILE`.
 *
 * The grammar of names is that of the OCI distribution specification 1.1, "Pulling manifests"; what
 * may be left out of them is docker's custom.
 *
 * @module
 */
import { resolve } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { parseDigest } from "./digest.ts";

/** An image in a registry. */
export interface RegistryReference {
  readonly kind: "registry";
  /** Host of the registry as users know it, with the port if one is given. */
  readonly host: string;
  /** Name of the repository. */
  readonly repository: string;
  /** Tag; `latest` when neither tag nor digest is given, undefined when only a digest is. */
  readonly tag: string | undefined;
  /** Digest of the manifest, when the user gave one; it goes before the tag. */
  readonly digest: string | undefined;
}

/** An image on this host's disk. */
export interface FileReference {
  /** An OCI image layout directory, or an archive that `docker save` wrote. */
  readonly kind: "oci" | "docker-archive";
  /** Absolute path. */
  readonly path: string;
  /** Which of its images: a name that it has there; undefined when it has only one. */
  readonly image: string | undefined;
}

/** What users call an image. */
export type Reference = RegistryReference | FileReference;

/** The registry of names that have none. */
export const DEFAULT_HOST = "docker.io";
/** Other names that it has in the settings of container tools. */
export const DEFAULT_HOST_ALIASES: ReadonlySet<string> = new Set([
  "index.docker.io",
  "registry-1.docker.io",
]);
const DEFAULT_NAMESPACE = "library";

// OCI distribution specification 1.1: <name> and <reference>; the host as in a URL's authority
const COMPONENT = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const MAX_NAME = 255;

function refuse(text: string, why: string): CloudletError {
  return new CloudletError(`Cannot use the image ${JSON.stringify(text.slice(0, 300))}: ${why}`, {
    code: "invalid-input",
    remedy: "write it as NAME[:TAG], HOST[:PORT]/NAME[:TAG|@DIGEST], oci:DIR[:NAME] or " +
      "docker-archive:FILE[:NAME]",
  });
}

/**
 * Reads a reference.
 *
 * @param text as the user wrote it
 * @param base directory that relative paths start from; the working directory when absent
 * @throws {CloudletError} `invalid-input`
 */
export function parseReference(text: string, base: string = Deno.cwd()): Reference {
  if (text.includes("\0")) throw refuse(text, "it has a NUL byte in it");
  for (const kind of ["oci", "docker-archive"] as const) {
    if (!text.startsWith(`${kind}:`)) continue;
    // oci:5000/x and the like cannot be a host with a port: a port is never a path
    const rest = text.slice(kind.length + 1);
    const colon = rest.indexOf(":");
    const path = colon < 0 ? rest : rest.slice(0, colon);
    const image = colon < 0 ? undefined : rest.slice(colon + 1);
    if (path === "") throw refuse(text, "it names no path");
    if (image === "") throw refuse(text, "it has nothing after its last colon");
    return { kind, path: resolve(base, path), image };
  }
  return parseName(text);
}

function parseName(text: string): RegistryReference {
  let rest = text;
  let digest: string | undefined;
  const at = rest.indexOf("@");
  if (at >= 0) {
    digest = rest.slice(at + 1);
    rest = rest.slice(0, at);
    if (parseDigest(digest) === undefined) {
      throw refuse(text, "what follows @ is no digest of the form sha256:HEX");
    }
  }
  let tag: string | undefined;
  const colon = rest.lastIndexOf(":");
  if (colon > rest.lastIndexOf("/")) {
    tag = rest.slice(colon + 1);
    rest = rest.slice(0, colon);
    if (!TAG.test(tag)) throw refuse(text, `${JSON.stringify(tag)} is no tag`);
  }
  const slash = rest.indexOf("/");
  const first = slash < 0 ? "" : rest.slice(0, slash);
  // docker's custom: what looks like a host is one
  const hasHost = /[.:]/.test(first) || first === "localhost" || /[A-Z]/.test(first);
  const written = hasHost ? first : DEFAULT_HOST;
  const host = written === "index.docker.io" ? DEFAULT_HOST : written;
  let repository = hasHost ? rest.slice(slash + 1) : rest;
  if (host === DEFAULT_HOST && repository !== "" && !repository.includes("/")) {
    repository = `${DEFAULT_NAMESPACE}/${repository}`;
  }
  if (!HOST.test(host) || !URL.canParse(`https://${host}`)) {
    throw refuse(text, `${JSON.stringify(host)} is no host`);
  }
  if (!REPOSITORY.test(repository) || host.length + repository.length > MAX_NAME) {
    const upper = repository.toLowerCase() !== repository ? "; names are in lower case" : "";
    throw refuse(text, `${JSON.stringify(repository)} is no name of a repository${upper}`);
  }
  return {
    kind: "registry",
    host,
    repository,
    tag: tag ?? (digest === undefined ? "latest" : undefined),
    digest,
  };
}

/** The reference in full, as it is shown and as it names a cache entry. */
export function formatReference(reference: Reference): string {
  if (reference.kind !== "registry") {
    const { kind, path, image } = reference;
    return image === undefined ? `${kind}:${path}` : `${kind}:${path}:${image}`;
  }
  const { host, repository, tag, digest } = reference;
  const name = `${host}/${repository}`;
  return name + (tag === undefined ? "" : `:${tag}`) + (digest === undefined ? "" : `@${digest}`);
}
