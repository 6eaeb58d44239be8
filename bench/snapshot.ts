/**
 * The second run: what a snapshot saves.
 *
 * @module
 */
import { join } from "node:path";
import { inTurns, report } from "./report.ts";

const MAIN = new URL("../mod.ts", import.meta.url).pathname;
const TIMES = 10;

async function succeed(program: string, args: readonly string[]): Promise<void> {
  const { success, stdout } = await new Deno.Command(program, {
    args: [...args],
    stderr: "inherit",
  }).output();
  if (!success || new TextDecoder().decode(stdout) !== "hello\n") {
    throw new Error(`Cannot measure: ${program} ${args.join(" ")} did not say hello`);
  }
}

/** `cloudlet run hello.py` from a snapshot, beside a fresh boot and beside Python on the host. */
export async function benchSnapshot(): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    const hello = join(directory, "hello.py");
    await Deno.writeTextFile(hello, 'print("hello")\n');
    const cloudlet = (...flags: string[]) =>
      succeed(Deno.execPath(), ["run", "-A", "--quiet", MAIN, "run", "--quiet", ...flags, hello]);
    await cloudlet(); // makes the snapshot
    const host = await inTurns(TIMES, () => cloudlet(), () => succeed("python3", [hello]));
    report({
      what: "cloudlet run hello.py, again",
      unit: "ms",
      peer: "python3 on the host",
      ...host,
    });
    const boot = await inTurns(1, () => cloudlet(), () => cloudlet("--no-snapshot"));
    report({ what: "cloudlet run hello.py, again", unit: "ms", peer: "a fresh boot", ...boot });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

if (import.meta.main) await benchSnapshot();
