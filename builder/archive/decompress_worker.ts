/**
 * Worker that decompresses a part of a file into another file, one job after the other.
 *
 * @module
 */
import { CloudletError, type ErrorCode } from "../../base/errors.ts";
import { diskError, writeAllSync } from "../../base/files.ts";
import { workerScope } from "../../base/worker_scope.ts";
import { addShared, type SharedCount } from "../limits.ts";
import { decompress } from "./decompress.ts";

/** One job: `size` bytes from `offset` of `source`, decompressed into the new file `goal`. */
export interface DecompressJob {
  /** Told back in the answer. */
  readonly id: number;
  /** Path of the compressed file. */
  readonly source: string;
  /** Where the compressed bytes start. */
  readonly offset: number;
  /** How many there are. */
  readonly size: number;
  /** Path of the file to make. */
  readonly goal: string;
  /** For error messages. */
  readonly name: string;
  /** Most bytes that may come out; null for no limit. */
  readonly limit: number | null;
  /** What comes out is added to it; null for nothing to add to. */
  readonly count: SharedCount | null;
  /** Whether the result must outlive a power cut. */
  readonly durable: boolean;
}

/** The outcome of a job. */
export type DecompressAnswer =
  | { readonly id: number; readonly type: "done"; readonly size: number }
  | {
    readonly id: number;
    readonly type: "failed";
    readonly message: string;
    readonly code: ErrorCode;
    readonly remedy: string | undefined;
  };

const CHUNK = 256 * 1024;
const BUFFER = 1024 * 1024;

function fileStream(file: Deno.FsFile, offset: number, size: number) {
  let left = size;
  file.seekSync(offset, Deno.SeekMode.Start);
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      const buffer = new Uint8Array(Math.min(CHUNK, left));
      const count = left === 0 ? null : file.readSync(buffer);
      if (count === null) return controller.close();
      left -= count;
      controller.enqueue(buffer.subarray(0, count));
    },
  });
}

async function run(job: DecompressJob): Promise<number> {
  using source = Deno.openSync(job.source);
  using goal = Deno.openSync(job.goal, { write: true, createNew: true });
  const buffer = new Uint8Array(BUFFER);
  let filled = 0;
  let total = 0;
  const stream = fileStream(source, job.offset, job.size);
  const options = { name: job.name, ...(job.limit === null ? {} : { limit: job.limit }) };
  for await (const chunk of decompress(stream, options)) {
    total += chunk.length;
    if (job.count !== null && !addShared(job.count, chunk.length)) {
      throw new CloudletError(`Cannot decompress ${job.name}: too many bytes come out`, {
        code: "untrusted",
      });
    }
    if (filled + chunk.length > buffer.length) {
      writeAllSync(goal, buffer.subarray(0, filled));
      filled = 0;
    }
    if (chunk.length > buffer.length) {
      writeAllSync(goal, chunk);
    } else {
      buffer.set(chunk, filled);
      filled += chunk.length;
    }
  }
  writeAllSync(goal, buffer.subarray(0, filled));
  if (job.durable) goal.syncSync();
  return total;
}

const scope = workerScope<DecompressJob, DecompressAnswer>();
scope.onmessage = async ({ data }) => {
  let answer: DecompressAnswer;
  try {
    answer = { id: data.id, type: "done", size: await run(data) };
  } catch (thrown) {
    const error = diskError(`Cannot write ${data.goal}`, thrown);
    answer = {
      id: data.id,
      type: "failed",
      message: error instanceof Error ? error.message : String(error),
      code: error instanceof CloudletError ? error.code : "host",
      remedy: error instanceof CloudletError ? error.remedy : undefined,
    };
  }
  scope.postMessage(answer);
};
