/**
 * What `cloudlet run` would run: `--dry-run`.
 *
 * @module
 */
import type { ServerAddress } from "../api/library/options.ts";
import { type RunOptions, toRequest } from "../api/library/run.ts";
import { messageOf } from "../base/errors.ts";
import { loadSettings } from "../base/settings.ts";
import { imageDeclaration } from "../builder/image/declarations.ts";
import { findImage } from "../builder/image/image.ts";
import { DEFAULT_SUITE, joinLanguage } from "../builder/image/versions.ts";
import { dependencyStore } from "../builder/layers.ts";
import { findKernel } from "../builder/kernel/kernel.ts";
import { findUnpackedKernel } from "../builder/kernel/packaged.ts";
import { hostLimits } from "../service/host_limits.ts";
import { namedDependencies } from "../service/dependencies.ts";
import { OWN_NETWORK } from "../service/network.ts";
import { type Workload, workloadOf } from "../service/workload.ts";
import { defaultKernel } from "../vmm/host_traits.ts";
import { COMMAND } from "../workload/languages.ts";
import { formatBytes } from "./progress.ts";
import { formatTable } from "./table.ts";

/** What a service would be asked for. */
type RunVmmRequest = Awaited<ReturnType<typeof toRequest>>["request"];

/** A file that would be sent. */
interface PlannedFile {
  readonly path: string;
  /** Bytes; of a link or a directory, 0. */
  readonly bytes: number;
}

/** What would be run. */
export interface Plan {
  /** Where: `this host`, or a server. */
  readonly where: string;
  readonly action: string;
  readonly language: string;
  readonly image: string;
  readonly kernel: string;
  /** MiB; null where the server decides. */
  readonly memory: number | null;
  readonly vcpus: number;
  /** What the project names, and whether it is installed; null where nothing is to be. */
  readonly packages: {
    readonly installer: string;
    readonly names: readonly string[];
    /** Null where only the server knows. */
    readonly installed: boolean | null;
  } | null;
  /** The file that is run, where it is named or known. */
  readonly entry: string | null;
  readonly args: readonly string[];
  /** Names of the program's variables; their values may be secrets. */
  readonly env: readonly string[];
  readonly files: readonly PlannedFile[];
  /** Of all files. */
  readonly bytes: number;
  readonly outputs: readonly string[];
}

/**
 * Finds out what would be run. Nothing is fetched, built or started.
 *
 * @throws {CloudletError} what the run itself would be refused for
 */
export async function planOf(options: RunOptions): Promise<Plan> {
  const { request } = await toRequest(options);
  const { limits } = hostLimits();
  // A server has limits of its own, which are not known here.
  const workload = workloadOf(request, {
    ...(options.server === undefined ? limits : { ...limits, minMemory: 0, maxVcpus: 255 }),
    localImages: options.server === undefined,
    network: OWN_NETWORK,
  });
  const sent = request.options?.files ?? [];
  const code = new TextEncoder().encode(request.code).length;
  const files = sent.map(({ path, content, directory }) => ({
    path: directory ? `${path}/` : path,
    bytes: content.length,
  }));
  const { server, outputs = [] } = options;
  return {
    where: server === undefined ? "this host" : server.url,
    action: workload.action,
    language: languageText(request, workload),
    image: await imageText(request, workload, server),
    kernel: server === undefined
      ? await kernelText(options.kernel, workload.vcpus)
      : "the server's",
    memory: request.memoryMib > 0 || server === undefined ? workload.memory : null,
    vcpus: workload.vcpus,
    packages: await packagesOf(workload, server),
    entry: request.options?.entryPoint || null,
    args: request.options?.args ?? [],
    env: Object.keys(request.options?.env ?? {}),
    files,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, code),
    outputs,
  };
}

function languageText({ languageVersion }: RunVmmRequest, { language }: Workload): string {
  if (language === COMMAND) return "none: a command of the image";
  return joinLanguage(language, languageVersion || undefined);
}

