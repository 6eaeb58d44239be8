/**
 * Process 1 of an image with an agent, once the initramfs has mounted the root.
 *
 * @module
 */
import { agentCommand } from "../../agent/start.ts";

/** Where in an image cloudlet's own things are. */
export const HOME = "usr/lib/cloudlet";

/** One word of a shell command. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/**
 * The script: it starts the agent and reaps the orphans of whatever the agent runs, as process 1
 * has to; the shell's `wait` does that. The machine is switched off when the agent ends.
 */
export function initScript(): string {
  const command = agentCommand(`/${HOME}/deno`, `/${HOME}/agent.js`).map(quote).join(" ");
  return `#!/usr/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8
/usr/bin/busybox ip link set lo up
${command} </dev/null &
wait $!
echo "cloudlet: the agent ended with exit code $?" >/dev/kmsg
/usr/bin/busybox poweroff -f
`;
}
