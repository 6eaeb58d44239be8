/**
 * The command line of `cloudlet run`; what it does is in run.ts.
 *
 * @module
 */
import { ACCESS } from "../workload/network_access.ts";
import { buildCommand } from "@stricli/core";
import { languages } from "../workload/languages.ts";
import { parseBandwidth, parsePublished } from "../api/network.ts";
import { parseSecret } from "./config_network.ts";
import { exitWith } from "./context.ts";
import { parseOutput, parseSent } from "./output_files.ts";
import type { WithProgram } from "./program_words.ts";
import { type RunFlags, runProgram } from "./run.ts";
import { targetOf } from "./run_target.ts";
import { defaultServer } from "./server_address.ts";
import { parseCount, parseDuration, parseMemory, parseRunName } from "./units.ts";

/** As it was written, when it is a port to publish. */
function checkedPublished(text: string): string {
  parsePublished(text);
  return text;
}

/** As it was written, when it is a bandwidth. */
function checkedBandwidth(text: string): string {
  parseBandwidth(text);
  return text;
}

/** The command `run`. */
export const runCommand = buildCommand({
  docs: {
    brief: "Run a program in a microVM of its own",
    fullDescription: "Runs what a config file, a source file or a project directory tells, shows " +
      "what the program writes as it comes, and ends with the program's exit code. What is " +
      "missing, a kernel or an image, is built first. Flags of cloudlet come before the program; what " +
      "follows it is its own. Beside --image, a word is a source when it has the name of one, or is " +
      "a directory with a slash in it; `--` before it makes it a command, after it a source.",
    customUsage: [
      "config.toml",
      "hello.py --its-own-flag",
      "--env NAME=VALUE project/",
      "--entry tools/cli.py project/",
      "--image alpine:3 cat /etc/os-release",
    ],
  },
  parameters: {
    flags: {
      env: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        placeholder: "NAME=VALUE",
        brief: "NAME=VALUE for the program's environment; NAME passes this one's",
      },
      envFile: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        placeholder: "file",
        brief: "file of such variables, one a line, as docker's",
      },
      name: {
        kind: "parsed",
        parse: parseRunName,
        optional: true,
        placeholder: "name",
        brief: "name of the run, for ps, logs and stop; one run's while it is under way",
      },
      file: {
        kind: "parsed",
        parse: parseSent,
        variadic: true,
        optional: true,
        placeholder: "SRC:DST",
        brief: "file or directory of this host to send into the program's directory",
      },
      output: {
        kind: "parsed",
        parse: parseOutput,
        variadic: true,
        optional: true,
        placeholder: "PATH[:DST]",
        brief: "file or directory of the program's to write to this host when it has ended",
      },
      stdin: {
        kind: "parsed",
        parse: String,
        optional: true,
        placeholder: "file",
        brief: "file that is the program's standard input; - is the command's own, the default",
      },
      noStdin: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "the program's standard input is empty: the command's own is left alone",
      },
      timeout: {
        kind: "parsed",
        parse: parseDuration,
        optional: true,
        placeholder: "duration",
        brief: "time after which the program is killed: 90, 500ms, 1m30s",
      },
      memory: {
        kind: "parsed",
        parse: parseMemory,
        optional: true,
        placeholder: "size",
        brief: "memory of the microVM: 512M, 2G",
      },
      vcpus: {
        kind: "parsed",
        parse: (text: string) => parseCount(text, 1),
        optional: true,
        placeholder: "count",
        brief: "virtual CPUs of the microVM",
      },
      language: {
        kind: "parsed",
        parse: String,
        optional: true,
        placeholder: "language",
        brief: `what it is written in: ${Object.keys(languages).join(", ")}; or python@3.11, ` +
          "of the versions that `image ls --available` lists",
      },
      entry: {
        kind: "parsed",
        parse: String,
        optional: true,
        placeholder: "file",
        brief: "file of a project that is run, or the name of a program of cargo",
      },
      alone: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "send a source file without the project around it",
      },
      release: { kind: "boolean", optional: true, brief: "build with optimisation" },
      buildEnv: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        placeholder: "NAME=VALUE",
        brief: "NAME=VALUE for the compiler's environment; NAME passes this one's",
      },
      buildNetwork: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        placeholder: "public|HOST[:PORT]",
        brief:
          "what installing the project's packages may reach: public, or a host, as with --allow",
      },
      buildSecret: {
        kind: "parsed",
        parse: parseSecret,
        variadic: true,
        optional: true,
        placeholder: "NAME@HOST",
        brief: "variable of which installing has a placeholder, and only the host the value",
      },
      install: {
        kind: "boolean",
        optional: true,
        brief: "install the packages that the project names, or run it without them",
      },
      hostConfig: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "configure pip, npm or cargo for that as on this host; keys become secrets",
      },
      group: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        placeholder: "name",
        brief: "dependency group of pyproject.toml that is installed as well",
      },
      json: { kind: "boolean", default: false, brief: "print what happens as JSON, one a line" },
      quiet: { kind: "boolean", default: false, brief: "show no progress" },
      verbose: { kind: "boolean", default: false, brief: "show what the service says" },
      snapshot: {
        kind: "boolean",
        default: true,
        brief: "restore the microVM from a snapshot, made when it is missing; or boot it",
      },
      cold: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "start a new interpreter, not the idle one of the snapshot",
      },
      dryRun: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief: "tell what would be run and sent, and start nothing",
      },
      image: {
        kind: "parsed",
        parse: String,
        optional: true,
        placeholder: "oci-image",
        brief: "OCI image to run it in, as docker users write it; oci:DIR; docker-archive:FILE",
      },
      pull: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "ask the registry for a newer image of the tag",
      },
      insecure: {
        kind: "boolean",
        optional: true,
        withNegated: false,
        brief: "the registry may speak http",
      },
      network: {
        kind: "enum",
        values: ACCESS,
        optional: true,
        brief:
          "what may be reached without a rule: nothing, or the internet less private addresses",
      },
      allow: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        placeholder: "HOST[:PORT]",
        brief: "what the program may reach: a name, *.NAME, an address, ADDRESS/BITS, or host:PORT",
      },
      deny: {
        kind: "parsed",
        parse: String,
        variadic: true,
        optional: true,
        placeholder: "HOST[:PORT]",
        brief: "what it may not reach, whatever is allowed",
      },
      publish: {
        kind: "parsed",
        parse: checkedPublished,
        variadic: true,
        optional: true,
        placeholder: "PORT:GUEST_PORT",
        brief: "port of this host's 127.0.0.1 that leads to one of the guest's",
      },
      secret: {
        kind: "parsed",
        parse: parseSecret,
        variadic: true,
        optional: true,
        placeholder: "NAME@HOST",
        brief: "variable of which the program has a placeholder, and only the host the value",
      },
      bandwidth: {
        kind: "parsed",
        parse: checkedBandwidth,
        optional: true,
        placeholder: "rate",
        brief: "how much the program may send and get a second: 500kbit, 10Mbit",
      },
      pcap: {
        kind: "parsed",
        parse: String,
        optional: true,
        placeholder: "file",
        brief: "file that gets what the network carries, for Wireshark and tcpdump",
      },
      remote: { kind: "boolean", default: false, brief: "run it on the server of the config" },
      server: {
        kind: "parsed",
        parse: String,
        optional: true,
        placeholder: "url",
        brief: `run it on this server, such as ${defaultServer}`,
      },
    },
    aliases: { e: "env", p: "publish", t: "timeout", m: "memory", q: "quiet", v: "verbose" },
    positional: {
      kind: "array",
      parameter: {
        brief: "config file, source or project, or with --image a command; then its own arguments",
        parse: String,
        placeholder: "program",
      },
    },
  },
  async func(this: WithProgram, flags: RunFlags, ...words: string[]) {
    const { source, args } = targetOf(words, this.dashes, flags);
    exitWith(this, await runProgram(source, args, flags));
  },
});
