import { equal, match } from "node:assert/strict";
import { rootHelp } from "./command.ts";
import { commands } from "./commands.ts";

Deno.test("the list of commands says of each what its own help says", async () => {
  const help = rootHelp(commands);
  for (const [name, { brief, load }] of Object.entries(commands)) {
    const target = await load();
    equal(target.brief, brief, name);
    match(help, new RegExp(`^  ${name} +${brief}$`, "m"));
  }
});
