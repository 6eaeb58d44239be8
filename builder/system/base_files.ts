/**
 * Files that the scripts of Debian's base packages make when these are configured.
 *
 * @module
 */
import { symlinkNode, type Tree } from "../tree.ts";
import { addDirectory, addMissing, namesIn, readText } from "./text.ts";

const STAFF = 50; // policy 9.2.2
const MAIL = 8;
const UTMP = 43;

const HOSTS = `127.0.0.1\tlocalhost
127.0.1.1\tcloudlet
::1\t\tlocalhost ip6-localhost ip6-loopback
ff02::1\t\tip6-allnodes
ff02::2\t\tip6-allrouters

`;
const NETWORKS = `default\t\t0.0.0.0
loopback\t127.0.0.0
link-local\t169.254.0.0

`;
const NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n";

/** Adds what is missing of them. */
export function addBaseFiles(tree: Tree): void {
  const copy = (from: string, to: string) => addMissing(tree, to, readText(tree, from));
  const base = "usr/share/base-files";
  copy(`${base}/dot.profile`, "root/.profile"); // base-files.postinst
  copy(`${base}/dot.bashrc`, "root/.bashrc");
  copy(`${base}/profile`, "etc/profile");
  copy(`${base}/motd`, "etc/motd");
  copy("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"); // libc-bin.postinst
  copy("usr/share/readline/inputrc", "etc/inputrc"); // readline-common.postinst
  addMissing(tree, "etc/hostname", "cloudlet\n");
  addMissing(tree, "etc/hosts", HOSTS); // netbase.postinst; our name as Debian's installer has it
  addMissing(tree, "etc/resolv.conf", "");
  addMissing(tree, "etc/nsswitch.conf", NSSWITCH);
  if (tree.lookup(base) === undefined) return;
  addMissing(tree, "etc/networks", NETWORKS); // netbase.postinst
  addMissing(tree, "etc/environment", ""); // libpam-runtime.postinst
  addMissing(tree, "etc/fstab", "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n"); // as debootstrap does
  addLocal(tree);
  for (const path of ["etc/opt", "var/opt", "media"]) addDirectory(tree, path);
  addDirectory(tree, "run/lock", { mode: 0o1777 });
  addDirectory(tree, "var/mail", { mode: 0o2775, gid: MAIL });
  addLink(tree, "var/spool/mail", "../mail");
  addLink(tree, "etc/dpkg/origins/default", "debian");
  for (const [name, mode] of [["wtmp", 0o664], ["btmp", 0o660], ["lastlog", 0o664]] as const) {
    addMissing(tree, `var/log/${name}`, "", { mode, gid: UTMP });
  }
  addShells(tree);
  addPam(tree);
  if (tree.lookup("usr/share/zoneinfo/Etc/UTC") !== undefined) { // tzdata.postinst
    addLink(tree, "etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
  }
}

/** base-files.postinst, install_local_dir(): the site's own directories. */
function addLocal(tree: Tree): void {
  const shared = tree.lookup("etc/staff-group-for-usr-local") !== undefined;
  const metadata = shared ? { mode: 0o2775, gid: STAFF } : {};
  const names = ["bin", "etc", "games", "include", "lib", "libexec", "sbin", "share", "src"];
  for (const path of ["", ...names.map((name) => `/${name}`), "/share/man"]) {
    addDirectory(tree, `usr/local${path}`, metadata);
  }
  addLink(tree, "usr/local/man", "share/man");
  for (const name of namesIn(tree, "usr/bin")) { // libpython3.N-minimal.postinst
    if (!/^python3\.\d+$/.test(name)) continue;
    addDirectory(tree, `usr/local/lib/${name}`, metadata);
    addDirectory(tree, `usr/local/lib/${name}/dist-packages`, metadata);
  }
}

function addLink(tree: Tree, path: string, target: string): void {
  if (tree.lookup(path) === undefined) tree.add(path, symlinkNode(target));
}

/** update-shells(8): on a merged-/usr system a shell of /bin is one of /usr/bin, too. */
function addShells(tree: Tree): void {
  const directory = "usr/share/debianutils";
  const first = readText(tree, `${directory}/shells`);
  if (first === undefined) return;
  const known = new Set(first.split("\n").filter((line) => line.startsWith("#")));
  const names = namesIn(tree, `${directory}/shells.d`);
  const declared = names.flatMap((name) =>
    (readText(tree, `${directory}/shells.d/${name}`) ?? "").split("\n")
  );
  for (const path of [...first.split("\n"), ...declared]) {
    if (path.startsWith("/")) known.add(path);
    if (path.startsWith("/bin/")) known.add(`/usr${path}`);
  }
  addMissing(tree, "etc/shells", [...known].map((line) => `${line}\n`).join(""));
}

/** pam-auth-update(8) with its default: the accounts of /etc/passwd. */
const PAM: Readonly<Record<string, string>> = {
  auth_primary: "auth\t[success=1 default=ignore]\tpam_unix.so nullok",
  account_primary: "account\t[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so ",
  password_primary: "password\t[success=1 default=ignore]\tpam_unix.so obscure yescrypt",
  session_primary: "session\t[default=1]\t\t\tpam_permit.so",
  session_additional: "session\trequired\tpam_unix.so ",
  session_nonint_primary: "session\t[default=1]\t\t\tpam_permit.so",
  session_nonint_additional: "session\trequired\tpam_unix.so ",
};

function addPam(tree: Tree): void {
  for (const name of namesIn(tree, "usr/share/pam")) {
    if (!/^common-[a-z-]+$/.test(name)) continue;
    const text = readText(tree, `usr/share/pam/${name}`)!
      .replaceAll(/^\$(\w+)\n/gm, (_, part) => part in PAM ? `${PAM[part]}\n` : "");
    addMissing(tree, `etc/pam.d/${name}`, text);
  }
}
