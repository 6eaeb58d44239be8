/**
 * What to run, and how: what the library's callers write.
 *
 * @module
 */
import type { LanguageName } from "../../workload/languages.ts";
import { CloudletError } from "../../base/errors.ts";
import type { Progress } from "../../base/progress.ts";
import type { BuildNetworkOptions, NetworkOptions } from "../network.ts";

/** A language, with a version or without one. */
export type WrittenLanguage = LanguageName | `${LanguageName}@${string}`;

/** What to run, and how. */
export interface RunOptions {
  /**
   * Path or file URL of a source file or of a project directory. Either this or `code`, or neither
   * with an `image`: its own command is run then, or `args` in place of the command's arguments.
   *
   * A file is sent with the project around it, as far as that has marks or is small:
   * docs/projects.md has the rules.
   */
  readonly source?: string | URL;
  /** Whether a source file is sent alone, without the project around it. */
  readonly alone?: boolean;
  /** The source text of a program of one file; needs `language`. */
  readonly code?: string;
  /**
   * What it is written in, with a version of those that `cloudlet image ls --available` lists, as in
   * `python@3.11`, or without one; told by the name of a source file when absent.
   */
  readonly language?: WrittenLanguage;
  /**
   * The file of a project that is run, relative to its directory, when it is not the language's
   * default; in a project of cargo, the name or the main file of a program.
   */
  readonly entryPoint?: string;
  /**
   * What to do; `prepare-and-run` when absent. `prepare` keeps what it builds, and `run` of the same
   * files uses it.
   */
  readonly action?: "prepare" | "run" | "prepare-and-run";
  /** Build with optimisation. */
  readonly release?: boolean;
  /** Arguments of the program. */
  readonly args?: readonly string[];
  /** Variables added to its environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Variables added to the environment of building it. */
  readonly buildEnv?: Readonly<Record<string, string>>;
  /**
   * What installing the packages that the project's manifests name may reach (docs/packages.md). They are
   * installed in a microVM, once for all runs of the same manifests; without a network a project whose
   * packages are not installed yet is refused.
   */
  readonly buildNetwork?: BuildNetworkOptions;
  /** False runs the project without the packages that its manifests name. */
  readonly install?: boolean;
  /**
   * Whether installing is configured as this user's own pip, npm or cargo: registries, and keys to them as
   * secrets that only their hosts get.
   */
  readonly hostConfig?: boolean;
  /** Dependency groups of pyproject.toml that are installed as well. */
  readonly dependencyGroups?: readonly string[];
  /**
   * Its standard input; empty when absent. A stream is not iterated before the program reads, so that
   * one that is not read keeps what it has.
   */
  readonly stdin?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /**
   * Files and directories of this host to send, by the path that they get, relative to where the
   * program runs. They replace what the source has there. A command of an image that has any, or
   * gives any back, runs in a directory of its own.
   */
  readonly files?: Readonly<Record<string, string | URL>>;
  /**
   * Files and directories to send back when the program has ended, relative to where it runs: as
   * events of the type `file`. Links and what is not there are left out.
   */
  readonly outputs?: readonly string[];
  /** Milliseconds after which the program is killed. */
  readonly timeout?: number;
  /** True starts a new interpreter in place of the one that waits in the snapshot. */
  readonly cold?: boolean;
  /** Memory of the microVM in MiB. */
  readonly memory?: number;
  /** Virtual CPUs of the microVM. */
  readonly vcpus?: number;
  /** Debian packages added to the language's image. */
  readonly packages?: readonly string[];
  /** The root file system: an OCI image as docker users write it, or more. The language's own when absent. */
  readonly image?: string | ImageOptions;
  /** What the program may reach, and what reaches it; nothing when absent. Building has no network. */
  readonly network?: NetworkOptions;
  /** `debian`, `built`, or a vmlinux; what suits the host when absent. In this process only. */
  readonly kernel?: string;
  /**
   * Path of a file that gets what the program's network carries, for Wireshark and tcpdump; in this
   * process only.
   */
  readonly pcap?: string;
  /** False boots a microVM instead of restoring one from a snapshot; in this process only. */
  readonly snapshot?: boolean;
  /** A name for people. */
  readonly name?: string;
  /**
   * A name of the run, which no other one of the same server has while it is under way: up to 128 of
   * `[A-Za-z0-9._-]`, a letter or a digit first.
   */
  readonly runName?: string;
  /** Aborting it ends the run. */
  readonly signal?: AbortSignal;
  /** A server to run it on; in this process when absent. */
  readonly server?: ServerAddress;
  /** Hears of what is fetched, built and booted in this process. */
  readonly progress?: Progress;
}

/** A root file system. */
export interface ImageOptions {
  /**
   * An OCI image: `NAME[:TAG]`, `HOST/NAME[:TAG|@DIGEST]`, or one on this host's disk: `oci:DIR`,
   * `docker-archive:FILE`. The language's own image when absent.
   */
  readonly from?: string;
  /** Ask the registry what the tag means now, instead of using what it meant last. */
  readonly pull?: boolean;
  /** The registry may speak http. */
  readonly insecure?: boolean;
  /** Files and directories of this host to add, by the absolute path that they get in the image. */
  readonly files?: Readonly<Record<string, string | URL>>;
  /**
   * Shell commands that are run in a microVM, one after the other; what they change belongs to the
   * image, and is kept for the next runs.
   */
  readonly run?: readonly string[];
}

/** A cloudlet server. */
export interface ServerAddress {
  /** Such as `http://localhost:3000`. */
  readonly url: string;
  /** An API key, when the server wants one. */
  readonly key?: string;
}

/** The OCI image that is asked for, if any. */
export function fromOf(image: RunOptions["image"]): string | undefined {
  return typeof image === "string" ? image : image?.from;
}

/**
 * Checks what can be seen without looking at any file.
 *
 * @throws {CloudletError} `invalid-input` when the options do not fit together
 */
export function checkOptions(options: RunOptions): void {
  if (
    options.pcap !== undefined && (options.network === undefined || options.server !== undefined)
  ) {
    throw new CloudletError(
      `Cannot write what the network carries to ${options.pcap}: ${
        options.server === undefined ? "the program has none" : "it would be the server's file"
      }`,
      { code: "invalid-input", remedy: "give it a network, and run it in this process" },
    );
  }
  const given = [options.source, options.code].filter((value) => value !== undefined).length;
  if (given !== (fromOf(options.image) === undefined ? 1 : given % 2)) {
    throw new CloudletError("Cannot run the program: give one of source and code, or an image", {
      code: "invalid-input",
    });
  }
}
