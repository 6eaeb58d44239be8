/** Runs that have a name. */
import { deepEqual, equal, match } from "node:assert/strict";
import { withServer } from "../test/cli_process.ts";

Deno.test("a name stands for a run in ps, logs and stop, and is one run's while it lives", () =>
  withServer(
    { "a.sh": "echo out; sleep 1000", "b.sh": "echo b" },
    async (cloudlet, path, active) => {
      const command = cloudlet(["run", "--name", "web", path("a.sh")]);
      const reader = await command.until("out");
      const [id] = active();
      match(
        (await cloudlet(["ps"]).ended()).stdout,
        new RegExp(`${id} +web +a\\.sh +bash +running`),
      );
      equal(JSON.parse((await cloudlet(["ps", "--json"]).ended()).stdout).run_name, "web");
      deepEqual(await cloudlet(["logs", "web"]).ended(), { code: 0, stdout: "out\n", stderr: "" });
      const taken = await cloudlet(["run", "--name", "web", path("b.sh")]).ended();
      deepEqual([taken.code, taken.stdout], [125, ""]);
      match(taken.stderr, new RegExp(`the name web is that of the run ${id}.*\\n.*->`));
      const other = await cloudlet(["run", "--name", "w", path("b.sh")]).ended();
      deepEqual(other, { code: 0, stdout: "b\n", stderr: "" });
      equal((await cloudlet(["stop", "web"]).ended()).stdout, `${id}: stopped\n`);
      equal(await command.code(), 137);
      await reader.cancel();
      await command.stderr();
      // It is free again, and then stands for the newer run.
      equal((await cloudlet(["run", "--name", "web", path("b.sh")]).ended()).stdout, "b\n");
      equal((await cloudlet(["logs", "web"]).ended()).stdout, "b\n");
      equal((await cloudlet(["logs", id!]).ended()).stdout, "out\n");
    },
  ));

Deno.test("what is no name is refused before anything is sent", () =>
  withServer({ "a.sh": "echo a" }, async (cloudlet, path) => {
    for (const name of ["a b", "-a", "a/b", "ü", "x".repeat(129)]) {
      const { code, stdout, stderr } = await cloudlet([`run`, `--name=${name}`, path("a.sh")])
        .ended();
      deepEqual([code, stdout], [125, ""], name);
      match(stderr, /Cannot use name: .*\n {2}-> use up to 128/);
    }
  }));
