/**
 * Figures for Prometheus.
 *
 * @module
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Orchestrator } from "../../service/orchestrator.ts";
import type { RunRecord } from "../../service/run_store.ts";

/** Seconds: from a restored VM's first byte to a long build. */
const BUCKETS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000];

/** Counts what happens in a server. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #runs = new Counter({
    name: "cloudlet_runs_total",
    help: "Runs that ended, by language and by how they ended",
    labelNames: ["language", "outcome"],
    registers: [this.#registry],
  });
  readonly #startTime = new Histogram({
    name: "cloudlet_run_start_seconds",
    help: "From the request to the microVM's being ready",
    labelNames: ["language"],
    buckets: BUCKETS,
    registers: [this.#registry],
  });
  readonly #totalTime = new Histogram({
    name: "cloudlet_run_duration_seconds",
    help: "From the request to the end",
    labelNames: ["language"],
    buckets: BUCKETS,
    registers: [this.#registry],
  });
  readonly #output = new Counter({
    name: "cloudlet_output_bytes_total",
    help: "Output of programs",
    labelNames: ["stream"],
    registers: [this.#registry],
  });
  readonly #requests = new Counter({
    name: "cloudlet_http_requests_total",
    help: "HTTP requests answered, by method, route and status",
    labelNames: ["method", "route", "status"],
    registers: [this.#registry],
  });

  /** Watches what an orchestrator has in use. */
  watch(orchestrator: Orchestrator): void {
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers: [this.#registry],
        collect() {
          this.set(value());
        },
      });
    const now = () => orchestrator.admission;
    gauge("cloudlet_vms", "MicroVMs that exist", () => now().machines + now().idle.machines);
    gauge("cloudlet_vms_limit", "MicroVMs that may exist", () => now().limits.machines);
    gauge(
      "cloudlet_vm_memory_bytes",
      "Memory of the microVMs",
      () => (now().memory + now().idle.memory) * 2 ** 20,
    );
    gauge(
      "cloudlet_vm_memory_limit_bytes",
      "Memory that microVMs may have",
      () => now().limits.memory * 2 ** 20,
    );
    gauge("cloudlet_queued_runs", "Runs that wait for a place", () => now().queued);
    gauge(
      "cloudlet_resident_memory_bytes",
      "Resident memory of the server",
      () => Deno.memoryUsage().rss,
    );
  }

  /** Counts a run that ended. */
  ended(run: RunRecord): void {
    const { language } = run;
    this.#runs.inc({ language, outcome: run.outcome ?? "unknown" });
    this.#output.inc({ stream: "stdout" }, run.stdoutBytes);
    this.#output.inc({ stream: "stderr" }, run.stderrBytes);
    if (run.startedAt !== null) {
      this.#startTime.observe({ language }, (run.startedAt - run.createdAt) / 1000);
    }
    if (run.endedAt !== null) {
      this.#totalTime.observe({ language }, (run.endedAt - run.createdAt) / 1000);
    }
  }

  /** Counts an HTTP request. */
  answered(method: string, route: string, status: number): void {
    this.#requests.inc({ method, route, status: String(status) });
  }

  /** Everything in Prometheus' text format 0.0.4. */
  async text(): Promise<{ readonly type: string; readonly body: string }> {
    return { type: this.#registry.contentType, body: await this.#registry.metrics() };
  }
}
