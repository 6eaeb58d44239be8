/**
 * Names that users write, and the numbers that the wire has for them.
 *
 * @module
 */
import { languageVersion } from "../builder/image/versions.ts";
import { ExecuteRequest_Action as Action } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { Language } from "../proto/gen/vmmorchestrator/vmm_pb.ts";

/** Names of actions, as in the config file. */
export const ACTIONS: Readonly<Record<string, Action>> = {
  "run": Action.RUN,
  "prepare": Action.PREPARE,
  "prepare-and-run": Action.PREPARE_AND_RUN,
};

/** The number of a language's name. */
export function languageNumber(name: string): Language {
  return Language[name.toUpperCase() as keyof typeof Language];
}

/**
 * What the wire has for a version of a language.
 *
 * @param version as users write it
 * @returns "" for the default
 * @throws {CloudletError} `invalid-input` for `LANGUAGE@` with nothing behind it
 */
export function versionOf(language: string, version: string | undefined): string {
  // The service knows which versions there are, but on its wire "" is none.
  return version === "" ? languageVersion(language, version).version : version ?? "";
}
