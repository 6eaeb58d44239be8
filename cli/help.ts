/**
 * `cloudlet help`
 *
 * @module
 */
import { buildCommand } from "@stricli/core";
import { nearest } from "../base/nearest.ts";
import { CloudletError } from "../base/errors.ts";
import { type CalledWith, type Commands, rootHelp } from "./command.ts";
import { exitWith } from "./context.ts";
import { HELP_TOPICS } from "./help_topics.ts";
import { writeSync } from "./output.ts";

/** The help of the program, with the topics. */
function wholeHelp(commands: Commands): string {
  const names = Object.keys(HELP_TOPICS);
  const width = Math.max(...names.map((name) => name.length));
  const list = names.map((name) => `  ${name.padEnd(width)}  ${HELP_TOPICS[name]!.brief}`);
  return `${rootHelp(commands)}\nTOPICS, for \`cloudlet help TOPIC\`\n${list.join("\n")}\n`;
}

/** The command `help`. */
export const helpCommand = buildCommand({
  docs: {
    brief: "Tell of a command, or of a topic such as config",
    fullDescription: `Topics: ${Object.keys(HELP_TOPICS).join(", ")}.`,
    customUsage: ["", "TOPIC", "COMMAND"],
  },
  parameters: {
    positional: {
      kind: "array",
      parameter: {
        brief: "a topic, or the words of a command",
        parse: String,
        placeholder: "topic",
      },
    },
  },
  async func(this: CalledWith, _flags: Record<never, never>, ...words: string[]) {
    const { commands } = this;
    const [name] = words;
    if (name === undefined) return writeSync(wholeHelp(commands));
    if (words.length === 1 && Object.hasOwn(HELP_TOPICS, name)) {
      return writeSync(`${HELP_TOPICS[name]!.text()}\n`);
    }
    if (Object.hasOwn(commands, name)) {
      return exitWith(this, await this.runCommandLine([...words, "--help"]));
    }
    const known = [...Object.keys(HELP_TOPICS), ...Object.keys(commands)];
    const near = nearest(name, known);
    throw new CloudletError(`Cannot tell of ${JSON.stringify(name)}: there is no such topic`, {
      code: "invalid-input",
      remedy: near === undefined ? "see `cloudlet help`" : `did you mean ${near}?`,
    });
  },
});
