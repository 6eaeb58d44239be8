/**
 * What `cloudlet help` tells besides the commands.
 *
 * @module
 */
import { DEFAULT_SUITE, joinLanguage, LANGUAGE_VERSIONS } from "../builder/image/versions.ts";
import { languages } from "../workload/languages.ts";
import { configText } from "./config_keys.ts";
import { EXIT, RUN_EXIT } from "./context.ts";
import { KEY_VARIABLE } from "./server_address.ts";

/** A topic. */
export interface HelpTopic {
  /** What it is about, in a line. */
  readonly brief: string;
  /** All of it, without a line feed at the end. */
  readonly text: () => string;
}

/** Rows in two columns. */
function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join("\n");
}

const VARIABLES: readonly (readonly [name: string, what: string])[] = [
  [KEY_VARIABLE, "the API key for a server"],
  ["CLOUDLET_DEBIAN_MIRROR", "a Debian mirror, in place of the settings' and the host's own"],
  ["CLOUDLET_CACHE_SIZE", "how much the cache may take, such as 20G"],
  ["XDG_CACHE_HOME", "where what can be made again is kept; ~/.cache"],
  ["XDG_CONFIG_HOME", "where cloudlet/config.toml has the settings; ~/.config"],
  ["XDG_STATE_HOME", "where a server keeps its runs; ~/.local/state"],
  ["XDG_RUNTIME_DIR", "where sockets are; a private directory in TMPDIR"],
  ["TMPDIR", "for what is temporary; /tmp"],
  ["DOCKER_CONFIG", "where docker's config.json has the logins of registries; ~/.docker"],
  ["https_proxy", "a proxy for registries and mirrors; http_proxy, all_proxy, no_proxy as well"],
  ["NO_COLOR", "no colours in the output"],
];

function versions(): string {
  return columns(
    Object.entries(LANGUAGE_VERSIONS).map(([language, versions]) => {
      const names = versions.map(({ version }) => joinLanguage(language, version));
      const files = languages[language as keyof typeof languages].extensions.join(" ");
      return [
        language,
        `${files.padEnd(16)} ${names.join(", ") || "the version of cloudlet's own"}`,
      ];
    }),
  );
}

/** Each topic by its name. */
export const HELP_TOPICS: Readonly<Record<string, HelpTopic>> = {
  config: {
    brief: "the config file of a program",
    text: () =>
      `\`cloudlet run config.toml\` runs what the file says; \`cloudlet init\` writes one. Flags on the
command line override it. All keys are optional, but for a source or an image; paths start from the
file's directory.

${configText({}).replaceAll(/^# /gm, "  ").replaceAll(/^\[/gm, "  [").trimEnd()}`,
  },
  environment: {
    brief: "variables of cloudlet itself",
    text: () =>
      `${columns(VARIABLES)}

A program sees none of these. It gets variables with --env, --env-file and [run] env.`,
  },
  "exit-codes": {
    brief: "what a command ends with",
    text: () =>
      `\`run\`, \`fork\` and \`boot --exec\` end with the program's exit code, or 128 plus the signal that
ended it. Their own failures are those of docker run:

${
        columns([
          [`${RUN_EXIT.failure}`, "cloudlet failed, or the command line or the config is wrong"],
          [`${RUN_EXIT.cannotRun}`, "what was named cannot be run, or does not compile"],
          [`${RUN_EXIT.notFound}`, "what was named is not there"],
          ["137", "the program was killed: at its time limit, or out of memory"],
        ])
      }

Every other command:

${
        columns([
          [`${EXIT.failure}`, "something failed"],
          [`${EXIT.usage}`, "the command line is wrong"],
        ])
      }

Of all of them, 130 is Ctrl-C, and 141 a reader of the output that has gone, as in
\`cloudlet ps | head -1\`.`,
  },
  files: {
    brief: "what is sent into a microVM, and what comes back",
    text: () =>
      `A directory is sent as it is, without version control, caches and what its .cloudletignore names.
A file comes with the project around it: the nearest directory with a mark of its language, such as
pyproject.toml or package.json, or its own directory where that is small. --alone sends the file
only. --dry-run tells what would be sent.

${
        columns([
          ["--file SRC:DST", "sends a file or a directory of this host besides"],
          ["--output PATH[:DST]", "writes what the program made to this host, when it has ended"],
        ])
      }

PATH and DST of --file are relative to where the program runs.`,
  },
  images: {
    brief: "running in an OCI image",
    text: () =>
      `  cloudlet run --image alpine:3 cat /etc/os-release   a command of the image
  cloudlet run --image python:3-slim hello.py         a source, in the image
  cloudlet run --image x -- ./tool.py                 \`--\` before it: a command, whatever its name
  cloudlet run --image x project -- --verbose         \`--\` after it: a source

oci:DIR and docker-archive:FILE are images on the disk. A registry is asked once for a tag, and
again with --pull.`,
  },
  languages: {
    brief: "languages and their versions",
    text: () =>
      `${versions()}

The first version is that of Debian ${DEFAULT_SUITE}, the default. Name another one with --language or in
the config. A part of a version will do: python@3.`,
  },
};
