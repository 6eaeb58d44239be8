/**
 * Where Debian packages come from: the host's own apt sources (sources.list(5)), or a mirror that the
 * user set.
 *
 * @module
 */
import { join } from "node:path";
import { ARCHITECTURE } from "../architecture.ts";
import { CloudletError } from "../../base/errors.ts";
import { readAptConfig, readDirectory, readText } from "./apt_config.ts";
import { parseParagraphs } from "./control.ts";

/** A suite on a mirror. */
export interface Source {
  /** URL of the archive, with a slash at the end. */
  readonly uri: string;
  /** Name below `dists/`. */
  readonly suite: string;
  /** Parts of the suite, such as `main`. */
  readonly components: readonly string[];
  /** Paths of keyrings, or armoured keys, that must sign it; empty for Debian's own keyring. */
  readonly signedBy: readonly string[];
  /** Whether Valid-Until is checked. */
  readonly checkValidUntil: boolean;
  /** Milliseconds by which Date may be ahead of this machine's clock; Infinity for no check. */
  readonly maxFuture: number;
  /** Whether the mirror may lack the suite. */
  readonly optional: boolean;
  /** Whether it may turn out to be somebody else's archive, which is then left alone. */
  readonly doubtful: boolean;
}

/** What the user set. */
export interface SourceSettings {
  /** URL of the archive; the host's apt sources when absent. */
  readonly mirror?: string | undefined;
  /** Release name, such as `bookworm`; the host's own when absent. */
  readonly suite?: string | undefined;
  /**
   * URL of the security archive that belongs to the mirror; beside it when absent. `false` for a
   * mirror without one.
   */
  readonly security?: string | false | undefined;
  /** The host's configuration directory; `/etc` when absent. */
  readonly etc?: string;
}

/** One entry of the host's apt sources, as it is written there. */
interface Entry {
  readonly uri: string;
  readonly suite: string;
  readonly components: readonly string[];
  readonly signedBy: readonly string[];
  readonly checkValidUntil: boolean | undefined;
  readonly checkDate: boolean | undefined;
  /** In seconds. */
  readonly maxFuture: number | undefined;
}

/** What apt checks of a release's times: apt.conf(5), Acquire group. */
interface TimeChecks {
  readonly validUntil: boolean;
  readonly date: boolean;
  /** In seconds. */
  readonly maxFuture: number;
}

const MAX_FUTURE = 10; // seconds: the default of apt's Acquire::Max-FutureTime
/** Suites of one release that are used together; backports and proposed updates are not. */
const POCKETS = ["", "-updates", "-security"];
/** Names of Debian's releases by their state, which a source may use in place of a codename. */
const STATES = /^(stable|oldstable|oldoldstable|testing|unstable|sid)$/;

function withSlash(uri: string): string {
  return uri.endsWith("/") ? uri : `${uri}/`;
}

function isNo(value: string | undefined): boolean {
  return value !== undefined && /^(no|false|without|off|disable|0)$/i.test(value.trim());
}

/** The options of an entry about times: sources.list(5). */
function timeOptions(option: (name: string) => string | undefined) {
  const flag = (name: string) => {
    const value = option(name);
    return value === undefined ? undefined : !isNo(value);
  };
  const seconds = option("date-max-future");
  return {
    checkValidUntil: flag("check-valid-until"),
    checkDate: flag("check-date"),
    maxFuture: seconds !== undefined && /^\d+$/.test(seconds) ? Number(seconds) : undefined,
  };
}

/** What apt is configured to check, unless an entry says otherwise. */
function timeChecks(config: ReadonlyMap<string, string>): TimeChecks {
  const seconds = config.get("acquire::max-futuretime");
  return {
    validUntil: !isNo(config.get("acquire::check-valid-until")),
    date: !isNo(config.get("acquire::check-date")),
    maxFuture: seconds !== undefined && /^\d+$/.test(seconds) ? Number(seconds) : MAX_FUTURE,
  };
}

