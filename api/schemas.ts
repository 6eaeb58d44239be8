/**
 * What is said over HTTP, as schemas: they check requests and describe the API.
 *
 * @module
 */
import { ACCESS } from "../workload/network_access.ts";
import { z } from "zod";
import { RUN_NAME, RUN_NAME_RULE } from "../base/run_names.ts";
import { joinLanguage, splitLanguage } from "../builder/image/versions.ts";
import { COMMAND, languages } from "../workload/languages.ts";

/** Takes an enumeration as any client writes it: `Python`, `PREPARE_AND_RUN`, `prepareAndRun`. */
function relaxed<const T extends readonly [string, ...string[]]>(names: T) {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
  return z.preprocess(
    (value) =>
      typeof value === "string"
        ? names.find((name) => plain(name) === plain(value)) ?? value
        : value ?? undefined,
    z.enum(names),
  );
}

const languageNames = Object.keys(languages) as [string, ...string[]];
const LANGUAGE = relaxed([...languageNames, COMMAND]);
/** `LANGUAGE` or `LANGUAGE@VERSION`; whether a version is one, the service knows. */
const language = z.unknown().transform((value, context): string => {
  const { name, version } = typeof value === "string"
    ? splitLanguage(value)
    : { name: value, version: undefined };
  const known = LANGUAGE.safeParse(name);
  if (known.success) return joinLanguage(known.data, version);
  context.addIssue({ code: "invalid_value", values: [...languageNames, COMMAND], input: value });
  return z.NEVER;
}).meta({
  type: "string",
  pattern: `^(${[...languageNames, COMMAND].join("|")})(@[0-9A-Za-z.-]+)?$`,
});
const optional = <T extends z.ZodType>(schema: T) =>
  schema.nullish().transform((v) => v ?? undefined);
const runId = z.string().regex(/^[A-Za-z0-9._-]{1,128}$/, "must be 1 to 128 of [A-Za-z0-9._-]");
const runName = z.string().regex(RUN_NAME, `must be ${RUN_NAME_RULE}`);
const logLevel = optional(relaxed(["debug", "info", "warn", "error"]))
  .describe("How much of what the service does becomes events of the stage Debug");
const noNul = z.string().refine((text) => !text.includes("\0"), "must not have a NUL byte in it");

const base64 = z.base64().transform((text) => Uint8Array.fromBase64(text));

const file = z.strictObject({
  path: noNul.min(1).describe("Relative to the workload's directory"),
  content: optional(z.string()).describe("The content as text"),
  content_base64: optional(base64).describe("The content as bytes, in place of `content`"),
  mode: optional(z.int().min(0).max(0o777)).describe("Permission bits of a file, as a number"),
  target: optional(noNul.min(1)).describe("Makes it a symbolic link, which leads there"),
  directory: optional(z.literal(true)).describe("Makes it a directory, which may be empty"),
}).refine(
  ({ content, content_base64, target, directory }) =>
    [content, content_base64, target, directory].filter((value) => value !== undefined)
      .length === 1,
  "must have one of content, content_base64, target and directory",
).refine(
  ({ mode, target, directory }) =>
    mode === undefined || target === undefined && directory === undefined,
  "must not have a mode, unless it is a file",
);

const image = z.strictObject({
  from: optional(z.string()).describe("An OCI image of a registry; the language's own when absent"),
  pull: optional(z.boolean()).describe("Ask the registry what the tag means now"),
  insecure: optional(z.boolean()).describe(
    "The registry may speak http; refused unless the server's operator allows it",
  ),
  files: optional(z.array(file)).describe("Files to add; paths are relative to the root"),
  run: optional(z.array(noNul)).describe("Shell commands whose changes belong to the image"),
});

const network = z.strictObject({
  access: optional(relaxed(ACCESS)).describe(
    "What holds where no rule matches; `listed` where something is allowed, otherwise `none`",
  ),
  allow: optional(z.array(z.string()).max(1000)).describe(
    "What may be reached: HOST[:PORT][/udp]; HOST is a name, *.NAME, an IPv4 address or ADDRESS/BITS",
  ),
  deny: optional(z.array(z.string()).max(1000)).describe("What may not; it wins over `allow`"),
  publish: optional(z.array(z.string()).max(64)).describe(
    "Ports of the server's host that lead into the guest: [ADDRESS:]PORT:GUEST_PORT",
  ),
  bandwidth: optional(z.string()).describe("How much it may send and get a second: 10Mbit"),
  secrets: optional(z.record(
    noNul,
    z.strictObject({ value: z.string(), hosts: z.array(z.string()).max(64) }),
  )).describe(
    "Values that the program never has, by the variable with its placeholder, which is replaced in " +
      "requests to the hosts over TLS",
  ),
});

