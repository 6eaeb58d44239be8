/** Resolutions of real packages, against apt's own resolver. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { command, hasCommand, testDirectory } from "../archive/fixtures_test.ts";
import { imageDeclaration, imageNames } from "../image/declarations.ts";
import { openDebian } from "./debian.ts";

/** The host's own release, which its apt knows. */
const HOST = /^VERSION_CODENAME=(.*)$/m.exec(await Deno.readTextFile("/etc/os-release"))?.[1];

const SETS = [
  ...imageNames().map((name) => imageDeclaration(name, [], HOST).packages.join(" ")),
  "python3-minimal",
  "python3",
  "nodejs",
  "rustc cargo gcc libc6-dev",
  "bash coreutils",
  "gcc make flex bison libelf-dev bc libssl-dev xz-utils patch tar dash coreutils sed grep gawk " +
  "findutils diffutils gzip perl-base",
  "busybox-static",
  "apt dpkg systemd-sysv",
  "git openssh-client ca-certificates curl",
  "default-jre-headless",
  "texlive-latex-base",
  "postgresql",
  "exim4-daemon-light bsd-mailx",
];

Deno.test({
  name: "apt resolves every set to the same packages and versions",
  ignore: !hasCommand("apt-get"),
  fn: async (t) => {
    using directory = testDirectory();
    const state = join(directory.path, "state");
    const status = join(directory.path, "status");
    await Deno.mkdir(join(state, "lists/partial"), { recursive: true });
    await Deno.mkdir(join(directory.path, "cache/archives/partial"), { recursive: true });
    await Deno.writeTextFile(status, "");
    const options = [
      `Dir::State=${state}`,
      `Dir::State::status=${status}`,
      `Dir::Cache=${join(directory.path, "cache")}`,
      "APT::Sandbox::User=root",
      "APT::Architecture=amd64",
      "APT::Architectures=amd64",
    ].flatMap((option) => ["-o", option]);
    await command("apt-get", "update", ...options);
    const debian = await openDebian({ cache: join(directory.path, "ours") });
    for (const set of SETS) {
      await t.step(set, async () => {
        const names = set.split(" ");
        const args = ["install", "-s", "--no-install-recommends", ...options, ...names];
        const output = new TextDecoder().decode(await command("apt-get", ...args));
        const theirs = [...output.matchAll(/^Inst (\S+?)(?::\w+)? \((\S+)/gm)].map((m) =>
          `${m[1]} ${m[2]}`
        );
        assert.ok(theirs.length > 0, output);
        const ours = debian.resolve(names);
        assert.deepEqual(
          ours.map(({ name, version }) => `${name} ${version}`).sort(),
          theirs.sort(),
        );
      });
    }
  },
});

Deno.test({
  name: "the essential packages are those that apt knows",
  ignore: !hasCommand("dpkg-query"),
  fn: async () => {
    using directory = testDirectory();
    const debian = await openDebian({ cache: join(directory.path, "ours") });
    const names = new Set(debian.resolve([], { essential: true }).map(({ name }) => name));
    const output = await command("dpkg-query", "-W", "-f", "${Essential} ${Package}\n");
    const host = [...new TextDecoder().decode(output).matchAll(/^yes (\S+)$/gm)].map((m) => m[1]!);
    assert.ok(host.length > 5);
    for (const name of host) assert.ok(names.has(name), name);
  },
});
