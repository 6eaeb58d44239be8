/**
 * Settings of the host's apt: apt.conf(5).
 *
 * @module
 */
import { join } from "node:path";

const TOKEN = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|#[^\n]*|"(?:[^"\\]|\\.)*"|[{};]|[^\s{};"]+/g;

/**
 * Values of an apt.conf by full name in lower case, such as `acquire::check-valid-until`. Lists are
 * left out.
 */
export function parseAptConfig(
  text: string,
  into: Map<string, string> = new Map(),
): Map<string, string> {
  const scopes: string[] = [];
  let words: string[] = [];
  const path = (name: string) => [...scopes, name].join("::").toLowerCase();
  for (const [token] of text.matchAll(TOKEN)) {
    if (token.startsWith("//") || token.startsWith("/*") || token.startsWith("#")) continue;
    if (token === "{") {
      scopes.push(words[0] ?? "");
      words = [];
    } else if (token === "}") {
      scopes.pop();
      words = [];
    } else if (token === ";") {
      const [name, value] = words;
      if (name !== undefined && value !== undefined && !name.startsWith('"')) {
        into.set(path(name), value.replace(/^"|"$/g, ""));
      }
      words = [];
    } else {
      words.push(token);
    }
  }
  return into;
}

/** Texts of the files in a directory whose names match, in the order of their names. */
export function readDirectory(directory: string, pattern: RegExp): [path: string, text: string][] {
  let names: string[];
  try {
    names = [...Deno.readDirSync(directory)].filter((entry) => !entry.isDirectory)
      .map((entry) => entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return [];
    }
    throw error;
  }
  return names.filter((name) => pattern.test(name)).sort().flatMap((name) => {
    const path = join(directory, name);
    const text = readText(path);
    return text === undefined ? [] : [[path, text] as [string, string]];
  });
}

/** Text of a file, or undefined when it is missing or may not be read. */
export function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) {
      return undefined;
    }
    throw error;
  }
}

/** The host's apt configuration below `etc`, such as `/etc`. */
export function readAptConfig(etc: string): Map<string, string> {
  const values = new Map<string, string>();
  // apt.conf(5): names of letters, digits, hyphen, underscore and period; no or a .conf extension.
  const files = readDirectory(join(etc, "apt/apt.conf.d"), /^[\w-]+(\.conf)?$/);
  const main = readText(join(etc, "apt/apt.conf"));
  for (const [, text] of files) parseAptConfig(text, values);
  if (main !== undefined) parseAptConfig(main, values);
  return values;
}

/**
 * The proxy that the host's apt uses for a URL (apt-transport-http(1)), or undefined.
 *
 * @param config from {@linkcode readAptConfig}
 */
export function aptProxy(config: ReadonlyMap<string, string>, url: string): string | undefined {
  const { protocol, hostname } = new URL(url);
  if (protocol !== "http:" && protocol !== "https:") return undefined;
  const of = (scheme: string) =>
    config.get(`acquire::${scheme}::proxy::${hostname}`) ?? config.get(`acquire::${scheme}::proxy`);
  const proxy = of(protocol.slice(0, -1)) ?? of("http");
  return proxy === undefined || proxy === "" || proxy === "DIRECT" ? undefined : proxy;
}