/** Without the fields that are absent. */
type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function present<T extends object>(object: T): Present<T> {
  return Object.fromEntries(
    Object.entries(object).filter(([, value]) => value !== undefined),
  ) as Present<T>;
}

const variables = z.record(noNul.regex(/^[^=]+$/, "is no name of a variable"), noNul);

/** Body of POST /run: the fields of virt-do/cloudlet first, then ours. */
export const runRequest = z.strictObject({
  workload_name: optional(z.string().max(200)).describe("A name for people"),
  language: language.describe(
    "What the workload is written in, with a version as in `python@3.11` or without one; `command` " +
      "for a command of an image, which `args` are, or follow",
  ),
  code: optional(z.string()).describe("The source of a workload of one file"),
  log_level: logLevel,
  action: optional(relaxed(["prepare", "run", "prepare-and-run"])).describe(
    "What to do. `prepare` builds the workload and keeps it; `run` uses what was kept of the same " +
      "files, or of the same name when there are none, and builds files that were not prepared",
  ),
  server: z.unknown().optional().describe("What the client's config says; not used"),
  build: optional(z.strictObject({
    source_code_path: optional(z.string()).describe("Of the client's file; not read here"),
    "source-code-path": optional(z.string()),
    release: optional(z.boolean()).describe("Build with optimisation"),
    env: optional(variables).describe("Variables added to the environment of building"),
    network: optional(z.union([
      z.enum(["none", "public"]),
      z.array(z.string()).max(1000),
      network.omit({ publish: true }).transform(present),
    ])).describe(
      "What installing the project's packages may reach: the internet, a list of HOST[:PORT], or rules in " +
        "full; no more than the server allows (`serve --network`)",
    ),
    install: optional(z.boolean()).describe("False runs the project without its packages"),
    groups: optional(z.array(z.string()).max(64))
      .describe("Dependency groups of pyproject.toml that are installed as well"),
  })),
  id: optional(runId).describe("Id of the run; made up when absent"),
  run_name: optional(runName).describe("A name that no other run under way has"),
  args: optional(z.array(noNul)).describe("Arguments of the program"),
  env: optional(variables).describe("Variables added to the program's environment"),
  stdin: optional(z.string()).describe("Standard input as text"),
  stdin_base64: optional(base64).describe("Standard input as bytes, in place of `stdin`"),
  timeout: optional(z.number().positive().max(2 ** 31 / 1000 - 1))
    .describe("Seconds after which the program is killed"),
  memory: optional(z.int().positive().max(2 ** 31)).describe("Memory of the microVM in MiB"),
  vcpus: optional(z.int().positive().max(255)).describe("Virtual CPUs of the microVM"),
  files: optional(z.array(file).refine(({ length }) => length > 0, "must have at least one file"))
    .describe("A project's files, in place of `code`"),
  entry_point: optional(noNul).describe("The file of the project that is run"),
  packages: optional(z.array(z.string())).describe("Debian packages added to the image"),
  image: optional(z.union([z.string(), image])).describe(
    "The root file system: an OCI image as docker users write it, or more; the language's own when absent",
  ),
  network: optional(network.transform(present)).describe(
    "What the program may reach and what reaches it; nothing when absent, and no more than the server " +
      "allows (`serve --network`)",
  ),
  cold: optional(z.boolean())
    .describe("Start a new interpreter in place of the idle one of the snapshot"),
  output: optional(z.enum(["text", "base64"]))
    .describe("Whether events carry output as text, or as bytes in base64"),
}).refine(
  ({ code, files, action, language }) =>
    language === COMMAND && code === undefined && files === undefined ||
    action === "run" && code === undefined && files === undefined ||
    (code === undefined) !== (files === undefined),
  "must have one of code and files, or the action run and a prepared workload's name",
).refine(
  ({ stdin, stdin_base64 }) => stdin === undefined || stdin_base64 === undefined,
  "must not have both stdin and stdin_base64",
);

/** A checked body of POST /run. */
export type RunRequest = z.output<typeof runRequest>;

/** Body of POST /runs/{id}/fork. */
export const forkRequest = z.strictObject({
  id: optional(runId).describe("Id of the copy; made up when absent"),
  log_level: logLevel,
});

/** Stages as the events name them, by their number in the proto. */
export const STAGES = ["Pending", "Building", "Running", "Done", "Failed", "Debug"] as const;

const nullable = <T extends z.ZodType>(schema: T) => schema.nullable();

