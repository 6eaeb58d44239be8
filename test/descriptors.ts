/**
 * A process that has no file descriptors left.
 *
 * @module
 */
import assert from "node:assert/strict";
import { checkoutPath, denoDir } from "./paths.ts";

const LIMIT = 128; // Deno itself needs some sixty

/**
 * Runs code in a process of its own: `prepare` with descriptors, `attempt` without a single one.
 *
 * @param code.imports import declarations, with specifiers relative to the checkout
 * @param code.prepare statements; loads whatever `attempt` needs
 * @param code.attempt an expression; what it throws becomes its value
 * @param code.report an expression over `result`, in JSON, with descriptors again
 */
export async function withoutDescriptors(code: {
  readonly imports: string;
  readonly prepare: string;
  readonly attempt: string;
  readonly report: string;
}): Promise<unknown> {
  const script = await Deno.makeTempFile({ suffix: ".ts", dir: checkoutPath(".") });
  try {
    await Deno.writeTextFile(
      script,
      `${code.imports.replaceAll('"@/', `"${checkoutPath("..")}/`)}
      ${code.prepare}
      const held: Deno.FsFile[] = [];
      Deno.addSignalListener("SIGUSR2", () => {}); // Deno panics where it cannot prepare for signals
      await new Promise((resolve) => setTimeout(resolve, 100)); // what it had open at first is closed
      try {
        for (;;) held.push(Deno.openSync("/dev/null"));
      } catch { /* none is left */ }
      let result: any;
      try {
        result = await (${code.attempt});
      } catch (error) {
        result = error;
      }
      for (const file of held) file.close();
      console.log(JSON.stringify(${code.report}));
      Deno.exit(0);`,
    );
    const args = ["run", "-A", "--quiet", "--no-check", "--cached-only", script];
    const { stdout, stderr, code: status } = await new Deno.Command("sh", {
      args: ["-c", `ulimit -n ${LIMIT} && exec "$@"`, "sh", Deno.execPath(), ...args],
      env: { DENO_DIR: denoDir() },
    }).output();
    const decoder = new TextDecoder();
    assert.equal(status, 0, decoder.decode(stderr));
    return JSON.parse(decoder.decode(stdout));
  } finally {
    await Deno.remove(script);
  }
}
