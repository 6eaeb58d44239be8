import assert from "node:assert/strict";

const MODULE = new URL("./dirs.ts", import.meta.url).href;
const VARIABLES = ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"];

/** The four directories in an environment; in a process of its own, since an environment is shared. */
async function directories(env: Record<string, string>): Promise<string[]> {
  const code = `import * as dirs from ${JSON.stringify(MODULE)};
    const { cacheDir, configDir, stateDir, runtimeDir } = dirs;
    try {
      console.log(JSON.stringify([cacheDir, configDir, stateDir, runtimeDir].map((f) => f())));
    } catch (error) {
      console.log(JSON.stringify([error.name, error.message, error.remedy]));
    }`;
  // Deno follows the same variables, so it is told where its own files go.
  const denoDir = await Deno.makeTempDir();
  try {
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["eval", "--quiet", code],
      clearEnv: true,
      env: { DENO_NO_UPDATE_CHECK: "1", DENO_DIR: denoDir, ...env },
      cwd: denoDir,
      stderr: "inherit",
    }).output();
    return JSON.parse(new TextDecoder().decode(stdout));
  } finally {
    await Deno.remove(denoDir, { recursive: true });
  }
}

Deno.test("each directory follows its XDG variable", async () => {
  const env = Object.fromEntries(VARIABLES.map((name) => [name, `/${name}`]));
  assert.deepEqual(await directories(env), VARIABLES.map((name) => `/${name}/cloudlet`));
});

Deno.test("without XDG variables, or with relative ones, the home directory's places are used", async () => {
  for (const value of [undefined, "", "relative"]) {
    const xdg = value === undefined ? [] : VARIABLES.map((name) => [name, value]);
    const env = { ...Object.fromEntries(xdg), HOME: "/home/me", TMPDIR: "/var/tmp" };
    assert.deepEqual(await directories(env), [
      "/home/me/.cache/cloudlet",
      "/home/me/.config/cloudlet",
      "/home/me/.local/state/cloudlet",
      `/var/tmp/cloudlet-${Deno.uid()}`,
    ]);
  }
});

Deno.test("without a home directory the error says what to set", async () => {
  const [name, message, remedy] = await directories({});
  assert.equal(name, "CloudletError");
  assert.match(message!, /HOME is not set/);
  assert.match(remedy!, /XDG_CACHE_HOME/);
});
