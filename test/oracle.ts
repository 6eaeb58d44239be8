/**
 * Foreign tools as oracles, for tests of any folder.
 *
 * @module
 */
import assert from "node:assert/strict";

/** What a tool said. */
export interface ToolResult {
  /** Its standard output as text. */
  readonly stdout: string;
  /** Its standard error as text. */
  readonly stderr: string;
}

/**
 * Whether the foreign tool `name` is there. Without it a test has to leave the comparison out, and
 * says so; under CI a missing tool is a failure.
 */
export async function oracle(name: string): Promise<boolean> {
  for (const directory of `${Deno.env.get("PATH") ?? ""}:/usr/sbin:/sbin`.split(":")) {
    if (directory === "") continue;
    try {
      if ((await Deno.stat(`${directory}/${name}`)).isFile) return true;
    } catch {
      // not in this one
    }
  }
  assert.notEqual(Deno.env.get("CI"), "true", `${name} is not installed: the comparison needs it`);
  console.warn(`skipped the comparison with ${name}: it is not installed`);
  return false;
}

/** Runs a tool that must succeed. */
export async function run(
  name: string,
  args: readonly string[],
  options: { readonly stdin?: Uint8Array; readonly cwd?: string } = {},
): Promise<ToolResult> {
  const child = new Deno.Command(name, {
    args: [...args],
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    env: { PATH: `${Deno.env.get("PATH") ?? ""}:/usr/sbin:/sbin`, LC_ALL: "C.UTF-8", TZ: "UTC" },
    ...(options.cwd !== undefined && { cwd: options.cwd }),
  }).spawn();
  const output = child.output();
  if (options.stdin !== undefined) {
    const writer = child.stdin.getWriter();
    // A tool may end before it has read all, as cpio does at the trailer.
    await writer.write(options.stdin).then(() => writer.close()).catch(() => {});
  }
  const { code, stdout, stderr } = await output;
  const result = { stdout: decode(stdout), stderr: decode(stderr) };
  assert.equal(code, 0, `${name} ${args.join(" ")}: ${result.stderr}`);
  return result;
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
