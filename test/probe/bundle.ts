/**
 * The probe program (main.py) as one Python text, for a machine that has no files of ours.
 *
 * @module
 */
import { checkoutPath } from "../paths.ts";

/** Lines of the probe's report, by name. */
export type Report = ReadonlyMap<string, string>;

/** The program; its arguments are sections, all when there are none. */
export function probeProgram(sections: readonly string[] = []): string {
  const directory = checkoutPath("probe");
  const modules: Record<string, string> = {};
  for (const { name } of Deno.readDirSync(directory)) {
    if (name.endsWith(".py")) {
      modules[name.slice(0, -3)] = Deno.readTextFileSync(`${directory}/${name}`);
    }
  }
  // A JSON string is one of Python, too: both know \uXXXX and no other escapes come out of JSON.
  return `import importlib.abc, importlib.util, sys
TEXTS = ${JSON.stringify(modules)}
class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name in TEXTS else None
    def exec_module(self, module):
        exec(compile(TEXTS[module.__name__], module.__name__ + ".py", "exec"), module.__dict__)
sys.meta_path.insert(0, Loader())
import main
main.main(${JSON.stringify(sections)})
`;
}

/** Reads a report. */
export function parseReport(text: string): Report {
  return new Map(
    text.split("\n").filter((line) => /^[\w.-]+: /.test(line)).map((line) => {
      const colon = line.indexOf(": ");
      return [line.slice(0, colon), line.slice(colon + 2)];
    }),
  );
}
