/**
 * The responses that the service itself makes.
 *
 * @module
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { ActiveRun } from "./active_run.ts";
import { changeOf } from "./outcome.ts";

/** A response with these fields. */
export function response(fields: MessageInitShape<typeof ExecuteResponseSchema>): ExecuteResponse {
  return create(ExecuteResponseSchema, fields);
}

/** A remark as a response, which is kept with the run's output. */
export function debug(run: ActiveRun, text: string): ExecuteResponse {
  run.log("service", text + "\n");
  return response({ stage: Stage.DEBUG, stderr: text + "\n" });
}

/** The last response. */
export function* endWith(run: ActiveRun, last: ExecuteResponse): Generator<ExecuteResponse> {
  // The account is closed before the client hears of it, and however slowly it listens.
  void run.end(changeOf(last));
  yield last;
}
