# Makes a machine of the lab one that containerd and a kubelet run on. $1: its control group in every hierarchy.
# All of it is seen in the machine's mount namespace only and goes with it.

# Files of its own: /etc starts as this machine's; images and volumes lie in memory, where overlayfs always works.
mkdir /run/etc /run/etc/upper /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
for folder in /var/lib /var/log /opt; do mount -t tmpfs -o mode=755 tmpfs $folder; done
mkdir -p /opt/cni/bin /etc/cni/net.d /var/lib/kubelet
rm -rf /etc/cni/net.d/*
# containerd attaches `lo` by this plugin.
cp /usr/lib/cni/loopback /opt/cni/bin/

# A kubelet sets these for the whole machine unless they are right. Here they look right, and the machine keeps its own.
look_right() {
	test -e "/proc/sys/$1" || return 0
	mkdir -p /run/sysctl
	echo "$2" >"/run/sysctl/$(basename "$1")"
	mount --bind "/run/sysctl/$(basename "$1")" "/proc/sys/$1"
}
look_right vm/overcommit_memory 1
look_right vm/panic_on_oom 0
look_right kernel/panic 10
look_right kernel/panic_on_oops 1
look_right kernel/keys/root_maxkeys 1000000
look_right kernel/keys/root_maxbytes 25000000
# The only one that is changed for all: a kubelet, containerd and their containers watch many files.
test "$(cat /proc/sys/fs/inotify/max_user_instances)" -ge 1024 || sysctl -qw fs.inotify.max_user_instances=1024
sysctl -qw net.ipv4.ip_forward=1

# Control groups: this machine's hierarchies, of either version, seen from the node's group as their root.
awk '$3 == "cgroup" || $3 == "cgroup2" { if (!seen[$2]++) print $3, $2, $4 }' /proc/mounts >/run/hierarchies
cat >/run/mount-groups <<'MOUNT'
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while read -r kind path options; do
	# What a mount says of itself is not all what it may be told.
	options=$(echo "$options" | tr , '\n' | grep -vxE 'rw|ro|relatime|nosuid|nodev|noexec|nsdelegate|memory_.*|clone_children' | paste -sd,)
	case $options in name=*) options=none,$options ;; esac
	mkdir -p "$path"
	mount -t "$kind" ${options:+-o "$options"} "$kind" "$path"
done </run/hierarchies
MOUNT
. /run/mount-groups
# As on any node: pods may ask for mounts to be seen on both sides.
mount --make-rshared /
while read -r kind path options; do
	group=$path
	for name in $(echo "$1" | tr / ' '); do
		if [ "$kind" = cgroup2 ]; then
			for controller in $(cat "$group/cgroup.controllers"); do
				echo "+$controller" >"$group/cgroup.subtree_control" || true
			done
		fi
		mkdir -p "$group/$name"
		# A cpuset begins empty, and nothing can run in an empty one.
		for file in cpuset.cpus cpuset.mems; do
			if [ "$kind" = cgroup ] && [ -e "$group/$file" ]; then cat "$group/$file" >"$group/$name/$file"; fi
		done
		group=$group/$name
	done
	echo $$ >"$group/cgroup.procs"
done </run/hierarchies
: >/run/group-namespace
exec unshare --cgroup sh -euc '
	mount --bind /proc/self/ns/cgroup /run/group-namespace
	umount -R /sys/fs/cgroup
	. /run/mount-groups
	# Daemons lie in a leaf, since a group that has processes can hand no controllers down (version 2).
	while read -r kind path options; do
		mkdir "$path/daemons"
		for file in cpuset.cpus cpuset.mems; do
			if [ "$kind" = cgroup ] && [ -e "$path/$file" ]; then cat "$path/$file" >"$path/daemons/$file"; fi
		done
	done </run/hierarchies
	echo ready'
