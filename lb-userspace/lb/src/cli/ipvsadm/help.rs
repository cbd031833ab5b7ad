//! ipvsadm's help.

/// What works, in ipvsadm's letters.
pub(super) fn help(program: &str) -> String {
    format!(
        "Usage:
  {program} -L|l [-t|-u service-address] [options]
  {program} -S [-n]
  {program} -A|E -t|-u service-address [-s scheduler] [-p [timeout]] [-M netmask] [-o] [-b sched-flags]
  {program} -D -t|-u service-address
  {program} -C
  {program} -R
  {program} -Z [-t|-u service-address]
  {program} -a|-e -t|-u service-address -r server-address [-g|-i|-m] [-w weight] [-x|-y threshold] [--tun-type type]
  {program} -d -t|-u service-address -r server-address
  {program} -h | -v

Options of -L:
  --numeric         -n   addresses and ports as numbers
  --connection      -c   the connections that the director knows
  --stats                connections, packets and bytes, since -Z
  --rate                 the same of one second, which it takes
  --exact           -X   all digits
  --timeout              time-outs (tcp tcpfin udp)
  --thresholds           limits of connections
  --persistent-conn      clients that are bound to servers
  --tun-info             tunnels
  --sort, --nosort       accepted: services and servers are always in order

Options of -A and -E, which resets those that are not given:
  --scheduler       -s   rr, wrr, lc, wlc (default), sed, nq, sh, dh, mh, fo, ovf or twos
  --persistent      -p   clients stay with their server, for so many seconds (300)
  --netmask         -M   clients whose addresses have these bits in common are one
  --ops             -o   each datagram by itself
  --sched-flags     -b   sh-port, sh-fallback, mh-port, mh-fallback

-A, -E, -D, -C, -a, -e and -d change the configuration at run time, as `lb add` and `lb remove` do: `lb overlay clear`
undoes them, and `lb save` writes them into the configuration file, see lb(8). -e resets weight and thresholds that are not
given, the method stays; it takes back what `lb weight` has ordered for the server. A service of -A has no health checks and puts its
VIP on no interface; without a usable server it refuses clients. Connections of what goes may end first. -R makes the
services and servers of -S, which it reads from standard input, in one change: all or none. -Z is about --stats alone,
until the director's next start: metrics only rise. Firewall marks, SCTP, --pe, --set and the sync daemon are refused.
The environment variable LB_SOCKET names another control socket.
"
    )
}
