/**
 * The examples, run on this host without cloudlet: what a run of them must print.
 *
 * @module
 */
import { join } from "node:path";
import { parse } from "smol-toml";
import { checkoutPath } from "./paths.ts";

/** The parts of an example's config that these tests read. */
export interface Example {
  /** Name of its directory. */
  readonly name: string;
  /** Absolute. */
  readonly directory: string;
  /** Absolute path of its config file. */
  readonly config: string;
  readonly language: string;
  readonly build: { readonly "source-code-path": string; readonly release?: boolean };
  readonly run: {
    readonly args?: readonly string[];
    readonly env?: Readonly<Record<string, string>>;
    readonly stdin?: string;
  };
}

const EXAMPLES = checkoutPath("../examples/");
const PROGRAM: Readonly<Record<string, string>> = {
  python: "python3",
  node: "node",
  rust: "cargo",
  deno: "deno",
  bash: "bash",
};
/** How a person builds and runs each of them. */
const BY_HAND: Readonly<Record<string, string>> = {
  bash: "bash main.sh",
  deno: "deno run --quiet main.ts",
  fibonacci: 'rustc -O -o "$TMP/fibonacci" fibonacci.rs && "$TMP/fibonacci"',
  node: "node lib/main.js",
  python: "python3 fibonacci.py",
  "python-package": "python3 -B main.py",
  rust: 'cargo run --quiet --offline --target-dir "$TMP" --',
};

/** All examples. */
export function examples(): readonly Example[] {
  return Array.from(Deno.readDirSync(EXAMPLES), ({ name }) => {
    const directory = join(EXAMPLES, name);
    const config = join(directory, "config.toml");
    const { language, build, run = {} } = parse(Deno.readTextFileSync(config)) as unknown as
      & Omit<Example, "run">
      & Partial<Pick<Example, "run">>;
    return { name, directory, config, language, build, run };
  }).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Whether this host has what the example's language needs. */
export async function runsHere({ language }: Example): Promise<boolean> {
  // Run, not looked for: a version manager's stand-in may be there without what it stands for.
  const { success } = await new Deno.Command("sh", {
    args: ["-c", '"$1" --version', "sh", PROGRAM[language]!],
    stdout: "null",
    stderr: "null",
  }).output();
  return success;
}

/** The example's standard input. */
export async function stdinOf({ run, directory }: Example): Promise<Uint8Array<ArrayBuffer>> {
  return run.stdin === undefined
    ? new Uint8Array()
    : await Deno.readFile(join(directory, run.stdin));
}

/** Builds and runs it by hand. */
export async function runByHand(example: Example): Promise<Deno.CommandOutput> {
  const { name, directory, run } = example;
  const scratch = await Deno.makeTempDir();
  try {
    const child = new Deno.Command("bash", {
      args: ["-c", `${BY_HAND[name]} "$@"`, "bash", ...run.args ?? []],
      cwd: directory,
      env: { TMP: scratch, ...run.env },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    const written = writer.write(await stdinOf(example)).then(() => writer.close());
    const output = await child.output();
    await written;
    return output;
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
}
