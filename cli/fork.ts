/**
 * `cloudlet fork`
 *
 * @module
 */
import { buildCommand, type CommandContext } from "@stricli/core";
import { ApiClient } from "../api/client/client.ts";
import { forkRun } from "../api/library/run.ts";
import { exitWith } from "./context.ts";
import { completeId, idParameter } from "./ps.ts";
import { follow, type ShowFlags } from "./run.ts";
import { serverFlag, type ServerFlags, serverFromFlags } from "./server_address.ts";

interface ForkFlags extends ServerFlags, ShowFlags {
  readonly id?: string;
}

/** The command `fork`. */
export const forkCommand = buildCommand({
  docs: {
    brief: "Copy a run of a server with its microVM; both go on from the same point",
    fullDescription:
      "Shows what the copy writes from there on, and ends with its exit code. Each " +
      "has entropy, a clock and a host name of its own; what a program drew at random before, both " +
      "have. The copy's standard input is at its end.",
  },
  parameters: {
    flags: {
      server: serverFlag,
      id: { kind: "parsed", parse: String, optional: true, brief: "id of the copy" },
      json: { kind: "boolean", default: false, brief: "print what happens as JSON, one a line" },
      quiet: { kind: "boolean", default: false, brief: "say nothing but what the program says" },
      verbose: { kind: "boolean", default: false, brief: "show what the service says" },
    },
    aliases: { q: "quiet", v: "verbose" },
    positional: { kind: "tuple", parameters: [idParameter] },
  },
  async func(this: CommandContext, flags: ForkFlags, id: string) {
    const server = serverFromFlags(flags);
    const run = await completeId(new ApiClient(server), id);
    await using copy = forkRun(server, run, flags.id === undefined ? {} : { id: flags.id });
    exitWith(this, await follow(copy, flags));
  },
});
