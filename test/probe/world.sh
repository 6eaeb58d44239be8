#!/bin/bash
# What a program finds in a system besides its kernel: commands, locale, time zones, users, names. Each
# line is one finding. world.txt has what a fresh Debian system says; see docs/languages.md for what
# differs in a guest.
set -u

# A system call takes a millisecond in some guests, so there are few: directories are read once, and
# the report is written at once.
report=
say() { report+="$1: $2"$'\n'; }

# -- commands --------------------------------------------------------------------------------------
declare -A commands=()
for path in /usr/bin/* /usr/sbin/* /usr/local/bin/* /usr/local/sbin/*; do
  commands[${path##*/}]=$path
done
for name in apt-get awk base64 basename bash bunzip2 bzip2 cat chmod chown chroot clear cmp comm cp \
  cut date dd deb-systemd-helper df diff dirname dmesg dpkg du echo egrep env expand expr false fgrep \
  file find flock fmt fold free getconf getent getopt grep groups gunzip gzip head hostname iconv id \
  infocmp install ionice ipcs join kill ldconfig ldd less link ln locale logger login logname ls \
  lsblk lscpu lzma mawk md5sum mkdir mkfifo mknod mktemp more mount mv nawk nice nl nohup nproc nsenter \
  numfmt od openssl pager passwd paste patch perl pgrep pidof pidwait pinky pkill pmap pr printenv \
  printf ps pwd pwdx rbash readlink realpath renice reset rev rm rmdir run-parts script sed seq setpriv \
  setsid sh sha256sum shuf sleep sort split stat stdbuf stty su sum sync sysctl tabs tac tail tar \
  taskset tee tempfile test timeout tload top touch tput tr true truncate tsort tty tzselect umount \
  uname unexpand uniq unshare unxz update-alternatives uptime useradd users vmstat w watch wc whereis \
  which who whoami xargs xz xzcat yes zcat zgrep zless; do
  say "command $name" "${commands[$name]-missing}"
done
for name in awk nawk pager which rmt lzma; do
  say "alternative $name" "$(readlink "/etc/alternatives/$name")"
done

# -- what they do ----------------------------------------------------------------------------------
cd "$(mktemp -d)" || exit 1
say "gzip" "$(echo text | gzip | gunzip)"
say "bzip2" "$(echo text | bzip2 | bunzip2)"
say "xz" "$(echo text | xz | xzcat)"
printf '1\n2\n' >old
printf '1\n3\n' >new
diff -u old new >change
say "diff" "$?"
patch -s old change && say "patch" "$(tail -n 1 old)"
say "file" "$(file -b change)"
say "file of a program" "$(file -bL --mime-type /bin/sh)"
say "tar" "$(tar -c new | tar -t)"
say "ps" "$(ps -o comm= -p $$)"
top -b -n 1 >top.txt && say "top" "$(grep -c '^ *PID' top.txt)"
say "less" "$(echo text | less)"
say "perl" "$(perl -e 'print join ",", map { $_ * 2 } 1 .. 3')"
say "sed and unicode" "$(echo é | sed 's/./x/g')"
say "hostname" "$([ "$(hostname)" = "$(uname -n)" ] && echo the kernel\'s)"
say "ldd" "$(ldd /bin/ls | grep -c 'libc.so.6 => /lib')"
say "ldconfig" "$(ldconfig -p | grep -o 'libz.so.1 .*')"
say "dpkg" "$(dpkg-query -W -f '${Status}' coreutils), $(dpkg -S /usr/bin/ls)"
say "dpkg audit" "$(dpkg --audit | wc -l)"
# "quick" leaves out what reads every file: where kernels are emulated that takes minutes.
if [ "${1-}" != quick ]; then
  left_out='/usr/share/\(doc\|man\|locale\|info\)\(/\|$\)'
  say "dpkg verify" "$(dpkg --verify 2>&1 | grep -cv "$left_out")"
fi

