/**
 * A program's output as text: UTF-8 whose characters may be cut anywhere between two pieces.
 *
 * @module
 */
import type { ExecuteResponse_Stage as Stage } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Response } from "./execution.ts";

/** Decodes both streams; see the module. */
export class TextOutput {
  readonly #stdout = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #stderr = new TextDecoder("utf-8", { ignoreBOM: true });

  /** The response for a piece of output; undefined while it holds no whole character. */
  response(
    stage: Stage,
    kind: "stdout" | "stderr",
    bytes: Uint8Array<ArrayBuffer>,
  ): Response | undefined {
    const decoder = kind === "stdout" ? this.#stdout : this.#stderr;
    const text = decoder.decode(bytes, { stream: true });
    return text === "" ? undefined : { stage, [kind]: text };
  }

  /** The response for characters that were never completed. */
  end(stage: Stage): Response | undefined {
    const stdout = this.#stdout.decode();
    const stderr = this.#stderr.decode();
    if (stdout === "" && stderr === "") return undefined;
    return {
      stage,
      ...(stdout === "" ? {} : { stdout }),
      ...(stderr === "" ? {} : { stderr }),
    };
  }
}
