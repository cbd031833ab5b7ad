# enter.sh ROOT FOLDER UID: becomes the server that FOLDER/start starts, in the file system ROOT, where FOLDER is /srv and
# the only place to write to. To be run in a mount namespace of its own: the mounts go with it.
set -eu
root=$1 folder=$2 user=$3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$folder" "$root/srv"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
cd "$root" # out of the folder that lies below the mount
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/srv LC_ALL=C.UTF-8 \
    chroot --userspec="$user:$user" "$root" /bin/sh -euc 'cd /srv; . ./start'
