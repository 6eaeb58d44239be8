/** What users write: config files, settings, units, addresses of servers. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { parseConfig } from "../../cli/config.ts";
import { parseDuration, parseMemory } from "../../cli/units.ts";
import { parseSettings } from "../../base/settings.ts";
import { fuzz, type Random, refusedOr, refusedOrAsync } from "./harness.ts";

const CONFIG = `workload-name = "fibonacci"
language = "python"
action = "prepare-and-run"
[server]
address = "localhost"
port = 3000
[build]
source-code-path = "main.py"
release = false
[run]
args = ["20", 'x']
env = { GREETING = "hello", "A.B" = """x""" }
timeout = "2m"
[vm]
vcpus = 1
memory = "512M"
kernel = "debian"
[image]
from = "python:3-slim"
packages = ["python3-numpy"]
files = { "/etc/x" = "main.py" }
run = ["touch /etc/made"]
`;
const WORDS = [
  ...CONFIG.split("\n").map((line) => `${line}\n`),
  ...'[ ] { } = , . " \'\'\' """ # \\ \\u0000 1979-05-27 inf nan 0x 1e400 -1 9223372036854775807'
    .split(" "),
  "\n",
  "[[run]]\n",
  "__proto__ = 1\n",
  "constructor.x = 1\n",
  "a.b.c.",
];

/** Arrays and tables in each other, some deeper than any stack. */
function nested(random: Random): string {
  const depth = random.pick([3, 900, 5000, 100_000]);
  const [open, close] = random.pick([["[", "]"], ["{a=", "}"], ["[{a=", "}]"]]) as [
    string,
    string,
  ];
  if (random.chance(4)) return `${"a.".repeat(depth)}b = 1\n`;
  return `x = ${open.repeat(depth)}1${random.chance(3) ? "" : close.repeat(depth)}\n`;
}

fuzz("config", (stack) => {
  const directory = Deno.makeTempDirSync();
  stack.defer(() => Deno.removeSync(directory, { recursive: true }));
  Deno.writeTextFileSync(join(directory, "main.py"), "");
  const file = join(directory, "config.toml");
  return async (random) => {
    const text = random.chance(4) ? random.words(WORDS, 20) : random.damageText(CONFIG, WORDS);
    const config = await refusedOrAsync(() => parseConfig(text, file), "invalid-input");
    if (config === undefined) return;
    assert(config.source !== undefined || config.image.from !== undefined);
    assert(config.server.port >= 1 && config.server.port <= 65535);
    for (
      const path of [config.source, config.run.stdin || undefined].filter((p) => p !== undefined)
    ) {
      assert(path.startsWith("/"));
    }
    // what goes into 32 bits on the way to the machine
    assert((config.vm.memory ?? 1) <= 0xffff_ffff, `${config.vm.memory} MiB`);
  };
});

fuzz("settings", () => {
  const settings =
    '[debian]\nmirror = "http://m.test/debian"\nsuite = "bookworm"\n[registry]\ninsecure = ["a:1"]\n';
  return (random) => {
    const text = random.damageText(settings, WORDS);
    refusedOr(() => parseSettings(text, "config.toml"), "invalid-input");
  };
});

fuzz("config-nested", () => async (random) => {
  const text = nested(random);
  await refusedOrAsync(() => parseConfig(CONFIG + text, "/nowhere/config.toml"), "invalid-input");
  refusedOr(() => parseSettings(text, "config.toml"), "invalid-input");
  return 2;
});

fuzz("units", () => {
  const words = [
    "0",
    "1",
    "9",
    ".",
    "5",
    "ms",
    "s",
    "m",
    "h",
    "M",
    "G",
    "iB",
    "b",
    " ",
    "-",
    "e",
    "+",
    "9".repeat(30),
  ];
  const amounts = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
  return (random) => {
    const text = random.chance(8) ? random.text(8) : random.words(words, 8);
    const duration = refusedOr(() => parseDuration(text), "invalid-input");
    if (duration !== undefined) {
      assert(Number.isInteger(duration) && duration > 0 && duration < 2 ** 31, text);
    }
    const memory = refusedOr(() => parseMemory(text), "invalid-input");
    if (memory !== undefined) {
      assert(Number.isInteger(memory) && memory > 0 && memory < 2 ** 32, text);
    }
    let [written, sum] = ["", 0];
    for (const [unit, factor] of Object.entries(amounts)) {
      const count = random.below(60);
      written += `${count}${unit}`;
      sum += count * factor;
    }
    if (sum > 0) assert.equal(parseDuration(written), sum);
    const size = 1 + random.below(4_000_000);
    assert.equal(parseMemory(`${size}${random.pick(["", "M", "m", " MiB", "mb"])}`), size);
    if (size < 4000) assert.equal(parseMemory(`${size}G`), size * 1024);
    return 4;
  };
});
