/**
 * What an image's configuration says about its program, put into what the agent is asked.
 *
 * The OCI image specification 1.1, "Properties": Env, Entrypoint, Cmd, WorkingDir, User.
 *
 * @module
 */
import { create } from "@bufbuild/protobuf";
import { COMMAND } from "../workload/languages.ts";
import { CloudletError } from "../base/errors.ts";
import type { ProgramConfig } from "../builder/oci/manifest.ts";
import {
  type ExecuteRequest,
  ExecuteRequestSchema,
  OptionsSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";

/** Variables by name; the last of a name counts. */
function environment(variables: readonly string[]): Record<string, string> {
  return Object.fromEntries(variables.flatMap((text) => {
    const equals = text.indexOf("=");
    return equals > 0 ? [[text.slice(0, equals), text.slice(equals + 1)]] : [];
  }));
}

/**
 * The request with the image's environment, user, directory and command; what the request itself
 * says goes before them.
 *
 * A program with a source has the directory of its files, and no entry point before it.
 *
 * @param program undefined when the image says nothing
 * @throws {CloudletError} `invalid-input` when nothing says what to run
 */
export function asImageWants(
  request: ExecuteRequest,
  program: ProgramConfig | undefined,
): ExecuteRequest {
  if (program === undefined) return request;
  const options = request.options ?? create(OptionsSchema);
  let { args } = options;
  if (request.language === COMMAND) {
    args = [...program.entrypoint, ...(args.length > 0 ? args : program.cmd)];
    if (args.length === 0) {
      throw new CloudletError(
        "Cannot run the image: it does not say what, and neither does the run",
        {
          code: "invalid-input",
          remedy: "name a command to run in it",
        },
      );
    }
  }
  const { workingDir } = program;
  return create(ExecuteRequestSchema, {
    ...request,
    options: {
      ...options,
      args,
      env: { ...environment(program.env), ...options.env },
      buildEnv: { ...environment(program.env), ...options.buildEnv },
      user: options.user || program.user,
      commandDirectory: options.commandDirectory ||
        (workingDir === "" || workingDir.startsWith("/") ? workingDir : `/${workingDir}`),
    },
  });
}
