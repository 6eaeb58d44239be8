import { collatz } from "./lib/collatz.ts";

if (import.meta.main) {
  const start = Number(Deno.args[0] ?? "7");
  let steps = 0;
  let peak = start;
  for (const value of collatz(start)) {
    steps++;
    peak = Math.max(peak, value);
    if (steps % 20 === 0) console.log(JSON.stringify({ steps, value }));
  }
  console.log(JSON.stringify({ start, steps, peak }));
}