/** The root file system, and whether it is there already. */
async function imageText(
  request: RunVmmRequest,
  { language, image, packages }: Workload,
  server: ServerAddress | undefined,
): Promise<string> {
  const added = [
    ...(packages.length > 0 ? [`with ${packages.join(", ")}`] : []),
    ...(image?.files.length ? [`${image.files.length} files added`] : []),
    ...(image?.run.length ? [`${image.run.length} commands run in it`] : []),
  ].map((text) => `; ${text}`).join("");
  if (image?.from !== undefined) return `${image.from}${added}`;
  const name = joinLanguage(language, request.languageVersion || undefined);
  const suite = (await loadSettings()).debian.suite ?? DEFAULT_SUITE;
  const declaration = imageDeclaration(name, packages, suite);
  const text = `${name}, Debian ${declaration.suite}${added}`;
  if (server !== undefined || image?.files.length || image?.run.length) return text;
  const there = await findImage(declaration) !== undefined;
  return `${text}; ${there ? "in the cache" : "is built first"}`;
}

/** What is to be installed, and whether it is. */
async function packagesOf(
  workload: Workload,
  server: ServerAddress | undefined,
): Promise<Plan["packages"]> {
  const found = workload.build.install ? await namedDependencies(workload) : undefined;
  if (found === undefined) return null;
  const { installer, names, key } = found;
  const installed = server === undefined ? await dependencyStore().get(key) !== undefined : null;
  return { installer, names, installed };
}

function packagesText({ installer, names, installed }: NonNullable<Plan["packages"]>): string {
  const state = installed === null
    ? ""
    : installed
    ? "; installed"
    : `; ${installer} installs them, with --build-network`;
  const list = names.slice(0, LISTED).map(shown).join(", ");
  return `${list}${names.length > LISTED ? ` and ${names.length - LISTED} more` : ""}${state}`;
}

/** What the guest boots, and whether it is there already. */
async function kernelText(asked: string | undefined, vcpus: number): Promise<string> {
  let kernel: string;
  try {
    kernel = asked ?? defaultKernel();
  } catch (error) {
    return `not known: ${messageOf(error)}`;
  }
  if (kernel !== "debian" && kernel !== "built") return kernel;
  const found =
    await (kernel === "debian" ? findUnpackedKernel() : findKernel(vcpus > 1 ? "smp" : "up"));
  return `${kernel}, ${found === undefined ? "is made first" : `${found.version}, in the cache`}`;
}

/** Files that are listed; the others are counted. */
const LISTED = 20;

/** A plan for people; ends with a line feed. */
export async function planText(plan: Plan): Promise<string> {
  const { files, args, env, outputs, memory } = plan;
  const rows: (readonly [string, string])[] = [
    ["where", plan.where],
    ["action", plan.action],
    ["language", plan.language],
    ["image", plan.image],
    ["kernel", plan.kernel],
    ["memory", memory === null ? "the server's default" : `${memory} MiB`],
    ["vcpus", String(plan.vcpus)],
    ...(plan.packages === null ? [] : [["packages", packagesText(plan.packages)] as const]),
    ...(plan.entry === null ? [] : [["program", plan.entry] as const]),
    ...(args.length === 0 ? [] : [["arguments", args.map(shown).join(" ")] as const]),
    ...(env.length === 0 ? [] : [["variables", env.map(shown).join(" ")] as const]),
    ...(outputs.length === 0 ? [] : [["outputs", outputs.map(shown).join(" ")] as const]),
    [
      "sent",
      `${files.length} ${files.length === 1 ? "file" : "files"}, ${formatBytes(plan.bytes)}`,
    ],
    ...files.slice(0, LISTED).map(({ path, bytes }) =>
      ["", `${shown(path)}  ${formatBytes(bytes)}`] as const
    ),
    ...(files.length > LISTED ? [["", `and ${files.length - LISTED} more`] as const] : []),
  ];
  const text = await formatTable([], rows);
  return text.split("\n").map((line) => `${line.trimEnd()}\n`).join("");
}

/** A word as a shell would need it, with no control character. */
function shown(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word);
}
