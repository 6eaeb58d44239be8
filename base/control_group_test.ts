import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { controlGroupLimits, hostResources } from "./control_group.ts";

const MIB = 2 ** 20;

/** What is found on a host with these files. */
async function find<T>(
  files: Readonly<Record<string, string>>,
  look: (root: string) => T,
): Promise<T> {
  const root = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  try {
    for (const [path, text] of Object.entries(files)) {
      await Deno.mkdir(dirname(join(root, path)), { recursive: true });
      await Deno.writeTextFile(join(root, path), text);
    }
    return look(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const limits = (files: Readonly<Record<string, string>>) => find(files, controlGroupLimits);

/** A line of proc_pid_mountinfo(5). */
function mount(root: string, at: string, type: string, options = "rw"): string {
  return `31 24 0:27 ${root} ${at} rw,nosuid shared:9 - ${type} cgroup ${options}\n`;
}

const V2 = {
  "proc/self/mountinfo": mount("/", "/sys/fs/cgroup", "cgroup2"),
  "proc/self/cgroup": "0::/user.slice/app.service\n",
};
const GROUP = "sys/fs/cgroup/user.slice/app.service";

Deno.test("limits of our own group are read", async () => {
  assert.deepEqual(
    await limits({
      ...V2,
      [`${GROUP}/memory.max`]: `${512 * MIB}\n`,
      [`${GROUP}/cpu.max`]: "150000 100000\n",
    }),
    { memory: 512 * MIB, processors: 1.5 },
  );
});

Deno.test("the tightest limit of all ancestors holds", async () => {
  assert.deepEqual(
    await limits({
      ...V2,
      [`${GROUP}/memory.max`]: "max\n",
      [`${GROUP}/cpu.max`]: "max 100000\n",
      "sys/fs/cgroup/user.slice/memory.max": `${256 * MIB}\n`,
      "sys/fs/cgroup/user.slice/cpu.max": "400000 100000\n",
      "sys/fs/cgroup/cpu.max": "50000 100000\n", // of a container whose root is a group
    }),
    { memory: 256 * MIB, processors: 0.5 },
  );
});

Deno.test("without a limit, without groups and with nonsense there is none", async () => {
  const none = { memory: Infinity, processors: Infinity };
  assert.deepEqual(await limits({}), none);
  assert.deepEqual(await limits(V2), none);
  assert.deepEqual(
    await limits({ ...V2, [`${GROUP}/memory.max`]: "much\n", [`${GROUP}/cpu.max`]: "0 0\n" }),
    none,
  );
});

const V1 = {
  "proc/self/mountinfo": mount("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory") +
    mount("/", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct") +
    mount("/", "/sys/fs/cgroup/unified", "cgroup2"),
  "proc/self/cgroup": "4:memory:/job\n2:cpu,cpuacct:/other\n1:name=systemd:/\n0::/\n",
};

Deno.test("groups of version 1 are read, each controller in its own hierarchy", async () => {
  assert.deepEqual(
    await limits({
      ...V1,
      "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", // no limit
      "sys/fs/cgroup/memory/job/memory.limit_in_bytes": `${64 * MIB}\n`,
      "sys/fs/cgroup/cpu,cpuacct/other/cpu.cfs_quota_us": "25000\n",
      "sys/fs/cgroup/cpu,cpuacct/other/cpu.cfs_period_us": "50000\n",
      "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
      "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "50000\n",
    }),
    { memory: 64 * MIB, processors: 0.5 },
  );
});

Deno.test("a container sees its group as the root of the mount, below which it is", async () => {
  const memory = {
    "sys/fs/cgroup/memory/memory.limit_in_bytes": `${64 * MIB}\n`,
    "sys/fs/elsewhere/far/away/indeed/memory.limit_in_bytes": "5\n", // nothing of ours
  };
  const mountinfo = mount("/docker/abc", "/sys/fs/cgroup/memory", "cgroup", "rw,memory");
  for (const path of ["/docker/abc", "/docker/abc/below", "/elsewhere/far/away/indeed"]) {
    const files = {
      ...memory,
      "proc/self/mountinfo": mountinfo,
      "proc/self/cgroup": `4:memory:${path}\n`,
    };
    assert.equal((await limits(files)).memory, 64 * MIB, path);
  }
});

Deno.test("a mount point may have a space in its name", async () => {
  const files = {
    "proc/self/mountinfo": mount("/", "/a\\040group", "cgroup2"),
    "proc/self/cgroup": "0::/x\n",
    "a group/x/memory.max": "5\n",
  };
  assert.equal((await limits(files)).memory, 5);
});

Deno.test("what a host gives is at most what it has, and at least one processor", async () => {
  const all = await find({}, hostResources);
  assert.equal(all.memory, Deno.systemMemoryInfo().total);
  assert.equal(all.processors, navigator.hardwareConcurrency);
  const tight = await find({
    ...V2,
    [`${GROUP}/memory.max`]: `${128 * MIB}\n`,
    [`${GROUP}/cpu.max`]: "20000 100000\n",
  }, hostResources);
  assert.deepEqual(tight, { memory: 128 * MIB, processors: 1 });
});

/** Makes a group below ours; undefined where that is not for us to do. */
function makeGroup(): { path: string; limit: string } | undefined {
  const own = Deno.readTextFileSync("/proc/self/cgroup");
  const places = [
    [/^0::(.*)$/m, "/sys/fs/cgroup", "memory.max"],
    [/^\d+:memory:(.*)$/m, "/sys/fs/cgroup/memory", "memory.limit_in_bytes"],
  ] as const;
  for (const [pattern, root, limit] of places) {
    const group = pattern.exec(own)?.[1];
    if (group === undefined) continue;
    const path = join(root, group, `cloudlet-test-${Deno.pid}`);
    try {
      Deno.mkdirSync(path);
    } catch {
      continue;
    }
    try {
      Deno.writeTextFileSync(join(path, limit), String(700 * MIB), { create: false });
      return { path, limit };
    } catch {
      Deno.removeSync(path);
    }
  }
  return undefined;
}

Deno.test("a real group's limit is seen by a process in it", async () => {
  const group = makeGroup();
  if (group === undefined) return console.log("skipped: no control group can be made here");
  try {
    const module = new URL("./control_group.ts", import.meta.url).href;
    const code = `import { controlGroupLimits } from ${JSON.stringify(module)};
      console.log(controlGroupLimits().memory);`;
    const { stdout, stderr } = await new Deno.Command("sh", {
      args: [
        ...["-c", 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"', "sh", group.path],
        ...[Deno.execPath(), "eval", "--quiet", code],
      ],
    }).output();
    const text = new TextDecoder();
    assert.equal(text.decode(stdout), `${700 * MIB}\n`, text.decode(stderr));
  } finally {
    Deno.removeSync(group.path);
  }
});
