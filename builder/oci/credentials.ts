/**
 * Who to be at a registry: docker's configuration file and its credential helpers.
 *
 * The file is `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`; a helper is the program
 * `docker-credential-NAME`, which is asked on its standard input (docker/docker-credential-helpers).
 *
 * @module
 */
import { join } from "node:path";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { readTextIfAny } from "../../base/files.ts";
import { DEFAULT_HOST } from "./reference.ts";

/** What proves who one is. */
export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** A token that the registry's token service gives others for (OAuth 2.0). */
  | { readonly kind: "identity"; readonly token: string };

/** The name under which docker keeps what belongs to the default registry. */
const DEFAULT_KEY = "https://index.docker.io/v1/";
const HELPER_TIMEOUT = 30_000; // milliseconds
const TOKEN_USER = "<token>"; // as a helper says that the secret is an identity token
const NOT_FOUND = "credentials not found"; // what every helper prints when it has none

interface AuthEntry {
  readonly auth?: unknown;
  readonly username?: unknown;
  readonly password?: unknown;
  readonly identitytoken?: unknown;
}

function configPath(): string | undefined {
  const directory = Deno.env.get("DOCKER_CONFIG");
  if (directory) return join(directory, "config.json");
  const home = Deno.env.get("HOME");
  return home ? join(home, ".docker/config.json") : undefined;
}

function invalid(path: string, why: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot read the registry credentials in ${path}: ${why}`, {
    code: "invalid-input",
    remedy: "correct or remove the file, or log in again with your container tool",
    cause,
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The host that a key means: keys may be URLs with a version as their path. */
function hostOf(key: string): string {
  return key === DEFAULT_KEY ? DEFAULT_HOST : key.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
}

/** The entry of a host: by its own name, else by a URL of it. */
function entryFor(table: unknown, host: string): unknown {
  if (!isRecord(table)) return undefined;
  if (Object.hasOwn(table, host)) return table[host];
  const key = Object.keys(table).find((key) => hostOf(key) === host);
  return key === undefined ? undefined : table[key];
}

function fromEntry(entry: AuthEntry, path: string, host: string): Credentials | undefined {
  if (typeof entry.identitytoken === "string" && entry.identitytoken !== "") {
    return { kind: "identity", token: entry.identitytoken };
  }
  if (typeof entry.auth === "string" && entry.auth !== "") {
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.fromBase64(entry.auth));
    } catch (cause) {
      throw invalid(path, `what it has for ${host} is no base64`, cause);
    }
    const colon = text.indexOf(":");
    if (colon < 0) throw invalid(path, `what it has for ${host} has no colon in it`);
    return {
      kind: "password",
      username: text.slice(0, colon),
      password: text.slice(colon + 1).replace(/\0+$/, ""),
    };
  }
  if (typeof entry.username === "string" && typeof entry.password === "string") {
    return { kind: "password", username: entry.username, password: entry.password };
  }
  return undefined;
}

/** Asks a helper; undefined when it knows nothing of the host. */
async function fromHelper(helper: string, host: string): Promise<Credentials | undefined> {
  const program = `docker-credential-${helper}`;
  const failed = (why: string, cause?: unknown) =>
    new CloudletError(`Cannot get credentials for ${host} from ${program}: ${why}`, {
      code: "host",
      remedy: "mend the helper, or remove it from docker's config.json",
      cause,
    });
  if (!/^[A-Za-z0-9._-]+$/.test(helper)) throw failed("that is no name of a program");
  let output: Deno.CommandOutput;
  try {
    const child = new Deno.Command(program, {
      args: ["get"],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(HELPER_TIMEOUT),
    }).spawn();
    const writer = child.stdin.getWriter();
    const key = host === DEFAULT_HOST ? DEFAULT_KEY : host;
    const written = writer.write(new TextEncoder().encode(key)).then(() => writer.close());
    [output] = await Promise.all([child.output(), written.catch(() => {})]); // it may not read
  } catch (cause) {
    throw failed(messageOf(cause), cause);
  }
  const text = new TextDecoder().decode(output.stdout);
  if (!output.success) {
    const said = text + new TextDecoder().decode(output.stderr);
    if (said.includes(NOT_FOUND)) return undefined;
    throw failed(`it ended with exit code ${output.code}: ${said.trim().slice(0, 300)}`);
  }
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw failed("its answer is no JSON"); // without the cause, which quotes the secret
  }
  const { Username, Secret } = isRecord(answer) ? answer : {};
  if (typeof Username !== "string" || typeof Secret !== "string") {
    throw failed("its answer has no Username and Secret");
  }
  if (Secret === "") return undefined;
  return Username === TOKEN_USER
    ? { kind: "identity", token: Secret }
    : { kind: "password", username: Username, password: Secret };
}

/**
 * The user's credentials for a registry.
 *
 * @param host as in a reference
 * @param path of the file; where docker has it when absent
 * @returns undefined when there are none
 * @throws {CloudletError} `invalid-input` for a damaged file, `host` when a helper fails
 */
export async function findCredentials(
  host: string,
  path: string | undefined = configPath(),
): Promise<Credentials | undefined> {
  const text = path === undefined ? undefined : await readTextIfAny(path);
  if (path === undefined || text === undefined) return undefined;
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch {
    throw invalid(path, "it is no JSON"); // without the cause, which quotes the content
  }
  if (!isRecord(config)) throw invalid(path, "it is no object");
  const helper = entryFor(config.credHelpers, host) ?? config.credsStore;
  if (typeof helper === "string" && helper !== "") {
    const found = await fromHelper(helper, host);
    if (found !== undefined) return found;
  }
  const entry = entryFor(config.auths, host);
  return isRecord(entry) ? fromEntry(entry, path, host) : undefined;
}
