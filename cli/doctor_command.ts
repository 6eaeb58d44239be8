/**
 * The command line of `cloudlet doctor`; what it examines is in doctor.ts.
 *
 * @module
 */
import { buildCommand, type CommandContext } from "@stricli/core";
import { styleText } from "node:util";
import { describeError, EXIT, exitWith, withProgress } from "./context.ts";
import type { Finding } from "./doctor_finding.ts";

import { say, writeLine } from "./output.ts";
import { lazyImport } from "../base/lazy_import.ts";

const MARKS = {
  ok: ["green", "ok  "],
  warn: ["yellow", "warn"],
  fail: ["red", "FAIL"],
} as const;

/** Puts right what can be, and examines again when anything was. */
async function examineAndFix(): Promise<Finding[]> {
  const { examine } = await lazyImport<typeof import("./doctor.ts")>(
    "./doctor.ts",
    import.meta.url,
  );
  const { apply } = await lazyImport<typeof import("./doctor_fix.ts")>(
    "./doctor_fix.ts",
    import.meta.url,
  );
  const findings = await examine();
  let changed = false;
  for (const { name, ok, fix } of findings) {
    if (ok === "ok" || fix?.by !== "cloudlet") continue;
    try {
      await withProgress((options) => apply(fix.what, options));
      say(`${name}: cloudlet did this: ${fix.what}`);
      changed = true;
    } catch (error) {
      say(describeError(error)); // the finding stays
    }
  }
  return changed ? await examine() : findings;
}

/** `cloudlet doctor` */
export const doctorCommand = buildCommand({
  docs: {
    brief: "Check whether this host can run microVMs, and say what to do where it cannot",
    fullDescription:
      "Exits with 1 when something that is needed is missing. With --fix, what needs no " +
      "root is done first: the kernel is made, and the cache is put in order. Commands for root are " +
      "shown, and never run.",
  },
  parameters: {
    flags: {
      json: { kind: "boolean", brief: "one JSON object a line", default: false },
      fix: {
        kind: "boolean",
        brief: "do what can be done without root, and say what needs it",
        default: false,
        withNegated: false,
      },
    },
  },
  async func(this: CommandContext, flags: { json: boolean; fix: boolean }) {
    const { examine } = await lazyImport<typeof import("./doctor.ts")>(
      "./doctor.ts",
      import.meta.url,
    );
    const findings = flags.fix ? await examineAndFix() : await examine();
    for (const finding of findings) {
      if (flags.json) {
        writeLine(JSON.stringify(finding));
        continue;
      }
      const [colour, mark] = MARKS[finding.ok];
      writeLine(`${styleText(colour, mark)}  ${finding.name}: ${finding.detail}`);
      const remedy = flags.fix && finding.fix?.by === "root"
        ? `needs root: ${finding.fix.command}`
        : finding.remedy;
      if (remedy !== undefined) writeLine(`      -> ${remedy}`);
    }
    if (findings.some(({ ok }) => ok === "fail")) exitWith(this, EXIT.failure);
  },
});
