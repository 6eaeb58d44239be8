/** The numbers that follow `start`, down to 1. */
export function* collatz(start: number): Generator<number> {
  for (let value = start; value !== 1; yield value) {
    value = value % 2 === 0 ? value / 2 : 3 * value + 1;
  }
}
