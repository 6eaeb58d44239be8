/**
 * The packages that a workload's manifests name: whether they may be installed, and installing them, in a
 * microVM of their own, from which only they are kept.
 *
 * @module
 */
import { create } from "@bufbuild/protobuf";
import { CloudletError } from "../base/errors.ts";
import { cacheKey, filesKey, sha256 } from "../base/store.ts";
import { PLAIN_IMAGE } from "../node/boot_parts.ts";
import type { MachineImage, MachineRequest, Node } from "../node/node.ts";
import {
  type ExecuteRequest,
  ExecuteRequest_Action as Action,
  ExecuteRequestSchema,
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Dependencies } from "../workload/dependencies/dependencies.ts";
import { findDependencies } from "../workload/dependencies/find.ts";
import { type Installer, INSTALLERS } from "../workload/dependencies/installers.ts";
import { DEPENDENCIES } from "../workload/dependencies/paths.ts";
import { TRUST_VARIABLES } from "../workload/trusted_certificates.ts";
import { COMMAND } from "../workload/languages.ts";
import type { RunNetworkRequest } from "./network.ts";
import { response } from "./responses.ts";
import { secretOptions } from "./secrets.ts";
import type { Workload } from "./workload.ts";

/** MiB of a machine that installs, if the program's has not more: what it installs is in memory. */
const MEMORY = 2048;
/** Milliseconds that installing may take. */
const TIME = 3_600_000;
/** Names of packages that an error has. */
const MOST_NAMES = 8;
/** To be raised when the same files would be installed otherwise. */
const FORMAT = 1;

/** Packages to be installed, and with what network. */
export interface WantedDependencies extends Dependencies {
  readonly network: RunNetworkRequest;
  /** Names what is installed: the same for all that want the same. */
  readonly key: string;
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, MOST_NAMES).join(", ");
  return names.length > MOST_NAMES ? `${shown} and ${names.length - MOST_NAMES} more` : shown;
}

/** What a workload names, with the key of what is installed for it; undefined for nothing. */
export async function namedDependencies(
  workload: Workload,
): Promise<Dependencies & { readonly key: string } | undefined> {
  const { language, execute, build: { groups } } = workload;
  const found = await findDependencies({
    ...{ language, groups, code: execute.code },
    files: execute.options?.files ?? [],
    entryPoint: execute.options?.entryPoint || undefined,
  });
  return found && { ...found, key: keyOf(workload, found) };
}

/**
 * What a workload needs to be installed.
 *
 * @param node knows what is installed already, for which no network is needed
 * @throws {CloudletError} `denied` when it may not be installed, `invalid-input` for a manifest that cannot
 *   be read
 */
export async function wantedDependencies(
  workload: Workload,
  node: Pick<Node, "hasDependencies">,
): Promise<WantedDependencies | undefined> {
  const { language, build: { network } } = workload;
  const found = await namedDependencies(workload);
  if (found === undefined) return undefined;
  const { key } = found;
  if (network?.policy !== undefined) return { ...found, network };
  if (await node.hasDependencies(key)) {
    return { ...found, network: { policy: undefined, publish: [] } };
  }
  // Deno fetches what it imports when it runs, if it may.
  if (language === "deno" && workload.network?.policy !== undefined) return undefined;
  throw new CloudletError(
    `Cannot run the program: ${found.manifest} names packages that are not installed ` +
      `(${listed(found.names)}), and nothing may be fetched`,
    {
      code: "denied",
      remedy:
        "let them be installed in a microVM: --build-network public, or --build-network HOST " +
        "for each registry; --no-install runs it without them",
    },
  );
}

/**
 * Of all that decides what is installed, and of whatever a client may have done about it: one that names a
 * registry of its own, or has a key to one, shares nothing with those that do not.
 */
