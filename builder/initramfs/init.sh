#!/bin/busybox sh
# The first process of every microVM. It looks for what to do in this order:
#
#   /cloudlet/exec in the initramfs: a script; it is run (inside the image, if there is one), its exit
#   code is told on the console, and the machine is switched off.
#   cloudlet.root=DEVICE on the kernel command line, or a /dev/pmem0: an EROFS image. It is mounted
#   read-only with a tmpfs over it, and its /usr/lib/cloudlet/init takes over as process 1. An image
#   without one gets a shell on the console.
#   Neither: a shell on the console, in the initramfs.
#
# More parameters: cloudlet.init=PATH in the image, cloudlet.overlay=SIZE of the tmpfs (as tmpfs(5)
# takes it), cloudlet.tty=ROWSxCOLUMNS of the console.
#
# A process costs a tenth of a second on a host without hardware virtualisation, so there are few:
# busybox's shell runs its own applets, and what it has built in it does itself.

/bin/busybox mkdir -p /proc /sys /tmp /image /overlay /root
/bin/busybox mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,mode=755 devtmpfs /dev

# Whoever waits is told how far things are, in lines that nobody else can write: the nonce is in
# this VM's initramfs only. "NONCE:init", "NONCE:begin" and "NONCE:exit:CODE".
nonce=
[ ! -f /cloudlet/nonce ] || read -r nonce </cloudlet/nonce
[ -z "$nonce" ] || echo "$nonce:init" >/dev/console

# A kernel from a distribution comes with modules (builder/kernel/packaged.ts).
if [ -f /lib/modules/order ]; then
  while read -r module; do
    insmod "/lib/modules/$module.ko" || echo "cloudlet: cannot insert $module" >/dev/console
  done </lib/modules/order
fi

root=
init=/usr/lib/cloudlet/init
size=50%
tty=
set -f
read -r line </proc/cmdline
for word in $line; do
  case $word in
    cloudlet.root=*) root=${word#*=} ;;
    cloudlet.init=*) init=${word#*=} ;;
    cloudlet.overlay=*) size=${word#*=} ;;
    cloudlet.tty=*) tty=${word#*=} ;;
    transparent_hugepage=always)
      # Below 512 MiB Linux leaves it off, whatever the parameter says (mm/huge_memory.c,
      # hugepage_init). Nothing is to be made huge later on: that would cost idle guests memory.
      echo 4294967295 >/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs
      echo always >/sys/kernel/mm/transparent_hugepage/enabled
      ;;
  esac
done
set +f
[ -n "$root" ] || [ ! -b /dev/pmem0 ] || root=/dev/pmem0

# IPv6 is for programs that talk to ::1; a network card would look for routers that do not exist.
ipv6=/proc/sys/net/ipv6/conf
if [ -d $ipv6 ]; then
  echo 1 >$ipv6/all/disable_ipv6
  echo 0 >$ipv6/lo/disable_ipv6
fi

fail() {
  echo "cloudlet: cannot $1" >/dev/console
  poweroff -f
}

mkdir /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o nosuid,noexec,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm
# Where systemd mounts it, and with its options; a kernel of the user's may have none.
mount -t mqueue -o nosuid,nodev,noexec mqueue /dev/mqueue 2>/dev/null || rmdir /dev/mqueue
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr

if [ -n "$root" ]; then
  # The kernel maps a pmem device in the background, which takes seconds where its code is slow.
  wait=0
  while [ ! -b "$root" ] && [ $wait -lt 600 ]; do
    sleep 0.1
    wait=$((wait + 1))
  done
  mount -t erofs -o ro,dax=always "$root" /image 2>/dev/null ||
    mount -t erofs -o ro "$root" /image || fail "mount the image $root"
  mount -t tmpfs -o "size=$size,mode=755" tmpfs /overlay || fail "make the writable layer"
  mkdir /overlay/upper /overlay/work
  # xino: readdir(3) and stat(2) agree on inode numbers, though the layers are of two file systems.
  layers=lowerdir=/image,upperdir=/overlay/upper,workdir=/overlay/work
  mount -t overlay -o $layers,xino=on overlay /root || fail "put the writable layer over the image"
  # /proc last: busybox finds itself there.
  for directory in dev sys proc; do
    # Whatever the image has there: a link would lead out of it.
    if [ -L /root/$directory ] || [ ! -d /root/$directory ]; then
      rm -rf /root/$directory
      mkdir /root/$directory
    fi
    mount --rbind /$directory /root/$directory || fail "show /$directory to the image"
  done
  # Where a link of the image is absolute, only the image's own root shows what is there.
  if [ ! -f /cloudlet/exec ] &&
    { [ -x "/root$init" ] || chroot /root "${init%/*}/busybox" true 2>/dev/null; }; then
    [ -z "$nonce" ] || echo "$nonce:begin" >/dev/console
    umount -l /dev /sys
    exec switch_root /root "$init"
    fail "start $init of the image $root"
  fi
fi

export HOME=/root TERM=linux PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ -z "$root" ]; then
  chmod 1777 /tmp
  busybox --install -s /bin
  ip link set lo up
fi

if [ -f /cloudlet/exec ]; then
  exec </dev/null >/dev/console 2>&1
  stty raw -echo </dev/console # every byte as it is
  echo 1 >/proc/sys/kernel/printk # nothing but a panic may come between the command's bytes
  [ -z "$nonce" ] || echo "$nonce:begin"
  if [ -z "$root" ]; then
    (cd /root && exec sh /cloudlet/exec)
  else
    mkdir -p /root/run/cloudlet
    cp /cloudlet/exec /root/run/cloudlet/exec
    chroot /root /bin/sh /run/cloudlet/exec
  fi
  code=$?
  [ -z "$nonce" ] || echo "$nonce:exit:$code"
  # 137 is a SIGKILL: perhaps the kernel had no memory left.
  [ $code != 137 ] || dmesg | grep -i 'out of memory'
  poweroff -f
fi

[ -z "$tty" ] || stty rows "${tty%x*}" cols "${tty#*x}" </dev/console
[ -z "$nonce" ] || echo "$nonce:begin" >/dev/console
cd /root
if [ -z "$root" ]; then
  setsid cttyhack sh -l </dev/console >/dev/console 2>&1
else
  setsid cttyhack chroot /root /bin/sh -l </dev/console >/dev/console 2>&1
fi
poweroff -f
