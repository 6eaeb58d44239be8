/**
 * How the command line shows long work: bars that redraw themselves on a terminal, one plain line
 * for each beginning and end elsewhere. Always on standard error: standard output belongs to the
 * program that is run.
 *
 * @module
 */
// @ts-types="@types/cli-progress"
import type cliProgress from "cli-progress";
import process from "node:process";
import type { Progress, ProgressOptions, ProgressTask } from "../base/progress.ts";
import { say } from "./output.ts";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes as people read them: `1.5 MiB`. */
export function formatBytes(bytes: number): string {
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

function amount(value: number, unit: ProgressOptions["unit"]): string {
  return unit === "bytes" ? formatBytes(value) : String(value);
}

/** Progress as lines of text: what pipes, logs and CI get. */
export class LineProgress implements Progress {
  /** @param write prints one line */
  constructor(
    private readonly write: (line: string) => void = say,
  ) {}

  /** {@inheritDoc Progress.task} */
  task(title: string, options: ProgressOptions = {}): ProgressTask {
    const start = performance.now();
    let value = 0;
    let ended = false;
    const end = (how: string) => {
      if (ended) return;
      ended = true;
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      const counted = options.unit === "bytes" && value > 0 ? `, ${formatBytes(value)}` : "";
      this.write(`${title}: ${how} (${seconds} s${counted})`);
    };
    this.write(`${title} ...`);
    return {
      advance: (by) => void (value += by),
      note() {}, // a line for each file would drown the log
      done: (summary) => end(summary ?? "done"),
      [Symbol.dispose]: () => end("failed"),
    };
  }

  /** {@inheritDoc Progress.info} */
  info(message: string): void {
    this.write(message);
  }

  /** Nothing to give back. */
  [Symbol.dispose](): void {}
}

/** Progress as bars at the bottom of a terminal. */
export class BarProgress implements Progress {
  readonly #lines = new LineProgress((line) => this.#log(line));
  #bars: cliProgress.MultiBar | undefined;
  #loading: Promise<void> | undefined;
  #active = 0;

  #log(line: string): void {
    if (this.#bars) this.#bars.log(`${line}\n`);
    else say(line);
  }

  /** Makes the bars; their library is not loaded for work that has nothing to show. */
  async #load(): Promise<void> {
    // @ts-types="@types/cli-progress"
    const { default: cliProgress } = await import("cli-progress");
    if (this.#active === 0) return; // it has ended meanwhile
    this.#bars ??= new cliProgress.MultiBar({
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
      linewrap: false,
      fps: 10,
      barsize: 24,
      autopadding: true,
      format: (options, params, payload: { title: string; note: string; show: string }) => {
        const share = params.total > 0 ? Math.min(1, params.value / params.total) : 0;
        const full = Math.round(share * (options.barsize ?? 24));
        const bar = "━".repeat(full) + " ".repeat((options.barsize ?? 24) - full);
        return `${payload.title.padEnd(28)} ${bar} ${payload.show} ${payload.note}`;
      },
    }, cliProgress.Presets.shades_classic);
  }

  /** {@inheritDoc Progress.task} */
  task(title: string, options: ProgressOptions = {}): ProgressTask {
    const start = performance.now();
    const total = options.total ?? 0;
    let value = 0;
    let note = "";
    const payload = () => ({
      title,
      note,
      show: total > 0
        ? `${amount(value, options.unit)} of ${amount(total, options.unit)}`
        : value > 0
        ? amount(value, options.unit)
        : "",
    });
    this.#active++;
    let bar: cliProgress.SingleBar | undefined;
    this.#loading ??= this.#load();
    void this.#loading.then(() => {
      if (value >= 0) bar = this.#bars?.create(Math.max(total, 1), value, payload());
    });
    const end = (how: string) => {
      if (this.#active === 0 || value < 0) return;
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      const counted = options.unit === "bytes" && value > 0 ? `, ${formatBytes(value)}` : "";
      if (bar !== undefined) this.#bars?.remove(bar);
      this.#log(`${title}: ${how} (${seconds} s${counted})`);
      value = -1;
      if (--this.#active === 0) this[Symbol.dispose]();
    };
    return {
      advance: (by) => {
        value += by;
        bar?.update(Math.min(value, Math.max(total, 1)), payload());
      },
      note: (text) => {
        note = text.slice(0, 40);
        bar?.update(payload());
      },
      done: (summary) => end(summary ?? "done"),
      [Symbol.dispose]: () => end("failed"),
    };
  }

  /** {@inheritDoc Progress.info} */
  info(message: string): void {
    this.#lines.info(message);
  }

  /** Gives the terminal back: cursor shown, nothing redrawn any more. */
  [Symbol.dispose](): void {
    this.#bars?.update(); // prints what log() still holds
    this.#bars?.stop();
    this.#bars = undefined;
    this.#loading = undefined;
  }
}

/** Bars when standard error is a terminal, lines otherwise. */
export function terminalProgress(): Progress {
  return Deno.stderr.isTerminal() ? new BarProgress() : new LineProgress();
}
