/**
 * The stack beside passt, both with Linux's own TCP as the guest and no VM (test/net). passt is at its
 * best with packets of 64 KiB, the stack has Ethernet's MTU.
 *
 * @module
 */
import { report } from "./report.ts";

const REPETITIONS = 5;
/** Milliseconds after which a measurement has failed. */
const PATIENCE = 60_000;

interface Measured {
  readonly down: number;
  readonly up: number;
  readonly connect: number;
  readonly retransmitted: number;
}

/** Runs a scenario; undefined when it fails or does not end. */
async function measure(scenario: string): Promise<Measured | undefined> {
  const program = new URL("../test/net/scenario.ts", import.meta.url).pathname;
  const run = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", program, scenario];
  const { success, stdout } = await new Deno.Command("timeout", {
    args: ["-s", "KILL", String(PATIENCE / 1000), "unshare", "--map-root-user", "--net", ...run],
    stdin: "null",
    stderr: "null",
  }).output();
  return success ? JSON.parse(new TextDecoder().decode(stdout)).result : undefined;
}

/** Prints the comparison. */
export async function benchNetwork(): Promise<void> {
  const [ours, theirs]: [Measured[], Measured[]] = [[], []];
  let failed = 0;
  for (let i = 0; i < REPETITIONS; i++) {
    const stack = await measure("measure-stack");
    if (stack === undefined) throw new Error("Cannot measure the stack: no TAP can be made");
    ours.push(stack);
    const passt = await measure("measure-passt-large-mtu");
    if (passt === undefined) failed++;
    else theirs.push(passt);
  }
  const repeated = ours.reduce((sum, { retransmitted }) => sum + retransmitted, 0);
  const remark = `the guest repeated ${repeated} segments; passt failed ${failed} times`;
  for (
    const [what, unit, key, higherIsBetter] of [
      ["100 MB to the guest, MTU 1500", "MB/s", "down", true],
      ["100 MB from the guest, MTU 1500", "MB/s", "up", true],
      ["connecting", "ms", "connect", false],
    ] as const
  ) {
    report({
      what,
      unit,
      peer: "passt, MTU 65520",
      ours: ours.map((measured) => measured[key]),
      theirs: theirs.map((measured) => measured[key]),
      higherIsBetter,
      remark,
    });
  }
}
