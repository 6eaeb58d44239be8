/**
 * The keys of a config file in words: what `help config` shows and `init` writes. What they may hold
 * is checked by config.ts.
 *
 * @module
 */

/** A key. */
export interface ConfigKey {
  /** The table that it is in; empty for the top of the file. */
  readonly table: "" | "server" | "build" | "run" | "vm" | "network" | "image";
  readonly key: string;
  /** A value, as TOML. */
  readonly example: string;
  /** What it is, and what holds when it is absent. */
  readonly what: string;
}

/** Every key, in the order of a file. */
export const CONFIG_KEYS: readonly ConfigKey[] = [
  { table: "", key: "workload-name", example: '"hello"', what: "a name for people" },
  {
    table: "",
    key: "language",
    example: '"python"',
    what: "or python@3.11; the source's name tells it",
  },
  {
    table: "",
    key: "action",
    example: '"prepare-and-run"',
    what: "or prepare, which builds it, or run",
  },
  { table: "build", key: "source-code-path", example: '"hello.py"', what: "a file or a directory" },
  { table: "build", key: "entry-point", example: '"main.py"', what: "the file of it that is run" },
  { table: "build", key: "release", example: "false", what: "optimise" },
  { table: "build", key: "env", example: '{ RUSTFLAGS = "-g" }', what: "the compiler's variables" },
  {
    table: "build",
    key: "network",
    example: '"public"',
    what: "or hosts: what installing its packages may reach",
  },
  { table: "build", key: "install", example: "true", what: "its packages; false runs it without" },
  { table: "build", key: "groups", example: '["test"]', what: "groups of pyproject.toml, too" },
  {
    table: "build",
    key: "host-config",
    example: "false",
    what: "configure pip, npm or cargo as on this host",
  },
  { table: "run", key: "args", example: '["20"]', what: "arguments of the program" },
  { table: "run", key: "env", example: '{ GREETING = "hello" }', what: "its variables" },
  {
    table: "run",
    key: "stdin",
    example: "false",
    what: "a file, or false for none; the command's own",
  },
  { table: "run", key: "timeout", example: '"2m"', what: "or 500ms, or seconds" },
  { table: "vm", key: "vcpus", example: "1", what: "virtual CPUs" },
  { table: "vm", key: "memory", example: '"1G"', what: "or 512M" },
  {
    table: "vm",
    key: "kernel",
    example: '"debian"',
    what: "or built, or a vmlinux; what suits the host",
  },
  {
    table: "network",
    key: "access",
    example: '"listed"',
    what: "or none, or public; listed beside allow",
  },
  {
    table: "network",
    key: "allow",
    example: '["api.example.com:443"]',
    what: "what may be reached",
  },
  { table: "network", key: "deny", example: '["198.51.100.0/24"]', what: "what may not" },
  { table: "network", key: "publish", example: '["8080:80"]', what: "ports that lead into it" },
  {
    table: "network",
    key: "secrets",
    example: '{ KEY = { env = "KEY", hosts = ["api.example.com"] } }',
    what: "values that only hosts get",
  },
  { table: "network", key: "bandwidth", example: '"10Mbit"', what: "each way, a second" },
  {
    table: "image",
    key: "from",
    example: '"python:3-slim"',
    what: "an OCI image, not the language's own",
  },
  { table: "image", key: "packages", example: '["python3-numpy"]', what: "Debian packages to add" },
  { table: "image", key: "files", example: '{ "/etc/x" = "x.conf" }', what: "files to add" },
  {
    table: "image",
    key: "run",
    example: '["echo hello > /etc/y"]',
    what: "commands that change it",
  },
  {
    table: "server",
    key: "address",
    example: '"localhost"',
    what: "of the server for run --remote",
  },
  { table: "server", key: "port", example: "3000", what: "its port" },
];

/**
 * A config file with each key and a comment.
 *
 * @param values of the keys that are set, as TOML, by `table.key`; the others are comments
 */
export function configText(values: Readonly<Record<string, string>>): string {
  const lines: string[] = [];
  let table: ConfigKey["table"] = "";
  for (const { table: own, key, example, what } of CONFIG_KEYS) {
    if (own !== table) lines.push("", `[${table = own}]`);
    const value = values[`${own}.${key}`];
    const line = value === undefined ? `# ${key} = ${example}` : `${key} = ${value}`;
    lines.push(`${line.padEnd(40)} # ${what}`);
  }
  return lines.join("\n") + "\n";
}
