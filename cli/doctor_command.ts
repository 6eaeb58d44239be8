/**
 * The command line of `cloudlet doctor`; what it examines is in doctor.ts.
 *
 * @module
 */
import { buildCommand, type CommandContext } from "@stricli/core";
import { styleText } from "node:util";
import { describeError, EXIT, exitWith, withProgress } from "./context.ts";
import type { Finding } from "./doctor.ts";
import type { Fix } from "./doctor_fix.ts";

import { say, writeLine } from "./output.ts";
import { lazyImport } from "../base/lazy_import.ts";

const MARKS = {
  ok: ["green", "ok  "],
  warn: ["yellow", "warn"],
  fail: ["red", "FAIL"],
} as const;

/** How a fix reads where it is to be done by somebody else; undefined for one of cloudlet's. */
function instruction(fix: Fix): string | undefined {
  switch (fix.by) {
    case "cloudlet":
      return undefined;
    case "root":
      return `needs root: ${fix.command}`;
    case "shell":
      return `in your shell: ${fix.command}`;
  }
}

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
      const step = flags.fix && finding.fix !== undefined ? instruction(finding.fix) : undefined;
      const remedy = step ?? finding.remedy;
      if (remedy !== undefined) writeLine(`      -> ${remedy}`);
    }
    if (findings.some(({ ok }) => ok === "fail")) exitWith(this, EXIT.failure);
  },
});
