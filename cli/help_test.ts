import { deepEqual, equal, match, ok } from "node:assert/strict";
import { Cloudlet } from "../test/cli_process.ts";
import { LANGUAGE_VERSIONS } from "../builder/image/versions.ts";
import { commands } from "./commands.ts";
import { KEYS, parseConfig } from "./config.ts";
import { CONFIG_KEYS, configText } from "./config_keys.ts";
import { HELP_TOPICS } from "./help_topics.ts";
import { checkoutPath } from "../test/paths.ts";

const help = async (...words: string[]) => await new Cloudlet(["help", ...words]).ended();

Deno.test("help tells of itself, of each topic and of each command", async () => {
  const all = await help();
  equal(all.code, 0);
  for (const [name, { brief }] of Object.entries(HELP_TOPICS)) {
    match(all.stdout, new RegExp(`^  ${name} +${brief}$`, "m"));
    equal(Object.hasOwn(commands, name), false, `${name} is a command as well`);
  }
  const config = await help("config");
  deepEqual([config.code, config.stderr], [0, ""]);
  equal(config.stdout, `${HELP_TOPICS["config"]!.text()}\n`);
  const build = await help("image", "build");
  equal(build.stdout, (await new Cloudlet(["image", "build", "--help"]).ended()).stdout);
  const near = await help("conifg");
  deepEqual([near.code, near.stdout], [2, ""]);
  match(near.stderr, /did you mean config\?/);
});

Deno.test("the topics have every key, version and variable that there is", async () => {
  const known = Object.entries(KEYS).flatMap(([table, keys]) =>
    keys.filter((key) => table !== "" || !Object.hasOwn(KEYS, key)).map((key) => `${table}.${key}`)
  );
  deepEqual(CONFIG_KEYS.map(({ table, key }) => `${table}.${key}`).sort(), known.sort());
  const languages = HELP_TOPICS["languages"]!.text();
  for (const [language, versions] of Object.entries(LANGUAGE_VERSIONS)) {
    match(languages, new RegExp(`^ *${language} `, "m"));
    for (const { version } of versions) ok(languages.includes(`${language}@${version}`));
  }
  const environment = HELP_TOPICS["environment"]!.text();
  const { stdout } = await new Deno.Command("git", {
    args: [
      "grep",
      "-hoE",
      "(\"|')(CLOUDLET|XDG|DOCKER)_[A-Z_]+\\1",
      "--",
      "*.ts",
      ":!*test*",
      ":!bench",
    ],
    cwd: checkoutPath("../"),
  }).output();
  const used = new Set(new TextDecoder().decode(stdout).match(/[A-Z_]{5,}/g));
  ok(used.size >= 6, [...used].join(" "));
  for (const name of used) ok(name.startsWith("CLOUDLET_TEST") || environment.includes(name), name);
  for (const { text } of Object.values(HELP_TOPICS)) {
    for (const line of text().split("\n")) ok(line.length <= 110, line);
  }
});

Deno.test("every example of the config is one, and the whole of them is a config", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/main.py`, "");
    await Deno.writeTextFile(`${directory}/x.conf`, "");
    const values = Object.fromEntries(
      CONFIG_KEYS.map(({ table, key, example }) => [`${table}.${key}`, example]),
    );
    values["build.source-code-path"] = '"."';
    Deno.env.set("KEY", "a secret"); // of the example
    const config = await parseConfig(configText(values), `${directory}/config.toml`);
    equal(config.entryPoint, "main.py");
    equal(config.vm.memory, 1024);
  } finally {
    Deno.env.delete("KEY");
    await Deno.remove(directory, { recursive: true });
  }
});