/** The data of one server-sent event of POST /run. */
export const runEvent = z.object({
  stage: z.enum(STAGES),
  stdout: nullable(z.string()),
  stderr: nullable(z.string()),
  exit_code: nullable(z.int()),
  id: z.string().optional().describe("Id of the run, in the first event"),
  stdout_base64: z.string().optional(),
  stderr_base64: z.string().optional(),
  outcome: z.string().optional().describe("How it ended, in the last event"),
  message: z.string().optional().describe("The same in words"),
  usage: z.object({
    wall_ms: z.number(),
    user_ms: z.number(),
    system_ms: z.number(),
    peak_memory_bytes: z.number(),
  }).optional(),
  network: z.object({
    kind: z.enum(["denied", "published", "unanswered", "secret"]),
    message: z.string().optional(),
    asked: z.enum(["tcp", "udp", "name", "server-name"]).optional(),
    name: z.string().optional(),
    address: z.string().optional(),
    port: z.int().optional(),
    rule: z.string().optional().describe("The rule that denied it; absent when none matched"),
    floor: z.boolean().optional()
      .describe("Whether only a rule for just this address allows it"),
    guest_port: z.int().optional(),
  }).optional().describe("What happened in the program's network that its user may want to know"),
  problem: z.unknown().optional().describe("What went wrong, when the service or the VM failed"),
}).describe("An event");
/** The data of one server-sent event of POST /run. */
export type RunEventBody = z.output<typeof runEvent>;

const time = z.iso.datetime();

/** A run, as GET /runs tells it. */
export const runInfo = z.object({
  id: z.string(),
  run_name: nullable(z.string()),
  workload_name: z.string(),
  language: z.string(),
  action: z.string(),
  state: z.enum(["pending", "building", "running", "done", "failed"]),
  outcome: nullable(z.string()),
  exit_code: nullable(z.int()),
  message: nullable(z.string()),
  memory: z.int().describe("MiB"),
  vcpus: z.int(),
  created_at: time,
  started_at: nullable(time),
  ended_at: nullable(time),
});
/** A run, as GET /runs tells it. */
export type RunInfo = z.output<typeof runInfo>;

/** Some of the runs: those under way first, then the others, the newest first. */
export const runPage = z.object({
  runs: z.array(runInfo),
  next: nullable(z.string()).describe("For `after`, to get the next page; null after the last one"),
});
/** Some of the runs. */
export type RunPageBody = z.output<typeof runPage>;

/** A run's figures, as GET /metrics/{id} tells them. */
export const runMetrics = z.object({
  id: z.string(),
  state: z.string(),
  outcome: nullable(z.string()),
  start_ms: nullable(z.number()).describe("From the request to the microVM's being ready"),
  total_ms: nullable(z.number()).describe("From the request to the end, or to now"),
  wall_ms: nullable(z.number()).describe("How long the program ran"),
  user_ms: nullable(z.number()),
  system_ms: nullable(z.number()),
  peak_memory_bytes: nullable(z.number()),
  stdout_bytes: z.number(),
  stderr_bytes: z.number(),
});

/** A piece of a run's output. */
export const logEntry = z.object({
  time,
  stream: z.enum(["stdout", "stderr", "service"]),
  text: z.string().optional().describe("The data, when it is UTF-8"),
  base64: z.string().optional().describe("The data, when it is not"),
});
/** A piece of a run's output. */
export type LogEntryBody = z.output<typeof logEntry>;

/** A run's output, as GET /logs/{id} tells it. */
export const runLogs = z.object({
  id: z.string(),
  truncated: z.boolean().describe("Whether there was more output than is kept"),
  entries: z.array(logEntry),
});

/** The data of the last server-sent event of GET /logs/{id}. */
export const logEnd = z.object({ truncated: z.boolean(), run: runInfo });
/** The data of the last server-sent event of GET /logs/{id}. */
export type LogEndBody = z.output<typeof logEnd>;

/** Query of GET /runs. */
export const runsQuery = z.strictObject({
  state: z.enum(["pending", "building", "running", "done", "failed"]).optional(),
  name: runName.optional().describe("Only runs with this name"),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  before: z.iso.datetime({ offset: true }).optional().describe("Only runs older than this"),
  after: z.string().max(100).optional()
    .describe("Goes on after the page that had this as its `next`"),
});

/** Query of GET /logs/{id}. */
export const logsQuery = z.strictObject({
  stream: z.enum(["stdout", "stderr", "service"]).optional(),
  follow: z.stringbool().default(false)
    .describe("Whether to go on until the run ends, as server-sent events or as bytes"),
});