/** The checks of a source: without trust in the clock there are none. */
function sourceChecks(
  checks: TimeChecks,
  entry: Partial<ReturnType<typeof timeOptions>> = {},
): Pick<Source, "checkValidUntil" | "maxFuture"> {
  if (!(entry.checkDate ?? checks.date)) return { checkValidUntil: false, maxFuture: Infinity };
  return {
    checkValidUntil: entry.checkValidUntil ?? checks.validUntil,
    maxFuture: (entry.maxFuture ?? checks.maxFuture) * 1000,
  };
}

/** Entries of a file in the one-line format: `deb [option=value ...] uri suite component...`. */
export function parseOneLine(text: string): Entry[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?([^#]*)/.exec(line);
    if (match === null) return [];
    const options = new Map(
      (match[1] ?? "").split(/\s+/).filter(Boolean).map((option) => {
        const equals = option.indexOf("=");
        return [
          option.slice(0, equals).replace(/[+-]$/, "").toLowerCase(),
          option.slice(equals + 1),
        ];
      }),
    );
    const [uri, suite, ...components] = match[2]!.trim().split(/\s+/);
    const architectures = options.get("arch");
    if (architectures !== undefined && !architectures.split(",").includes(ARCHITECTURE)) return [];
    if (uri === undefined || suite === undefined || components.length === 0) return [];
    return [{
      uri,
      suite,
      components,
      signedBy: (options.get("signed-by") ?? "").split(",").filter(Boolean),
      ...timeOptions((name) => options.get(name)),
    }];
  });
}

/** Entries of a file in the deb822 format. */
export function parseDeb822(text: string): Entry[] {
  return parseParagraphs(text).flatMap((fields) => {
    const words = (field: string) => (fields.get(field) ?? "").split(/\s+/).filter(Boolean);
    if (isNo(fields.get("enabled")) || !words("types").includes("deb")) return [];
    const architectures = words("architectures");
    if (architectures.length > 0 && !architectures.includes(ARCHITECTURE)) return [];
    const signedBy = fields.get("signed-by") ?? "";
    const armoured = signedBy.includes("-----BEGIN PGP")
      // In deb822 an empty line within a value is written as a single dot.
      ? [signedBy.replace(/^[ \t]+/gm, "").replace(/^\.$/gm, "").trim()]
      : signedBy.split(/[\s,]+/).filter(Boolean);
    return words("uris").flatMap((uri) =>
      words("suites").map((suite) => ({
        uri,
        suite,
        components: words("components"),
        signedBy: armoured,
        ...timeOptions((name) => fields.get(name)),
      }))
    );
  });
}

function hostEntries(etc: string): Entry[] {
  const apt = join(etc, "apt");
  const main = readText(join(apt, "sources.list"));
  // sources.list(5): names of letters, digits, hyphen, underscore and period.
  return [
    ...main === undefined ? [] : parseOneLine(main),
    ...readDirectory(join(apt, "sources.list.d"), /^[\w.-]+\.list$/)
      .flatMap(([, text]) => parseOneLine(text)),
    ...readDirectory(join(apt, "sources.list.d"), /^[\w.-]+\.sources$/)
      .flatMap(([, text]) => parseDeb822(text)),
  ];
}

/** The host's Debian release, or undefined when it is another system. */
function hostRelease(etc: string): string | undefined {
  const text = readText(join(etc, "os-release")) ?? "";
  const value = (key: string) => new RegExp(`^${key}=["']?([^"'\n]*)["']?$`, "m").exec(text)?.[1];
  return value("ID") === "debian" ? value("VERSION_CODENAME") : undefined;
}

function checkUrl(uri: string): string {
  const url = URL.parse(uri);
  if (url !== null && ["http:", "https:", "file:"].includes(url.protocol)) return withSlash(uri);
  throw new CloudletError(`Cannot use the Debian mirror ${JSON.stringify(uri)}: it is no URL`, {
    code: "invalid-input",
    remedy: 'set [debian] mirror or CLOUDLET_DEBIAN_MIRROR to an "http:", "https:" or "file:" URL',
  });
}

const SUITE = /^[a-z][a-z0-9.-]*$/;

