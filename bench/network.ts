/**
 * The stack beside passt, both with Linux's own TCP as the guest and no VM (test/net): passt is at its
 * best with packets of 64 KiB, the stack has Ethernet's MTU. And a client in a guest beside the same one
 * on this host.
 *
 * @module
 */
import { run } from "../mod.ts";
import { GUEST_PACKAGES } from "../test/net/guest_packages.ts";
import { report } from "./report.ts";

const REPETITIONS = 5;
const GUEST_REPETITIONS = 3;
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

/** What the same client measured in a guest and on this host. */
interface Client {
  readonly connects: readonly number[];
  readonly requests: readonly number[];
  readonly download: { readonly rate: number };
  readonly rate_up: number;
}

/** A client in a guest beside the same one on this host. */
async function benchGuest(): Promise<void> {
  // The image and its snapshot: in the namespace nothing can be fetched.
  await run({ code: "print()", language: "python", packages: GUEST_PACKAGES }).result;
  const program = new URL("../test/net/guest_scenario.ts", import.meta.url).pathname;
  const inside = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", program, "measure"];
  const all: { readonly guest: Client; readonly host: Client }[] = [];
  for (let i = 0; i < GUEST_REPETITIONS; i++) {
    const { success, stdout, stderr } = await new Deno.Command("timeout", {
      args: ["-s", "KILL", "300", "unshare", "--map-root-user", "--net", ...inside],
      stdin: "null",
    }).output();
    const decoder = new TextDecoder();
    if (!success) throw new Error(`Cannot measure a guest's network: ${decoder.decode(stderr)}`);
    all.push(JSON.parse(decoder.decode(stdout)).result);
  }
  const peer = "the same on the host";
  for (
    const [what, unit, values, higherIsBetter] of [
      ["connecting from a guest", "ms", ({ connects }: Client) => connects, false],
      ["requests of a guest, one after the other", "/s", ({ requests }: Client) => requests, true],
      ["5 MB to a guest", "MB/s", ({ download }: Client) => [download.rate], true],
      ["2 MB from a guest", "MB/s", ({ rate_up }: Client) => [rate_up], true],
    ] as const
  ) {
    report({
      what,
      unit,
      peer,
      ours: all.flatMap(({ guest }) => values(guest)),
      theirs: all.flatMap(({ host }) => values(host)),
      higherIsBetter,
    });
  }
}

/** Prints the comparison. */
export async function benchNetwork(): Promise<void> {
  await benchStack();
  await benchGuest();
}

async function benchStack(): Promise<void> {
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