function keyOf(
  { language, image, packages, execute, build }: Workload,
  found: Dependencies,
): string {
  return cacheKey({
    format: FORMAT,
    language,
    root: {
      version: image?.version ?? "",
      from: image?.from ?? "",
      packages,
      run: image?.run ?? [],
      files: filesKey(image?.files ?? []),
    },
    ...{ installer: found.installer, args: found.args, files: filesKey(found.files) },
    script: INSTALLERS[found.installer].script,
    env: { ...execute.options?.buildEnv },
    secrets: (build.network?.secrets ?? []).map(({ name, value, hosts }) => [
      ...[name, sha256(value), JSON.stringify(hosts)],
    ]),
  });
}

/** The machine in which they are installed. */
export function installingMachine(
  { id, language, memory, vcpus, packages, image }: Workload,
  { installer }: WantedDependencies,
  most: number,
): MachineRequest {
  // An image of another distribution has to have the tools itself.
  const tools = image?.from === undefined ? INSTALLERS[installer].packages : [];
  return {
    ...{ id: `${id}-packages`, language, vcpus, image },
    memory: Math.max(memory, Math.min(MEMORY, most)),
    packages: [...new Set([...packages, ...tools])],
    idle: false,
  };
}

/** The root file system with what was installed. */
export function imageWith(image: MachineImage | undefined, key: string): MachineImage {
  return { ...PLAIN_IMAGE, ...image, dependencies: key };
}

/** What the agent of that machine is asked. */
export function installation(
  { id, execute }: Workload,
  { installer, files, args, network }: WantedDependencies,
): ExecuteRequest {
  const { script, environment }: Installer = INSTALLERS[installer];
  const own = { ...TRUST_VARIABLES, ...environment };
  const { env } = secretOptions(network, COMMAND, { env: own, cold: true });
  const whole = `set -e\nmkdir -p ${DEPENDENCIES}\n${script}`;
  return create(ExecuteRequestSchema, {
    workloadName: "packages",
    language: COMMAND,
    action: Action.PREPARE_AND_RUN,
    options: {
      executionId: id,
      args: ["/bin/sh", "-c", whole, "sh", ...args],
      env: { ...env, ...withPlaceholders(execute.options?.buildEnv ?? {}, network) },
      files: [...files],
      timeout: { seconds: BigInt(TIME / 1000), nanos: 0 },
      rawOutput: execute.options?.rawOutput ?? false,
    },
  });
}

/** Variables in whose values `${NAME}` stands for the placeholder of a secret. */
function withPlaceholders(
  variables: Readonly<Record<string, string>>,
  { secrets = [] }: RunNetworkRequest,
): Record<string, string> {
  const put = (text: string) =>
    secrets.reduce(
      (all, { name, placeholder }) => all.replaceAll(`\${${name}}`, placeholder),
      text,
    );
  return Object.fromEntries(Object.entries(variables).map(([name, text]) => [name, put(text)]));
}

/** What it says, as the stage of the run that it is; its end is the run's when nothing was installed. */
export async function* asBuilding(
  responses: AsyncIterable<ExecuteResponse>,
  installer: string,
): AsyncGenerator<ExecuteResponse> {
  for await (const event of responses) {
    const { stage, outcome, exitCode } = event;
    if (stage === Stage.RUNNING) yield asTold(event);
    else if (stage === Stage.DONE && exitCode !== 0 || outcome?.kind === Kind.SIGNALED) {
      const message = outcome?.kind === Kind.SIGNALED
        ? `${installer} was ended by signal ${outcome.signal}`
        : `${installer} ended with exit code ${exitCode}`;
      const kind = Kind.BUILD_FAILED;
      yield response({ stage: Stage.FAILED, exitCode, outcome: { kind, message } });
    } else yield event;
  }
}

/** Nothing of it is the program's output, which others may read. */
function asTold(event: ExecuteResponse): ExecuteResponse {
  const { stdout, stdoutBytes, stderr = stdout, stderrBytes = stdoutBytes, ...rest } = event;
  return {
    ...rest,
    stage: Stage.BUILDING,
    ...(stderr !== undefined && { stderr }),
    ...(stderrBytes !== undefined && { stderrBytes }),
  };
}

/** Whether the last word is that everything is installed. */
export function isInstalled({ stage, exitCode }: ExecuteResponse): boolean {
  return stage === Stage.DONE && exitCode === 0;
}
