/**
 * Lists on the terminal: columns two blanks apart, and no lines.
 *
 * @module
 */

/** The rows below their headings; ends without a line feed. */
export async function formatTable(
  head: readonly string[],
  rows: Iterable<readonly (string | number)[]>,
): Promise<string> {
  const { default: Table } = await import("cli-table3"); // few commands need it
  const table = new Table({
    head: [...head],
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    // deno-fmt-ignore
    chars: {
      top: "", "top-mid": "", "top-left": "", "top-right": "", bottom: "", "bottom-mid": "",
      "bottom-left": "", "bottom-right": "", left: "", "left-mid": "", mid: "", "mid-mid": "",
      right: "", "right-mid": "", middle: "  ",
    },
  });
  for (const row of rows) table.push([...row]);
  return table.toString();
}
