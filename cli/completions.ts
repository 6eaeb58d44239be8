/**
 * `cloudlet completions`
 *
 * @module
 */
import { buildChoiceParser, buildCommand } from "@stricli/core";
import { CloudletError } from "../base/errors.ts";
import { serverFlag, type ServerFlags, serverFromFlags } from "./server_address.ts";
import type { CalledWith } from "./command.ts";
import { write } from "./output.ts";
import type { Shell } from "./completion_scripts.ts";
import { lazyImport } from "../base/lazy_import.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** What a script asks for. */
type Listed = "runs" | "images" | "oci-images";

/** The command `completions`. */
export const completionsCommand = buildCommand({
  docs: {
    brief: "Print the completions for a shell",
    fullDescription: `Where each shell finds them, once they are written there:
  cloudlet completions bash > ~/.local/share/bash-completion/completions/cloudlet
  cloudlet completions zsh > ~/.zfunc/_cloudlet    # with fpath+=(~/.zfunc) before compinit
  cloudlet completions fish > ~/.config/fish/completions/cloudlet.fish`,
  },
  parameters: {
    flags: {
      server: { ...serverFlag, hidden: true },
      list: {
        kind: "enum",
        values: ["runs", "images", "oci-images"],
        optional: true,
        hidden: true,
        brief: "print what a script asks for",
      },
    },
    positional: {
      kind: "tuple",
      parameters: [{
        brief: `the shell: ${SHELLS.join(", ")}`,
        parse: buildChoiceParser<Shell>(SHELLS),
        placeholder: "shell",
        optional: true,
      }],
    },
  },
  async func(
    this: CalledWith,
    flags: ServerFlags & { readonly list?: Listed },
    shell?: Shell,
  ) {
    if (flags.list !== undefined) return await write("stdout", await listed(flags.list, flags));
    if (shell === undefined) {
      throw new CloudletError("Cannot print completions: no shell is named", {
        code: "invalid-input",
        remedy: `name one of ${SHELLS.join(", ")}`,
      });
    }
    const { completedCommands } = await lazyImport<typeof import("./completion_model.ts")>(
      "./completion_model.ts",
      import.meta.url,
    );
    const { completionScript } = await lazyImport<typeof import("./completion_scripts.ts")>(
      "./completion_scripts.ts",
      import.meta.url,
    );
    await write("stdout", completionScript(shell, await completedCommands(this.commands)));
  },
});

/** Runs that are offered. */
const RUNS = 30;

/** What a script asks for, one a line. */
async function listed(what: Listed, flags: ServerFlags): Promise<string> {
  const names = what === "runs" ? await runs(flags) : await images(what === "oci-images");
  // A control character would end a word, or reach the terminal.
  return names.filter((name) => /^[^\s\p{Cc}]+$/u.test(name)).map((name) => `${name}\n`).join("");
}

async function runs(flags: ServerFlags): Promise<string[]> {
  const { ApiClient } = await lazyImport<typeof import("../api/client/client.ts")>(
    "../api/client/client.ts",
    import.meta.url,
  );
  const found = await new ApiClient(serverFromFlags(flags)).runs({ limit: RUNS });
  return found.flatMap(({ id, run_name }) => run_name === null ? [id] : [run_name, id]);
}

async function images(oci: boolean): Promise<string[]> {
  const { imageNamesInCache } = await lazyImport<typeof import("./image.ts")>(
    "./image.ts",
    import.meta.url,
  );
  return await imageNamesInCache(oci);
}
