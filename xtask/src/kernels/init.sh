#!/bin/busybox sh
# The guest's first process: loads every program, plays the packet tests and those of devices, and switches the machine
# off. All that it has to say goes to the second serial port, where no message of the kernel can get between.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
$b mount -t bpf bpf /sys/fs/bpf
$b mount -t tmpfs tmp /tmp
$b mount -t tmpfs run /run
$b ln -s busybox /bin/ip
export PATH=/bin
$b ip link set lo up
$b stty -F /dev/ttyS1 raw
exec >/dev/ttyS1 2>&1

echo "release $($b uname -r)"
echo "version $($b uname -v)"
. /environment
for module in $($b cat /modules/order); do
  $b insmod "/modules/$module" || echo "the module $module is refused"
done
/programs
code=$?
echo "exit programs $code"
# Where a program is refused every test would say the same.
if [ $code = 0 ]; then
  /packets --test-threads=1 $ARGUMENTS
  echo "exit packets $?"
fi
/devices --test-threads=1 --include-ignored $ARGUMENTS
echo "exit devices $?"
echo "end"
$b poweroff -f