# -- locale ----------------------------------------------------------------------------------------
export LANG=C.UTF-8
unset LC_ALL
text='naïve ☕'
say "bash counts" "${#text} ${text:2:1} ${text^^}"
say "wc counts" "$(printf '%s' "$text" | wc -m)"
say "charmap" "$(locale charmap)"
say "locales" "$(locale -a | tr '\n' ' ')"
say "sorted" "$(printf 'é\nz\na\nB\n' | sort | tr '\n' ' ')"
say "iconv" "$(printf 'é' | iconv -f UTF-8 -t ISO-8859-1 | od -An -tx1)"
say "date in words" "$(date -u -d @0 '+%A %B %x')"

# -- time zones ------------------------------------------------------------------------------------
say "local time" "$(readlink /etc/localtime)"
for zone in Europe/Paris America/New_York Asia/Kathmandu America/St_Johns Etc/GMT+3 UTC US/Eastern \
  Asia/Calcutta No/Where 'AAA-3BBB'; do
  say "zone $zone" "$(TZ=$zone date -d @1720000000 '+%F %R %z %Z')"
done

# -- users and names -------------------------------------------------------------------------------
say "id" "$(id)"
say "users" "$(cut -d: -f1,3,4,6,7 /etc/passwd | tr '\n' ' ')"
say "groups" "$(cut -d: -f1,3,4 /etc/group | tr '\n' ' ')"
say "a user" "$(getent passwd www-data)"
say "a group" "$(getent group staff)"
say "another user" "$(su nobody -s /bin/sh -c 'id -un; umask' | tr '\n' ' ')"
say "shells" "$(grep -v '^#' /etc/shells | tr '\n' ' ')"
# shellcheck disable=SC1091 # in the system that is looked at
say "release" "$(. /etc/os-release && echo "$ID $VERSION_ID $VERSION_CODENAME")"
say "services" "$(getent services https)"
say "protocols" "$(getent protocols udp)"
say "localhost" "$(getent hosts 127.0.0.1 | tr -s ' ')"
say "localhost, by IPv6" "$(grep -c '^::1.*localhost' /etc/hosts)"
say "own name" "$(getent hosts "$(hostname)" | tr -s ' ' | cut -d ' ' -f 1)"
say "name service" "$(grep '^hosts:' /etc/nsswitch.conf | tr -s ' ')"

# -- files -----------------------------------------------------------------------------------------
report+=$(stat -c 'path %n: %A %U:%G %N' / /bin /etc /etc/passwd /etc/shadow /home /lib64 /media /mnt /opt /root /root/.bashrc \
  /root/.profile /run /run/lock /sbin /srv /tmp /usr/local/bin /usr/local/lib /var/lock /var/mail \
  /var/run /var/tmp /etc/profile /etc/mtab /dev/null /dev/shm /dev/stdin /proc 2>/dev/null)$'\n'
certificates=(/etc/ssl/certs/*.0)
say "certificates" "$((${#certificates[@]} > 100))"
for name in xterm xterm-256color linux vt100 screen dumb; do
  say "terminal $name" "$(infocmp "$name" >/dev/null 2>&1; echo $?)"
done

printf '%s' "$report"

# -- Python, where it is ---------------------------------------------------------------------------
type -P python3 >/dev/null && PYTHONDONTWRITEBYTECODE=1 python3 - <<'END'
import ctypes.util, getpass, locale, os, pwd, socket, ssl, sys, zoneinfo
print("python:", sys.version_info[:2], sys.prefix, sys.path[1:])
print("python locale:", locale.setlocale(locale.LC_ALL, ""), locale.getpreferredencoding(),
      sys.getfilesystemencoding(), sys.stdout.encoding)
print("python zones:", len(zoneinfo.available_timezones()) > 500, zoneinfo.ZoneInfo("Europe/Paris"))
print("python user:", pwd.getpwuid(0).pw_shell, getpass.getuser(), os.path.expanduser("~nobody"))
print("python libraries:", ctypes.util.find_library("c"), ctypes.util.find_library("z"))
print("python certificates:", len(ssl.create_default_context().get_ca_certs()) > 100)
print("python port:", socket.getservbyname("http"))
try:
    print("python own name:", socket.gethostbyname(socket.gethostname()))
except OSError as error:
    print("python own name:", type(error).__name__)
END
