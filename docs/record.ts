/**
 * Records a terminal session as an SVG that plays it: `deno run -A docs/record.ts`. Each command is
 * really run, in a directory of its own, and each line appears when it did.
 *
 * The commands find `cloudlet` as users do who have put `deno task cloudlet` behind that name.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const CHECKOUT = fileURLToPath(new URL("..", import.meta.url));
const OUTPUT = fileURLToPath(new URL("session.svg", import.meta.url));

const FILES: Readonly<Record<string, string>> = {
  "hello.py": `import os, sys
print("hello from", os.uname().sysname, "with", os.cpu_count(), "vCPU")
sys.exit(3)
`,
};
const COMMANDS = [
  "cat hello.py",
  "time cloudlet run hello.py",
  "echo $?",
  "echo 'while True: pass' > loop.py; cloudlet run --timeout 1s loop.py",
  "cloudlet snapshot ls | head -3",
];

/** Characters a second of whoever types. */
const TYPING = 25;
const PAUSE = 0.6; // seconds between commands
const HOLD = 6; // seconds that the end stays
const COLUMNS = 92;
const LINE = 18; // pixels
const CHARACTER = 8.43;

interface Line {
  readonly at: number;
  readonly text: string;
  readonly typed: boolean;
}

/** Runs the commands in one shell and notes when each line came. */
async function record(directory: string): Promise<Line[]> {
  const shell = new Deno.Command("bash", {
    args: ["--noprofile", "--norc"],
    cwd: directory,
    env: { PATH: `${directory}/bin:${Deno.env.get("PATH")}`, NO_COLOR: "1", TIMEFORMAT: "(%R s)" },
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const input = shell.stdin.getWriter();
  const output = shell.stdout.pipeThrough(new TextDecoderStream()).getReader();
  await input.write(new TextEncoder().encode("exec 2>&1\n"));
  const lines: Line[] = [];
  let clock = 0;
  let status = 0;
  for (const command of COMMANDS) {
    clock += PAUSE;
    lines.push({ at: clock, text: command, typed: true });
    clock += command.length / TYPING;
    const mark = crypto.randomUUID();
    const start = performance.now();
    const script = `(exit ${status})\n{ ${command}\n}; s=$?; echo ${mark} $s\n`;
    await input.write(new TextEncoder().encode(script));
    let text = "";
    for (let ended = false; !ended;) {
      const { value, done } = await output.read();
      if (done) throw new Error("the shell ended");
      text += value;
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        if (line.startsWith(mark)) {
          status = Number(line.split(" ")[1]);
          ended = true;
        } else if (line !== "" || lines.length > 0) {
          const at = clock + (performance.now() - start) / 1000;
          lines.push({ at, text: line, typed: false });
        }
      }
    }
    clock += (performance.now() - start) / 1000;
  }
  await input.close();
  await shell.status;
  return lines.filter(({ text }) => text !== "");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** The lines as an animation; without animation, all of them show. */
function render(lines: readonly Line[]): string {
  const total = (lines.at(-1)?.at ?? 0) + HOLD;
  const width = Math.ceil(COLUMNS * CHARACTER) + 32;
  const height = lines.length * LINE + 56;
  const rows = lines.map(({ at, text, typed }, index) => {
    const y = 52 + index * LINE;
    const shown = escaped(text.slice(0, COLUMNS));
    const begin = (at / total * 100).toFixed(2);
    const content = typed ? `<tspan class="p">$ </tspan><tspan class="c">${shown}</tspan>` : shown;
    return `<style>@keyframes k${index}{0%,${begin}%{opacity:0}` +
      `${(Number(begin) + 0.01).toFixed(2)}%,100%{opacity:1}}</style>` +
      `<text x="16" y="${y}" style="animation:k${index} ${total.toFixed(1)}s infinite">` +
      `${content}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" width="${width}" ` +
    `height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="A terminal session with cloudlet">
<style>text{font:14px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d8dee9;` +
    `white-space:pre}.p{fill:#88c0d0}.c{fill:#eceff4;font-weight:bold}` +
    `@media (prefers-reduced-motion){text{animation:none!important}}</style>
<rect width="100%" height="100%" rx="8" fill="#20242c"/>
<circle cx="20" cy="18" r="6" fill="#bf616a"/><circle cx="40" cy="18" r="6" fill="#ebcb8b"/>` +
    `<circle cx="60" cy="18" r="6" fill="#a3be8c"/>
${rows.join("\n")}
</svg>
`;
}

if (import.meta.main) {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(directory, "bin"));
    const script = `#!/bin/sh\nexec ${Deno.execPath()} run -A --quiet ${CHECKOUT}mod.ts "$@"\n`;
    await Deno.writeTextFile(join(directory, "bin/cloudlet"), script, { mode: 0o755 });
    for (const [name, text] of Object.entries(FILES)) {
      await Deno.writeTextFile(join(directory, name), text);
    }
    const warmUp = { args: ["-c", "cloudlet run --quiet hello.py"], cwd: directory };
    const PATH = `${directory}/bin:${Deno.env.get("PATH")}`;
    await new Deno.Command("bash", { ...warmUp, env: { PATH } }).output(); // what is made once
    const lines = await record(directory);
    await Deno.writeTextFile(OUTPUT, render(lines));
    for (const { at, text, typed } of lines) {
      console.log(`${at.toFixed(1).padStart(6)}  ${typed ? "$ " : ""}${text}`);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
