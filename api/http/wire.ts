/**
 * Between the JSON of the HTTP API and the messages of VmmService.
 *
 * @module
 */
import { strictUtf8 } from "../../base/bytes.ts";
import { create } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import type { z } from "zod";
import {
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  type NetworkEvent,
} from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import {
  LogLevel,
  type RunVmmRequest,
  RunVmmRequestSchema,
} from "../../proto/gen/vmmorchestrator/vmm_pb.ts";
import { splitLanguage } from "../../builder/image/versions.ts";
import { ACTIONS, languageNumber, versionOf } from "../names.ts";
import { toBuildNetwork, toNetwork, toReport } from "../network.ts";
import { outcomeName } from "../../service/outcome.ts";
import type { LogEntry, RunRecord } from "../../service/run_store.ts";
import type { Problem } from "./problem.ts";
import {
  type LogEntryBody,
  type RunEventBody,
  type RunInfo,
  type runMetrics,
  type RunRequest,
  STAGES,
} from "../schemas.ts";

const utf8 = new TextEncoder();

/** The number of a log level. */
export function toLogLevel(level: RunRequest["log_level"] = "info"): LogLevel {
  return LogLevel[level.toUpperCase() as keyof typeof LogLevel];
}

/** What VmmService is asked for by the body of POST /run. */
export function toRunVmmRequest(body: RunRequest): RunVmmRequest {
  const { name: language, version } = splitLanguage(body.language);
  return create(RunVmmRequestSchema, {
    workloadName: body.workload_name ?? "",
    runName: body.run_name ?? "",
    language: languageNumber(language),
    languageVersion: versionOf(language, version),
    code: body.code ?? "",
    logLevel: toLogLevel(body.log_level),
    action: ACTIONS[body.action ?? "prepare-and-run"]!,
    memoryMib: body.memory ?? 0,
    vcpus: body.vcpus ?? 0,
    packages: body.packages ?? [],
    ...(body.image !== undefined && { image: toImage(body.image) }),
    ...(body.network !== undefined && { network: toNetwork(body.network) }),
    ...(body.build?.network !== undefined && { buildNetwork: toBuildNetwork(body.build.network) }),
    noInstall: body.build?.install === false,
    dependencyGroups: body.build?.groups ?? [],
    options: {
      executionId: body.id ?? "",
      args: body.args ?? [],
      env: body.env ?? {},
      buildEnv: body.build?.env ?? {},
      ...(body.timeout !== undefined && { timeout: durationFromMs(body.timeout * 1000) }),
      release: body.build?.release ?? false,
      files: toFiles(body.files),
      entryPoint: body.entry_point ?? "",
      stdin: body.stdin_base64 ?? utf8.encode(body.stdin ?? ""),
      rawOutput: body.output === "base64",
      cold: body.cold ?? false,
    },
  });
}

function toFiles(files: RunRequest["files"]) {
  return (files ?? []).map((file) => ({
    path: file.path,
    content: file.content_base64 ?? utf8.encode(file.content ?? ""),
    mode: file.mode ?? 0,
    target: file.target ?? "",
    directory: file.directory ?? false,
  }));
}

function toImage(image: NonNullable<RunRequest["image"]>) {
  if (typeof image === "string") return { from: image };
  return {
    from: image.from ?? "",
    pull: image.pull ?? false,
    insecure: image.insecure ?? false,
    files: toFiles(image.files),
    run: image.run ?? [],
  };
}

/** The event that tells a response of VmmService. */
export function toEvent(response: ExecuteResponse): RunEventBody {
  const { usage, outcome } = response;
  const last = response.stage === Stage.DONE || response.stage === Stage.FAILED;
  return {
    stage: STAGES[response.stage] ?? "Debug",
    stdout: response.stdout ?? null,
    stderr: response.stderr ?? null,
    exit_code: response.exitCode ?? null,
    ...(response.executionId !== "" && { id: response.executionId }),
    ...(response.stdoutBytes && { stdout_base64: response.stdoutBytes.toBase64() }),
    ...(response.stderrBytes && { stderr_base64: response.stderrBytes.toBase64() }),
    ...(last && outcome && { outcome: outcomeName(outcome.kind) }),
    ...(outcome?.message && { message: outcome.message }),
    ...(response.network && { network: toNetworkReport(response.network) }),
    ...(usage && {
      usage: {
        wall_ms: usage.wallTime ? durationMs(usage.wallTime) : 0,
        user_ms: usage.userTime ? durationMs(usage.userTime) : 0,
        system_ms: usage.systemTime ? durationMs(usage.systemTime) : 0,
        peak_memory_bytes: Number(usage.peakMemoryBytes),
      },
    }),
  };
}

function toNetworkReport(event: NetworkEvent): RunEventBody["network"] {
  const report = toReport(event);
  if (report.kind === "denied" || report.kind === "secret") return report;
  const { guestPort, ...rest } = report;
  return { ...rest, guest_port: guestPort };
}

/** The last event of a run that the service or its microVM could not finish. */
export function toFailedEvent(problem: Problem): RunEventBody {
  return { stage: "Failed", stdout: null, stderr: null, exit_code: null, problem };
}

function isoTime(milliseconds: number): string;
function isoTime(milliseconds: number | null): string | null;
function isoTime(milliseconds: number | null): string | null {
  return milliseconds === null ? null : new Date(milliseconds).toISOString();
}

/** A run as GET /runs tells it. */
export function toRunInfo(run: RunRecord): RunInfo {
  return {
    id: run.id,
    run_name: run.runName,
    workload_name: run.workloadName,
    language: run.language,
    action: run.action,
    state: run.state,
    outcome: run.outcome,
    exit_code: run.exitCode,
    message: run.message,
    memory: run.memory,
    vcpus: run.vcpus,
    created_at: isoTime(run.createdAt),
    started_at: isoTime(run.startedAt),
    ended_at: isoTime(run.endedAt),
  };
}

/** A run's figures as GET /metrics/{id} tells them. */
export function toMetrics(run: RunRecord): z.output<typeof runMetrics> {
  return {
    id: run.id,
    state: run.state,
    outcome: run.outcome,
    start_ms: run.startedAt === null ? null : run.startedAt - run.createdAt,
    total_ms: (run.endedAt ?? Date.now()) - run.createdAt,
    wall_ms: run.wallTime,
    user_ms: run.userTime,
    system_ms: run.systemTime,
    peak_memory_bytes: run.peakMemory,
    stdout_bytes: run.stdoutBytes,
    stderr_bytes: run.stderrBytes,
  };
}

/** A piece of output as GET /logs/{id} tells it. */
export function toLogEntry(entry: LogEntry): LogEntryBody {
  const time = isoTime(entry.time);
  try {
    return { time, stream: entry.stream, text: strictUtf8.decode(entry.data) };
  } catch {
    return { time, stream: entry.stream, base64: entry.data.toBase64() };
  }
}
