/**
 * Process 1 of an image with an agent, once the initramfs has mounted the root.
 *
 * @module
 */
import { GATEWAY_ADDRESS, GUEST_ADDRESS } from "../../workload/guest_addresses.ts";
import { agentCommand, agentEnvironment } from "./agent_command.ts";

/** Where in an image cloudlet's own things are. */
export const HOME = "usr/lib/cloudlet";

/** The name of a guest that no host gave one; /etc/hosts of our own images knows it. */
const HOSTNAME = "cloudlet";
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** How an image differs from one of Debian packages. */
export interface InitOptions {
  /** Absolute path of a static busybox in the image. */
  readonly busybox: string;
  /** What starts Deno: program and first arguments. */
  readonly deno: readonly string[];
  /** Where programs are looked up. */
  readonly path: string;
  /** Whether `localhost` has to be a known name, as with container runtimes. */
  readonly hosts: boolean;
}

/**
 * Linux, Documentation/admin-guide/sysctl/vm.rst. What the kernel does by itself while nobody asks for
 * anything: look for fragmented memory twice a second, fold statistics every second, look for dirty
 * pages every five. An idle guest costs two per cent of a processor with it where kernels are emulated.
 */
const QUIET = Object.entries({
  compaction_proactiveness: 0,
  stat_interval: 120,
  dirty_writeback_centisecs: 6000,
}).map(([name, value]) => `echo ${value} 2>/dev/null >/proc/sys/vm/${name}\n`).join("");

/**
 * The guest's side of its network card, which is there with its cable pulled until a run has a network.
 * No route leads over it before that (Linux, Documentation/networking/ip-sysctl.rst,
 * ignore_routes_with_linkdown), so that programs hear at once that there is none. A kernel of the
 * user's own may have no such card.
 */
function networkScript(busybox: string): string {
  return `if [ -d /proc/sys/net/ipv4/conf/eth0 ]; then
  echo 1 >/proc/sys/net/ipv4/conf/eth0/ignore_routes_with_linkdown
  ${busybox} ifconfig eth0 ${GUEST_ADDRESS} netmask 255.255.255.0 up
  ${busybox} route add default gw ${GATEWAY_ADDRESS}
fi
if [ ! -f /etc/resolv.conf ] || [ -L /etc/resolv.conf ]; then
  ${busybox} rm -rf /etc/resolv.conf
  [ -d /etc ] || ${busybox} mkdir -p /etc
fi
echo nameserver ${GATEWAY_ADDRESS} >/etc/resolv.conf
`;
}

/** One word of a shell command. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/**
 * The script: it starts the agent and reaps the orphans of whatever the agent runs, as process 1
 * has to; the shell's `wait` does that. The machine is switched off when the agent ends.
 */
export function initScript(options: Partial<InitOptions> = {}): string {
  const { busybox = "/usr/bin/busybox", deno = [`/${HOME}/deno`] } = options;
  const path = options.path === undefined ? DEFAULT_PATH : quote(options.path);
  const [program, ...rest] = agentCommand(deno.at(-1)!, `/${HOME}/agent.js`);
  const command = [...deno.slice(0, -1), program!, ...rest].map(quote).join(" ");
  // Not below HOME, which is the program's and may be a link to nothing.
  const variables = Object.entries({ ...agentEnvironment, DENO_DIR: `/${HOME}/cache` })
    .map(([name, value]) => `${name}=${quote(value)} `).join("");
  const hosts = options.hosts
    ? `[ -s /etc/hosts ] || [ -p /etc/hosts ] || ` +
      `{ ${busybox} mkdir -p /etc; echo 127.0.0.1 localhost ${HOSTNAME} >/etc/hosts; }\n`
    : "";
  return `#!${busybox} sh
export PATH=${path}
export HOME=/root LANG=C.UTF-8
echo ${HOSTNAME} >/proc/sys/kernel/hostname
${busybox} ip link set lo up
${networkScript(busybox)}${QUIET}${hosts}${variables}${command} </dev/null &
wait $!
echo "cloudlet: the agent ended with exit code $?" >/dev/kmsg
${busybox} poweroff -f
`;
}
