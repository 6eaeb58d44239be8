/**
 * `cloudlet serve` and `cloudlet key`
 *
 * @module
 */
import { ACCESS, type AccessName } from "../workload/network_access.ts";
import { buildCommand } from "@stricli/core";
import { Keys, newKey } from "../api/http/keys.ts";
import { parseBandwidth } from "../api/network.ts";
import type { Address, Service } from "../api/http/serve.ts";
import { joinLanguage, languageVersion } from "../builder/image/versions.ts";
import { languageNamed } from "../workload/languages.ts";
import { isRegistryHost } from "../base/addresses.ts";
import { stateDir } from "../base/dirs.ts";
import { CloudletError } from "../base/errors.ts";
import { takeSignals } from "../base/signals.ts";
import deno from "../deno.json" with { type: "json" };
import { hostLimits } from "../service/host_limits.ts";
import { sweepScratch } from "../node/scratch.ts";
import { say, writeLine } from "./output.ts";
import { LineProgress } from "./progress.ts";
import { parseCount, parseDuration, parseMemory } from "./units.ts";
import { lazyImport } from "../base/lazy_import.ts";

/** Milliseconds that ending the microVMs and closing the servers may take after the grace period. */
const CLEANUP = 10_000;

interface ServeFlags {
  readonly api: Address;
  readonly vmm: Address;
  readonly state?: string;
  readonly keys?: string;
  readonly maxVms?: number;
  readonly maxMemory?: number;
  readonly maxQueue?: number;
  readonly maxWait?: number;
  readonly maxTime?: number;
  readonly maxBody: number;
  readonly memory?: number;
  readonly grace: number;
  readonly ready: number;
  readonly warm?: readonly Warm[];
  readonly allowRegistry?: readonly string[];
  readonly network: AccessName;
  readonly networkPrivate: boolean;
  /** Bytes a second of one program. */
  readonly networkBandwidth?: number;
}

/** Prewarmed VMs of a language. */
interface Warm {
  readonly language: string;
  /** Undefined for the default. */
  readonly version: string | undefined;
  readonly count: number;
}

/** Reads `LANGUAGE[@VERSION]=COUNT`. */
export function parseWarm(text: string): Warm {
  const match = /^([a-z]+)(?:@([\w.-]+))?=(\d{1,3})$/.exec(text);
  if (match === null) {
    throw new CloudletError(`Cannot read ${JSON.stringify(text)} as prewarmed VMs`, {
      code: "invalid-input",
      remedy: "write LANGUAGE=COUNT or LANGUAGE@VERSION=COUNT, such as python=2",
    });
  }
  return {
    language: languageNamed(match[1]!).name,
    version: match[2] === undefined ? undefined : languageVersion(match[1]!, match[2]).version,
    count: Number(match[3]),
  };
}

/** Reads `HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `PORT`. */
export function parseAddress(text: string): Address {
  const match = /^(?:(\[[0-9a-f:.]+\]|[^:[\]]*):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65535) {
    throw new CloudletError(`Cannot read the address ${JSON.stringify(text)}`, {
      code: "invalid-input",
      remedy: "write HOST:PORT, such as localhost:3000",
    });
  }
  return { hostname: (match[1] || "localhost").replace(/^\[|\]$/g, ""), port };
}

/** Builds and snapshots that go on though nobody waits for them any more. */
const ABANDONED_BUILDS = 2;

/** Reads `HOST[:PORT]`, as in the name of an image. */
function parseRegistry(text: string): string {
  if (isRegistryHost(text)) return text;
  throw new CloudletError(`Cannot read ${JSON.stringify(text)} as a registry`, {
    code: "invalid-input",
    remedy: "write HOST or HOST:PORT, as in the name of an image",
  });
}

