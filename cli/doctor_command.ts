/**
 * The command line of `cloudlet doctor`; what it examines is in doctor.ts.
 *
 * @module
 */
import { buildCommand, type CommandContext } from "@stricli/core";
import { styleText } from "node:util";
import { EXIT, exitWith } from "./context.ts";
import { writeLine } from "./output.ts";
import { lazyImport } from "../base/lazy_import.ts";

const MARKS = {
  ok: ["green", "ok  "],
  warn: ["yellow", "warn"],
  fail: ["red", "FAIL"],
} as const;

/** `cloudlet doctor` */
export const doctorCommand = buildCommand({
  docs: {
    brief: "Check whether this host can run microVMs, and say what to do where it cannot",
    fullDescription: "Exits with 1 when something that is needed is missing.",
  },
  parameters: {
    flags: { json: { kind: "boolean", brief: "one JSON object a line", default: false } },
  },
  async func(this: CommandContext, flags: { json: boolean }) {
    const { examine } = await lazyImport<typeof import("./doctor.ts")>(
      "./doctor.ts",
      import.meta.url,
    );
    const findings = await examine();
    for (const finding of findings) {
      if (flags.json) {
        writeLine(JSON.stringify(finding));
        continue;
      }
      const [colour, mark] = MARKS[finding.ok];
      writeLine(`${styleText(colour, mark)}  ${finding.name}: ${finding.detail}`);
      if (finding.remedy !== undefined) writeLine(`      -> ${finding.remedy}`);
    }
    if (findings.some(({ ok }) => ok === "fail")) exitWith(this, EXIT.failure);
  },
});
