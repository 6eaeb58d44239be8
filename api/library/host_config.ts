/**
 * How this user's own tools find packages: what pip, npm and cargo are configured with on this host, for
 * installing in a microVM. Tokens become secrets, which the microVM has placeholders of.
 *
 * @module
 */
import { join } from "node:path";
import { parse } from "smol-toml";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { readTextIfAny } from "../../base/files.ts";
import { CARGO_CONFIG, NPM_CONFIG } from "../../workload/dependencies/installers.ts";
import type { SecretOptions } from "../network.ts";

/** What installing is given. */
export interface HostConfig {
  /** Variables; `${NAME}` in a value stands for the secret of the name. */
  readonly env: Record<string, string>;
  readonly secrets: Record<string, SecretOptions>;
  /** What is left out, in words. */
  readonly remarks: string[];
}

/** Where the tools' files are: variables of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

function refuse(path: string, why: string): CloudletError {
  return new CloudletError(`Cannot use the configuration of this host, ${path}: ${why}`, {
    code: "invalid-input",
    remedy: "correct it, or leave --host-config away",
  });
}

/** A value that only its host gets; undefined where that cannot be kept. */
function secret(
  config: HostConfig,
  name: string,
  value: string,
  host: string,
  isTls: boolean,
): string | undefined {
  if (!isTls || !/^[a-z0-9.-]+$/i.test(host)) {
    config.remarks.push(
      `The key to ${host} is left out: only one for a named host behind TLS, on port 443, can be kept`,
    );
    return undefined;
  }
  config.secrets[name] = { value, hosts: [host] };
  return `\${${name}}`;
}

/** A URL with a placeholder for the password in it. */
function withoutPassword(config: HostConfig, name: string, text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return text; // pip says what it thinks of it
  }
  if (url.password === "") return text;
  const { protocol, hostname, port, username } = url;
  const tls = protocol === "https:" && port === "";
  const value = secret(config, name, decodeURIComponent(url.password), hostname, tls);
  const rest = text.slice(text.indexOf("@") + 1);
  return value === undefined ? `${protocol}//${rest}` : `${protocol}//${username}:${value}@${rest}`;
}

/** pip.conf: the last of its files counts (pip's "Configuration", "Location"). */
async function ofPip(config: HostConfig, home: string, variables: Environment): Promise<void> {
  const own = variables["XDG_CONFIG_HOME"] ?? join(home, ".config");
  const paths = [
    ...["/etc/pip.conf", join(home, ".pip/pip.conf"), join(own, "pip/pip.conf")],
    ...variables["PIP_CONFIG_FILE"] ? [variables["PIP_CONFIG_FILE"]] : [],
  ];
  const found: Record<string, string> = {};
  for (const path of paths) {
    let key = "";
    for (const line of (await readTextIfAny(path) ?? "").split("\n")) {
      const pair = /^([A-Za-z-]+)\s*[=:]\s*(.*)$/.exec(line);
      if (pair !== null) found[key = pair[1]!.toLowerCase()] = pair[2]!.trim();
      else if (/^\s+\S/.test(line) && key !== "") found[key] = `${found[key]} ${line.trim()}`;
      else if (line.startsWith("[")) key = "";
    }
  }
  for (const key of ["index-url", "extra-index-url", "trusted-host"]) {
    const name = `PIP_${key.replaceAll("-", "_").toUpperCase()}`;
    const value = (variables[name] ?? found[key] ?? "").trim();
    if (value === "") continue;
    config.env[name] = value.split(/\s+/)
      .map((word, i) => withoutPassword(config, `${name}_PASSWORD_${i}`, word)).join(" ");
  }
}

/** .npmrc (npm's "npmrc"): registries, and the keys to them. */
async function ofNpm(config: HostConfig, home: string, variables: Environment): Promise<void> {
  const path = variables["npm_config_userconfig"] ?? variables["NPM_CONFIG_USERCONFIG"] ??
    join(home, ".npmrc");
  const lines: string[] = [];
  for (const line of (await readTextIfAny(path) ?? "").split("\n")) {
    const [, key, value] = /^\s*([^#;=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (key === undefined || value === undefined) continue;
    const auth = /^\/\/([^/:]+)(:\d+)?(\/.*)?:(_authToken|_auth|_password)$/.exec(key);
    if (auth !== null) {
      const expanded = value.replaceAll(/\$\{(\w+)\}/g, (_, name) => variables[name] ?? "");
      const name = `NPM_KEY_${Object.keys(config.secrets).length}`;
      const kept = secret(config, name, expanded, auth[1]!, auth[2] === undefined);
      if (kept !== undefined) lines.push(`${key}=${kept}`);
    } else if (key === "registry" || /^@[^:]+:registry$/.test(key) || key.startsWith("//")) {
      lines.push(`${key}=${value}`);
    }
  }
  const registry = variables["npm_config_registry"] ?? variables["NPM_CONFIG_REGISTRY"];
  if (registry !== undefined) lines.push(`registry=${registry}`);
  if (lines.length > 0) config.env[NPM_CONFIG] = lines.join("\n");
}

/** Cargo's config.toml and credentials.toml: registries, sources in the place of others, tokens. */
async function ofCargo(config: HostConfig, home: string, variables: Environment): Promise<void> {
  const directory = variables["CARGO_HOME"] ?? join(home, ".cargo");
  const read = async (name: string) => {
    const path = join(directory, name);
    try {
      return parse(await readTextIfAny(path) ?? "") as Record<string, Record<string, unknown>>;
    } catch (error) {
      throw refuse(path, messageOf(error));
    }
  };
  const main = { ...await read("config"), ...await read("config.toml") };
  const keys = { ...await read("credentials"), ...await read("credentials.toml") };
  const lines: string[] = [];
  for (const table of ["registries", "source"]) {
    for (const [name, entry] of Object.entries(main[table] ?? {})) {
      if (typeof entry !== "object" || entry === null) continue;
      lines.push(`[${table}.${JSON.stringify(name)}]`);
      for (const [key, value] of Object.entries(entry)) {
        if (typeof value === "string" && key !== "token") {
          lines.push(`${key} = ${JSON.stringify(value)}`);
        }
      }
    }
  }
  for (const [name, entry] of Object.entries(keys["registries"] ?? {})) {
    const { token } = entry as { token?: unknown };
    const { index } = (main["registries"]?.[name] ?? {}) as { index?: unknown };
    if (typeof token !== "string" || typeof index !== "string") continue;
    const url = URL.parse(index.replace(/^sparse\+/, ""));
    if (url === null) continue;
    const variable = `CARGO_REGISTRIES_${name.replaceAll("-", "_").toUpperCase()}_TOKEN`;
    secret(config, variable, token, url.hostname, url.protocol === "https:" && url.port === "");
  }
  if (lines.length > 0) config.env[CARGO_CONFIG] = `${lines.join("\n")}\n`;
}

/**
 * What this user's tools of a language are configured with.
 *
 * @param variables of this process, by default
 * @throws {CloudletError} `invalid-input` for a file that cannot be read
 */
export async function hostConfig(
  language: string,
  variables: Environment = Deno.env.toObject(),
): Promise<HostConfig> {
  const config: HostConfig = { env: {}, secrets: {}, remarks: [] };
  const home = variables["HOME"] ?? "/";
  if (language === "python") await ofPip(config, home, variables);
  if (language === "node" || language === "deno") await ofNpm(config, home, variables);
  if (language === "rust") await ofCargo(config, home, variables);
  return config;
}
