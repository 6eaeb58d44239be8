/**
 * Output of tests that run side by side: whole lines, with the time before each.
 *
 * @module
 */
import { writeAllSync } from "../base/files.ts";

const encoder = new TextEncoder();

/** Whole seconds since this process started. */
export const seconds = () => (performance.now() / 1000).toFixed(0).padStart(4);

/**
 * Makes a printer of whole lines, each with the seconds before it.
 *
 * @param name stands before each line as well
 * @returns takes text as it comes
 */
export function printLines(name = ""): (text: string) => void {
  const prefix = name && `${name}: `;
  let rest = "";
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    const stamped = lines.map((line) => `${seconds()} s  ${prefix}${line}\n`);
    writeAllSync(Deno.stdout, encoder.encode(stamped.join("")));
  };
}
