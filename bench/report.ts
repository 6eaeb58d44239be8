/**
 * How benchmarks are reported: ours beside a named peer's, measured in turns in the same run, as
 * a ratio. A time by itself says more about the machine than about cloudlet.
 *
 * @module
 */

/** The value below which the share `p` (0 to 1) of the values lies, by the nearest rank. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))] ?? NaN;
}

/** One comparison. */
export interface Comparison {
  /** What was measured. */
  readonly what: string;
  /** Unit of the values. */
  readonly unit: string;
  /** Name of whom we are compared with. */
  readonly peer: string;
  /** Our values, one for each repetition. */
  readonly ours: readonly number[];
  /** The peer's values; empty when it could not do it, which `remark` then explains. */
  readonly theirs: readonly number[];
  /** Whether more is better, as with throughput. */
  readonly higherIsBetter?: boolean;
  /** Anything that a reader has to know. */
  readonly remark?: string;
}

function round(value: number): string {
  if (!Number.isFinite(value)) return "-";
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toPrecision(2);
}

/** Prints a comparison as one line. */
export function report(comparison: Comparison): void {
  const { what, unit, peer, ours, theirs, higherIsBetter = false, remark } = comparison;
  const side = (values: readonly number[]) =>
    `${round(percentile(values, 0.5))} (p95 ${
      round(percentile(values, higherIsBetter ? 0.05 : 0.95))
    })`;
  const ratio = percentile(ours, 0.5) / percentile(theirs, 0.5);
  const verdict = theirs.length === 0
    ? "no peer"
    : `${round(ratio)}x of ${peer}${(ratio > 1) === higherIsBetter ? ", ahead" : ", behind"}`;
  const peers = theirs.length === 0 ? "" : `; ${peer} ${side(theirs)}`;
  console.log(`${what}: ${verdict}; ours ${side(ours)}${peers} ${unit}, n=${ours.length}`);
  if (remark !== undefined) console.log(`  ${remark}`);
}

/**
 * Measures two ways of doing a thing in turns, so that a slow spell of the machine meets both.
 *
 * @returns milliseconds of each repetition
 */
export async function inTurns(
  repetitions: number,
  ours: () => Promise<void>,
  theirs: () => Promise<void>,
): Promise<{ ours: number[]; theirs: number[] }> {
  const times = { ours: [] as number[], theirs: [] as number[] };
  const time = async (work: () => Promise<void>) => {
    const start = performance.now();
    await work();
    return performance.now() - start;
  };
  for (let i = 0; i < repetitions; i++) {
    times.ours.push(await time(ours));
    times.theirs.push(await time(theirs));
  }
  return times;
}
