import assert from "node:assert/strict";
import { run } from "../../api/library/run.ts";
import { parseReport, probeProgram } from "../probe/bundle.ts";
import { hasKvm, testKernel } from "./fixtures.ts";
import { LONG } from "../long.ts";

/** What has to be there under both kernels, as in a Debian root on a host. */
const THERE = `
  messages.system-v messages.posix-semaphore mounts.new-mqueue
  memory.process-vm-readv memory.process-vm-writev memory.io-uring memory.userfaultfd
  memory.secret-file memory.file-sealing memory.dump memory.aio memory.event-files memory.page-map
  files.tmpfile.root files.tmpfile.tmp files.tmpfile.home files.tmpfile.shm
  files.xattr-user.root files.xattr-user.tmp files.xattr-user.home files.xattr-user.shm
  files.acl.root files.acl.home files.inotify.root files.fanotify.root files.dnotify.root
  files.handle.shm files.birth-time.root files.seek-hole.root files.lock-ofd.root
  proc.children processes.add-key processes.pidfd processes.seccomp-filter processes.trace
  processes.perf
  namespaces.mount namespaces.uts namespaces.ipc namespaces.pid namespaces.net namespaces.user
  namespaces.time namespaces.cgroup namespaces.net-of-user namespaces.mount-of-user
  loopback.ipv4 loopback.ipv6 loopback.dual-stack loopback.multicast loopback.broadcast
  sockets.netlink-route sockets.netlink-generic sockets.packet sockets.inet6-udp sockets.filter
  sockets.peer-pidfd sockets.abstract-name sockets.pass-files devices.fuse devices.kmsg
`;
const ANSWERS: Readonly<Record<string, string | RegExp>> = {
  "messages.posix-queue": "text /dev/mqueue shows it",
  "proc.io": "rchar wchar syscr syscw read_bytes write_bytes cancelled_write_bytes",
  "proc.namespaces": "cgroup ipc mnt net pid pid_for_children time time_for_children user uts",
  "proc.fields-of-cgroup": "0",
  "processes.kcmp": "0",
  "processes.landlock": /^[1-9]\d*$/,
  "processes.seccomp": "kill-process kill-thread trap errno notify trace log allow",
  // The network has no IPv6: a card gets no address.
  "loopback.addresses6": "00000000000000000000000000000001/80",
  "mounts.kinds": /\/dev\/mqueue=mqueue .*\/dev\/shm=tmpfs/,
  "sysctl.vm.mmap_min_addr": "65536",
  "sysctl.kernel.dmesg_restrict": "1",
  "sysctl.net.ipv6.conf.lo.disable_ipv6": "0",
  "sysctl.net.ipv6.conf.all.disable_ipv6": "1",
};

/** System calls that the small kernel does not have and Debian's has, with the reason. */
const MISSING = new Set([
  ...["bpf", "kexec_load", "kexec_file_load"], // size: a verifier, a second kernel
  ...["init_module", "finit_module", "delete_module"], // it has no modules
  ...["mbind", "set_mempolicy", "get_mempolicy", "migrate_pages", "move_pages"], // one node
  ...["set_mempolicy_home_node"],
  ...["iopl", "ioperm", "modify_ldt"], // of programs of the nineties
  ...["quotactl", "quotactl_fd", "acct", "sysfs", "uselib"], // administration; obsolete
]);

/** All of them take some minutes where kernels are emulated. */
const SECTIONS = LONG ? [] : ["loopback", "messages", "devices"];
const isAsked = (name: string) => SECTIONS.length === 0 || SECTIONS.includes(name.split(".")[0]!);

Deno.test({
  name: "a program finds the kernel's interfaces that it finds on Debian",
  ignore: !hasKvm(),
  async fn() {
    const { stdout, stderr } = await run({
      language: "python",
      code: probeProgram(SECTIONS),
      kernel: testKernel(),
      memory: 512,
    }).output();
    const [text, messages] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    const report = parseReport(text!);
    assert.ok(
      report.size > (SECTIONS.length === 0 ? 800 : 10),
      `${report.size} answers; ${messages}`,
    );
    const wanted = THERE.trim().split(/\s+/).map((name) => [name, "yes"] as const);
    const wrong: string[] = [];
    for (const [name, answer] of [...wanted, ...Object.entries(ANSWERS)]) {
      if (!isAsked(name)) continue;
      const found = report.get(name) ?? "no such probe";
      if (answer instanceof RegExp ? !answer.test(found) : found !== answer) {
        wrong.push(`${name}: ${found}`);
      }
    }
    const gone = new Set(
      // In no kernel of Debian's, either.
      ("_sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg " +
        "get_thread_area lookup_dcookie nfsservctl putpmsg query_module security " +
        "set_thread_area tuxcall vserver map_shadow_stack").split(" "),
    );
    for (const [name, found] of report) {
      const call = /^calls\.(.*)$/.exec(name)?.[1];
      if (call === undefined || found === "yes" || gone.has(call) || MISSING.has(call)) continue;
      wrong.push(`${name}: ${found}`);
    }
    assert.deepEqual(wrong, []);
  },
});
