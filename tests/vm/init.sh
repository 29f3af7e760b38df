#!/bin/busybox sh
# The machine's first process: modules, this machine's files below an overlay, and on to inside.sh.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs devtmpfs /dev
. /settings
for module in $modules; do
	$busybox insmod /modules/$module || echo "vm: $module is not taken"
done
failed() {
	echo "vm: $1"
	$busybox poweroff -f
}
$busybox mkdir -p /below /above /root
$busybox mount -t virtiofs -o ro files /below || failed "the files of the host cannot be mounted"
$busybox mount -t tmpfs -o size=75% tmpfs /above
$busybox mkdir /above/files /above/work
$busybox mount -t overlay -o lowerdir=/below,upperdir=/above/files,workdir=/above/work overlay /root ||
	failed "no overlay"
$busybox mount -t tmpfs tmpfs /root/run
$busybox mkdir -p /root/run/lock /root/run/netns /root/run/vm /root/lib/modules/$release
$busybox cp $busybox /settings /inside.sh /command.sh /root/run/vm
$busybox ln -s busybox /root/run/vm/modprobe
$busybox mount -o bind /root$module_directory /root/lib/modules/$release
for each in proc sys dev; do
	$busybox mount -o move /$each /root/$each
done
exec $busybox switch_root /root /run/vm/busybox sh /run/vm/inside.sh