/**
 * The suites to use: of the user's mirror, or of the host's apt sources that are Debian's own.
 *
 * With a `suite` but no `mirror`, the host's mirrors are asked for that release.
 *
 * @throws {CloudletError} `host` when the host has no Debian sources and no mirror is set
 */
export function findSources(settings: SourceSettings): Source[] {
  const { mirror, suite, etc = "/etc" } = settings;
  const host = hostRelease(etc);
  if (suite !== undefined && !SUITE.test(suite)) {
    throw new CloudletError(
      `Cannot use the Debian suite ${JSON.stringify(suite)}: malformed name`,
      {
        code: "invalid-input",
        remedy: "set [debian] suite to a release name such as bookworm",
      },
    );
  }
  const checks = timeChecks(readAptConfig(etc));
  if (mirror !== undefined) {
    const release = suite ?? host;
    if (release === undefined) {
      throw new CloudletError("Cannot tell which Debian release to use: this host is not Debian", {
        code: "host",
        remedy: "set [debian] suite to a release name such as bookworm in the settings",
      });
    }
    return mirrorSources(checkUrl(mirror), release, settings.security, checks);
  }
  const sources = hostSources(hostEntries(etc), host, suite ?? host, checks);
  if (!sources.some(isBase)) {
    throw noMirror(
      host === undefined
        ? "this host is not Debian, so its own package sources cannot be used"
        : `the host's apt sources have no Debian archive with the suite ${suite ?? host}`,
    );
  }
  return sources;
}

/** Whether the source has a release itself, not just its updates. */
export function isBase(source: Source): boolean {
  return POCKETS.every((pocket) => pocket === "" || !source.suite.endsWith(pocket));
}

/** The error that there is nowhere to fetch packages from. */
export function noMirror(why: string): CloudletError {
  return new CloudletError(`Cannot find a Debian mirror: ${why}`, {
    code: "host",
    remedy: "set [debian] mirror and suite in the settings, or CLOUDLET_DEBIAN_MIRROR",
  });
}

function mirrorSources(
  uri: string,
  suite: string,
  security: string | false | undefined,
  checks: TimeChecks,
): Source[] {
  const common = {
    components: ["main"],
    signedBy: [],
    ...sourceChecks(checks),
    optional: false,
    doubtful: false,
  };
  const sources: Source[] = [{ ...common, uri, suite }];
  if (/^(unstable|sid)$/.test(suite)) return sources; // it is its own updates
  sources.push({ ...common, uri, suite: `${suite}-updates`, optional: true });
  if (security === false) return sources;
  // The layout that Debian's mirrors have in common: debian/ and debian-security/ side by side.
  const beside = `${uri.replace(/\/$/, "")}-security/`;
  const archive = security === undefined ? beside : checkUrl(security);
  // Not optional: whoever can answer 404 could keep security updates away.
  sources.push({ ...common, uri: archive, suite: `${suite}-security` });
  return sources;
}

function hostSources(
  entries: readonly Entry[],
  host: string | undefined,
  wanted: string | undefined,
  checks: TimeChecks,
): Source[] {
  if (host === undefined || wanted === undefined) return [];
  const sources = new Map<string, Source>();
  for (const entry of entries) {
    const pocket = POCKETS.findLast((pocket) => entry.suite.endsWith(pocket))!;
    const base = entry.suite.slice(0, entry.suite.length - pocket.length);
    if (base !== host && !STATES.test(base)) continue;
    if (!entry.components.includes("main") || !/^(https?|file):/.test(entry.uri)) continue;
    const source: Source = {
      uri: withSlash(entry.uri),
      suite: wanted === host ? entry.suite : wanted + pocket,
      components: entry.components,
      signedBy: entry.signedBy,
      ...sourceChecks(checks, entry),
      optional: false,
      // Others name their suites after Debian's releases, but hardly after its pockets.
      doubtful: pocket === "",
    };
    const key = `${source.uri} ${source.suite}`;
    if (!sources.has(key)) sources.set(key, source);
  }
  return [...sources.values()];
}
