/**
 * Mirrors of registries: where images are looked for before their own registry is asked.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import type { RegistrySettings, Settings } from "../../base/settings.ts";
import type { Descriptor } from "./manifest.ts";
import { DEFAULT_HOST, DEFAULT_HOST_ALIASES } from "./reference.ts";
import { Registry, type RegistryDocument, type RegistryOptions } from "./registry.ts";

/** A mirror of one registry. */
export interface Mirror {
  /** Host, with its port if it has one. */
  readonly host: string;
  /** What its repositories' names begin with; "" or ending with a slash. */
  readonly prefix: string;
  /** Whether http will do. */
  readonly insecure: boolean;
}

/** Where an image's parts are asked for. */
export interface Registries extends Disposable {
  /** See {@linkcode Registry.manifest}. */
  manifest(repository: string, reference: string): Promise<RegistryDocument>;
  /** See {@linkcode Registry.blob}. */
  blob(
    repository: string,
    descriptor: Descriptor,
    goal: string,
    signal?: AbortSignal,
    advance?: (bytes: number) => void,
  ): Promise<void>;
}

/** Tries without any progress before the next one is asked: a mirror is there to be fast. */
const ATTEMPTS = 2;
/** Failures after which another registry may well have what was asked for. */
const PASSING: ReadonlySet<string> = new Set(["not-found", "denied", "unavailable", "untrusted"]);

/**
 * The mirrors of a registry, in the order of the settings.
 *
 * @param host of the registry, as in references
 */
export function mirrorsOf(
  host: string,
  settings: Pick<Settings, "registries"> & {
    readonly registry: Pick<RegistrySettings, "insecure">;
  },
): Mirror[] {
  const isSame = (name: string) =>
    name === host || host === DEFAULT_HOST && DEFAULT_HOST_ALIASES.has(name);
  return Object.entries(settings.registries.mirrors)
    .filter(([name]) => isSame(name))
    .flatMap(([, mirrors]) => mirrors)
    .map((text) => {
      const [, scheme, host = "", path = ""] = /^(?:(https?):\/\/)?([^/]*)\/?(.*)$/.exec(text)!;
      // The path of the API itself may be written, as containerd's endpoints have it.
      const prefix = path.replace(/^v2(?:\/|$)/, "").replace(/\/$/, "");
      return {
        host,
        prefix: prefix === "" ? "" : `${prefix}/`,
        insecure: scheme === "http" ||
          scheme === undefined && settings.registry.insecure.includes(host),
      };
    });
}

/**
 * A registry behind its mirrors: each is asked in turn, and the registry itself at last. A mirror that
 * does not answer is not asked again.
 *
 * The operator's word that a host is a mirror lets it be dialled wherever it is, as that of an allowed
 * registry does; what it redirects to and its token services are held to the policy. It gets its own
 * logins, none of the registry's.
 *
 * @param host of the registry, as in references
 */
export function openRegistries(
  host: string,
  mirrors: readonly Mirror[],
  options: RegistryOptions,
): Registries {
  const origin = new Registry(host, options);
  if (mirrors.length === 0) return origin;
  const { policy, fetch } = options;
  return new Mirrored(
    mirrors.map(({ host, prefix, insecure }) => ({
      prefix,
      registry: new Registry(host, {
        ...options,
        insecure,
        policy: policy && { ...policy, allowed: [...policy.allowed, host] },
        fetch: { ...fetch, attempts: Math.min(ATTEMPTS, fetch?.attempts ?? ATTEMPTS) },
      }),
    })),
    origin,
  );
}

interface OpenMirror {
  readonly prefix: string;
  readonly registry: Registry;
}

class Mirrored implements Registries {
  readonly #mirrors: readonly OpenMirror[];
  readonly #origin: Registry;
  readonly #silent = new Set<OpenMirror>();

  constructor(mirrors: readonly OpenMirror[], origin: Registry) {
    this.#mirrors = mirrors;
    this.#origin = origin;
  }

  manifest(repository: string, reference: string): Promise<RegistryDocument> {
    return this.#ask((registry, prefix) => registry.manifest(prefix + repository, reference));
  }

  blob(
    repository: string,
    descriptor: Descriptor,
    goal: string,
    signal?: AbortSignal,
    advance?: (bytes: number) => void,
  ): Promise<void> {
    return this.#ask((registry, prefix) =>
      registry.blob(prefix + repository, descriptor, goal, signal, advance)
    );
  }

  async #ask<T>(question: (registry: Registry, prefix: string) => Promise<T>): Promise<T> {
    const failures: string[] = [];
    for (const mirror of this.#mirrors) {
      if (this.#silent.has(mirror)) continue;
      try {
        return await question(mirror.registry, mirror.prefix);
      } catch (error) {
        if (!(error instanceof CloudletError) || !PASSING.has(error.code)) throw error;
        if (error.code === "unavailable") this.#silent.add(mirror);
        failures.push(error.message);
      }
    }
    try {
      return await question(this.#origin, "");
    } catch (error) {
      if (!(error instanceof CloudletError) || failures.length === 0) throw error;
      throw new CloudletError(`${error.message} (and of its mirrors: ${failures.join("; ")})`, {
        code: error.code,
        ...(error.remedy !== undefined && { remedy: error.remedy }),
        cause: error,
      });
    }
  }

  [Symbol.dispose](): void {
    for (const { registry } of this.#mirrors) registry[Symbol.dispose]();
    this.#origin[Symbol.dispose]();
  }
}