/** Serves until a signal ends it. */
async function serve(flags: ServeFlags): Promise<void> {
  // Not loaded before they are needed: every other command starts without them.
  const { startService } = await lazyImport<typeof import("../api/http/serve.ts")>(
    "../api/http/serve.ts",
    import.meta.url,
  );
  const { microVms } = await lazyImport<typeof import("../node/microvms.ts")>(
    "../node/microvms.ts",
    import.meta.url,
  );
  const { LocalNode } = await lazyImport<typeof import("../node/local_node.ts")>(
    "../node/local_node.ts",
    import.meta.url,
  );
  const { PreparedWorkloads } = await lazyImport<typeof import("../service/prepared.ts")>(
    "../service/prepared.ts",
    import.meta.url,
  );
  const { SharedWork } = await lazyImport<typeof import("../base/shared_work.ts")>(
    "../base/shared_work.ts",
    import.meta.url,
  );
  using end = new End();
  sweepScratch();
  const host = hostLimits();
  const defaultMemory = flags.memory ?? host.limits.defaultMemory;
  const progress = new LineProgress();
  const { startUpkeep } = await lazyImport<typeof import("../base/cache/upkeep.ts")>(
    "../base/cache/upkeep.ts",
    import.meta.url,
  );
  await using _upkeep = startUpkeep((message) => progress.info(message));
  const { loadSettings } = await lazyImport<typeof import("../base/settings.ts")>(
    "../base/settings.ts",
    import.meta.url,
  );
  const { registryPolicy } = await lazyImport<typeof import("../builder/oci/policy.ts")>(
    "../builder/oci/policy.ts",
    import.meta.url,
  );
  const { imageOfVersion } = await lazyImport<typeof import("../service/workload.ts")>(
    "../service/workload.ts",
    import.meta.url,
  );
  const registries = registryPolicy((await loadSettings()).registry, flags.allowRegistry);
  const admission = {
    machines: flags.maxVms ?? host.admission.machines,
    memory: flags.maxMemory ?? host.admission.memory,
    queue: flags.maxQueue ?? host.admission.queue,
    wait: flags.maxWait ?? host.admission.wait,
  };
  // A client that gives up does not end the build that the next one needs.
  await using shared = new SharedWork({ abandoned: ABANDONED_BUILDS });
  const node = new LocalNode({
    machines: (pool) => microVms({ pool, shared, registries }),
    admission,
    prewarmed: (flags.warm ?? []).map(({ language, version, count }) => ({
      name: joinLanguage(language, version),
      language,
      image: version === undefined ? undefined : imageOfVersion(language, version),
      count,
      memory: defaultMemory,
    })),
    paused: { each: flags.ready, total: 2 * flags.ready },
    progress,
  });
  const service = await startService({
    node,
    api: flags.api,
    vmm: flags.vmm,
    stateDirectory: flags.state ?? stateDir(),
    prepared: new PreparedWorkloads(),
    ...(flags.keys !== undefined && { keys: await Keys.read(flags.keys) }),
    limits: {
      ...host.limits,
      maxTime: flags.maxTime ?? host.limits.maxTime,
      defaultMemory,
      network: {
        access: flags.network,
        floor: flags.networkPrivate ? "rules" : "always",
        bandwidth: flags.networkBandwidth,
      },
    },
    maxBody: flags.maxBody * 2 ** 20,
    version: deno.version,
    progress,
  });
  const url = ({ hostname, port }: Address) =>
    `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
  say(`HTTP API on ${url(service.api)}, its page on ${url(service.api)}/docs`);
  say(`VmmService on ${url(service.vmm)}`);
  await end.of(service, flags.grace);
}

/** What ends a server: the first signal in order, the second at once, the third with no more waiting. */
class End implements Disposable {
  readonly #asked = Promise.withResolvers<void>();
  readonly #signals: Disposable;
  #service: Service | undefined;
  #count = 0;

  constructor() {
    this.#signals = takeSignals((_signal, exitCode) => {
      this.#asked.resolve();
      if (++this.#count === 2) void this.#service?.orchestrator.stopAll("the service ends");
      if (this.#count > 2) Deno.exit(exitCode);
    });
  }

  /** Waits for a signal and ends the service. */
  async of(service: Service, grace: number): Promise<void> {
    this.#service = service;
    await this.#asked.promise;
    say(`Ending ${service.orchestrator.active.length} runs`);
    const { promise: late, resolve } = Promise.withResolvers<"late">();
    const timer = setTimeout(() => resolve("late"), grace + CLEANUP);
    const how = await Promise.race([service.close(grace), late]);
    clearTimeout(timer);
    // What still hangs, such as a write to a dead disk, must not keep the server from ending.
    if (how === "late") say("Not everything could be ended in time");
  }

  [Symbol.dispose](): void {
    this.#signals[Symbol.dispose]();
  }
}

/** The command `serve`. */
export const serveCommand = buildCommand({
  docs: {
    brief: "Serve the HTTP API and VmmService",
    fullDescription:
      "Without a file of keys only this host can use it. SIGTERM ends it: programs " +
      "get SIGTERM, and what still runs after the grace period is ended.",
  },
  parameters: {
    flags: {
      api: {
        kind: "parsed",
        parse: parseAddress,
        default: "localhost:3000",
        brief: "where the HTTP API listens",
      },
      vmm: {
        kind: "parsed",
        parse: parseAddress,
        default: "localhost:50051",
        brief: "where VmmService listens",
      },
      state: {
        kind: "parsed",
        parse: String,
        optional: true,
        placeholder: "directory",
        brief: "directory of the store",
      },
      keys: {
        kind: "parsed",
        parse: String,
        optional: true,
        placeholder: "file",
        brief: "file of API keys",
      },
      maxVms: {
        kind: "parsed",
        parse: (text: string) => parseCount(text),
        optional: true,
        brief: "most microVMs, prewarmed ones included",
      },
      maxMemory: {
        kind: "parsed",
        parse: parseMemory,
        optional: true,
        brief: "memory of all microVMs together, of those that wait as well: 16G",
      },
      maxQueue: {
        kind: "parsed",
        parse: (text: string) => parseCount(text),
        optional: true,
        brief: "most waiting runs",
      },
      maxWait: { kind: "parsed", parse: parseDuration, optional: true, brief: "longest wait: 1m" },
      maxTime: { kind: "parsed", parse: parseDuration, optional: true, brief: "longest run: 1h" },
      maxBody: {
        kind: "parsed",
        parse: parseMemory,
        default: "64M",
        brief: "largest request",
      },
      memory: {
        kind: "parsed",
        parse: parseMemory,
        optional: true,
        brief: "memory of a microVM whose run asks for none: 512M",
      },
      grace: {
        kind: "parsed",
        parse: parseDuration,
        default: "10s",
        brief: "time that programs have to end when the service does",
      },
      ready: {
        kind: "parsed",
        parse: (text: string) => parseCount(text),
        default: "2",
        brief: "paused clones kept ready for each kind of run that was asked for lately",
      },
      warm: {
        kind: "parsed",
        parse: parseWarm,
        optional: true,
        variadic: true,
        brief: "prewarmed VMs that wait for runs: python=2",
      },
      network: {
        kind: "enum",
        values: ACCESS,
        default: "none",
        brief: "the most that programs may be given: nothing, what they list, or the internet",
      },
      networkPrivate: {
        kind: "boolean",
        default: false,
        withNegated: false,
        brief:
          "let programs reach private addresses and this host's 127.0.0.1, and publish elsewhere",
      },
      networkBandwidth: {
        kind: "parsed",
        parse: (text: string) => parseBandwidth(text) * 1000 / 8,
        optional: true,
        placeholder: "rate",
        brief: "the most that a program may send and get a second: 100Mbit",
      },
      allowRegistry: {
        kind: "parsed",
        parse: parseRegistry,
        optional: true,
        variadic: true,
        brief: "registry that images may come from, in place of the settings' list: docker.io",
      },
    },
  },
  async func(flags: ServeFlags) {
    await serve(flags);
  },
});

/** The command `key`. */
export const keyCommand = buildCommand({
  docs: {
    brief: "Make an API key",
    fullDescription:
      "Prints the key on standard error, to be kept by its owner, and the line for " +
      "the server's file of keys on standard output: cloudlet key alice >> keys",
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ brief: "whose key it is", parse: String, placeholder: "name" }],
    },
  },
  func(_flags: Record<never, never>, name: string) {
    const { key, line } = newKey(name.replaceAll(/[:\s]/g, "-"));
    say(`The key of ${name}: ${key}`);
    writeLine(line);
  },
});
