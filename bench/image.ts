/**
 * `cloudlet image build python` beside mmdebstrap: the same packages from the same mirror on this
 * machine, both with empty caches. mmdebstrap extracts them into a tar archive; cloudlet makes an
 * image that a microVM mounts, with Deno and the agent inside.
 *
 * @module
 */
import { join } from "node:path";
import { loadSettings } from "../base/settings.ts";
import { openDebian } from "../builder/debian/debian.ts";
import { makeKey, startMirror, type TestPackage } from "../builder/debian/fixtures_test.ts";
import { imageDeclaration } from "../builder/image/declarations.ts";
import { checkoutPath, denoDir } from "../test/paths.ts";
import { inTurns, report } from "./report.ts";

const FIELDS = ["Depends", "Pre-Depends", "Provides", "Conflicts", "Breaks", "Multi-Arch"];

async function text(command: string, ...args: string[]): Promise<string> {
  const { success, stdout } = await new Deno.Command(command, { args, stderr: "inherit" }).output();
  if (!success) throw new Error(`${command} ${args.join(" ")} failed`);
  return new TextDecoder().decode(stdout);
}

async function succeed(
  command: string,
  args: string[],
  env: Record<string, string>,
): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args, env }).output();
  if (!success) throw new Error(`${command}: ${new TextDecoder().decode(stderr)}`);
}

/** Prints the comparison. */
export async function benchImage(name = "python", repetitions = 5): Promise<void> {
  const { debian: settings } = await loadSettings();
  const declaration = imageDeclaration(name, [], settings.suite);
  const { suite } = declaration;
  const debian = await openDebian({ ...settings, suite });
  const packages = debian.resolve(declaration.packages, declaration);
  const files = await debian.fetch(packages);
  const mirrored: TestPackage[] = [];
  for (const item of packages) {
    const path = files.get(item.name)!;
    const fields: Record<string, string> = {};
    for (const line of (await text("dpkg-deb", "-f", path, ...FIELDS)).split("\n")) {
      const colon = line.indexOf(": ");
      if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
    }
    const deb = await Deno.readFile(path);
    mirrored.push({ name: item.name, version: item.version, fields, deb });
  }
  const key = await makeKey();
  await using mirror = await startMirror(key, mirrored, suite);
  const directory = await Deno.makeTempDir();
  try {
    const keyring = join(directory, "keyring.asc");
    await Deno.writeTextFile(keyring, key.armoredPublicKey);
    await Deno.mkdir(join(directory, "config", "cloudlet"), { recursive: true });
    await Deno.writeTextFile(
      join(directory, "config", "cloudlet", "config.toml"),
      `[debian]\nmirror = "${mirror.url}"\nsuite = "${suite}"\nsecurity = false\n` +
        `keyring = "${keyring}"\n`,
    );
    const include = packages.map(({ name }) => name).join(",");
    const times = await inTurns(repetitions, async () => {
      const cache = join(directory, "cache");
      await succeed(Deno.execPath(), [
        ...["run", "-A", "--quiet", checkoutPath("../mod.ts"), "image", "build", name],
      ], {
        XDG_CACHE_HOME: cache,
        XDG_CONFIG_HOME: join(directory, "config"),
        DENO_DIR: denoDir(),
      });
      await Deno.remove(cache, { recursive: true });
    }, async () => {
      await succeed("mmdebstrap", [
        ...["--variant=extract", "--quiet", `--include=${include}`, suite],
        ...[join(directory, "out.tar"), `deb [trusted=yes] ${mirror.url} ${suite} main`],
      ], {});
      await Deno.remove(join(directory, "out.tar"));
    });
    report({
      what: `${name} image of ${packages.length} packages, empty caches`,
      unit: "ms",
      peer: "mmdebstrap --variant=extract",
      ...times,
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
