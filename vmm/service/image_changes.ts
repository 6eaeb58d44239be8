/**
 * Commands that change an image, run in a microVM.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import type { Machine, MachineRequest } from "./machine.ts";

/** Runs the commands and writes what they changed, as a layer, to a new file. */
export function saveChanges(
  _machine: Machine,
  _run: readonly string[],
  _path: string,
  _request: MachineRequest,
): Promise<void> {
  return Promise.reject(
    new CloudletError("Cannot run the image's commands: this is not there yet", {
      code: "invalid-input",
      remedy: "remove [image] run",
    }),
  );
}
