//! ipvsadm's help.

/// What works, in ipvsadm's letters.
pub(super) fn help(program: &str) -> String {
    format!(
        "Usage:
  {program} -L|l [-t|-u service-address] [options]
  {program} -S [-n]
  {program} -a -t|-u service-address -r server-address [-g|-i|-m] [-w weight] [-x|-y threshold] [--tun-type type]
  {program} -e -t|-u service-address -r server-address [-w weight]
  {program} -d -t|-u service-address -r server-address
  {program} -D -t|-u service-address
  {program} -h | -v

Options of -L:
  --numeric         -n   addresses and ports as numbers
  --connection      -c   the connections that the director knows
  --stats                connections, packets and bytes
  --rate                 the same of one second, which it takes
  --exact           -X   all digits
  --timeout              time-outs (tcp tcpfin udp)
  --thresholds           limits of connections
  --persistent-conn      clients that are bound to servers
  --tun-info             tunnels
  --sort, --nosort       accepted: services and servers are always in order

-a, -d and -D are `lb add server`, `lb remove server` and `lb remove service`: `lb overlay clear` undoes them, and
`lb save` writes them into the configuration file, see lb(8). -e is `lb weight`, for all directors of the cluster:
`lb weight SERVER configured` undoes it. What else changes the table is refused.
The environment variable LB_SOCKET names another control socket.
"
    )
}
