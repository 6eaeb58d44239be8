#!/bin/busybox sh
# The first process: mounts what programs expect, then gives a shell on the console.
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox --install -s /bin
export PATH=/bin
exec sh </dev/console >/dev/console 2>&1
