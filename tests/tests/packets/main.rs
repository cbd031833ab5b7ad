//! Packets in, packets out: the real XDP program in the kernel, by BPF_PROG_TEST_RUN. Needs root.
//!
//! | module | what it shows |
//! |---|---|
//! | [`lb_tests::harness`] | a loaded director, packets, clusters |
//! | [`forwarding`] | direct routing changes the MACs and nothing else |
//! | [`gateway`] | a server that is the gateway of clients: packets go back where they came from |
//! | [`directors`] | directors that are real servers: what the other one has balanced |
//! | [`passed`] | what is not ours goes to the host, unchanged and uncounted |
//! | [`reasons`] | every reason not to forward: provoked, acted on, counted |
//! | [`admission`] | which clients a service takes, and how much of them |
//! | [`connections`] | who stays where: SYN, FIN, RST, UDP, strays, time-outs |
//! | [`servers`] | weight 0, unusable, no MAC, fallback, removal, reload |
//! | [`refusals`] | answers from the VIP when there is no server |
//! | [`nat`] | servers behind address translation: both ways, checksums, states, errors, fragments |
//! | [`egress`] | other interfaces, other VLAN tags, and that no packet leaves its VLAN |
//! | [`tunnels`] | servers behind tunnels: every kind and family, byte by byte; what does not fit |
//! | [`persistence`] | clients that are bound: prefixes, time, dead servers, weight 0, groups |
//! | [`ports`] | services with lists and ranges of ports, and with all |
//! | [`ops`] | each datagram scheduled by itself |
//! | [`quic`] | connection IDs that name their server |
//! | [`leases`] | who balances when: leases, lapse, grace, and strays between two directors |
//! | [`moves`] | a group that moves to and fro while clients use ports again |
//! | [`serving_on`] | a director whose process is gone: what another one relays to it |
//! | [`silence`] | ARP requests and neighbour solicitations for VIPs without a lease |
//! | [`ipv6`] | IPv6 packets to VIPs: the host's, dropped after a lease has run out |
//! | [`ipv6_services`] | services of IPv6: the same as of IPv4 |
//! | [`stand_in`] | without them the host gets all packets of IPv6, by one small program |
//! | [`known`] | known connections of tunnels and address translation take the fast way alone |
//! | [`fixtures`] | cases as data: what comes in, what goes out, what is counted |
//! | [`fragments`] | fragments follow the first one; overlaps |
//! | [`icmp`] | ICMP errors go where the packets of their connection go |
//! | [`probes`] | the controller's own probes through a VIP, and the answers to them |
//! | [`schedulers`] | exact picks of rr, wrr, lc and wlc |
//! | [`sizes`] | as many services, and servers of one, as there may be |
//! | [`more_schedulers`] | sed, nq, sh, dh, mh, fo, ovf, twos; strays of those that hash |
//! | [`cpus`] | several CPUs at once |
//! | [`thresholds`] | servers with as many connections as they may have |
//! | [`table`] | floods, a full table, expiry |
//! | [`table_model`] | random histories against a model of the table |
//! | [`trace`] | what is told of single packets while somebody traces |
//! | [`capture`] | frames told as they came in and as they went out |
//! | [`unfinished`] | checksums that were left to hardware, told from right ones |
//! | [`verifier`] | how much of it the program uses |
//! | [`differential`] | the model on the host and the programs, on the same bytes |
//! | [`malformed`] | arbitrary bytes: the kernel's verdict is the host's |

mod admission;
mod capture;
mod connections;
mod cpus;
mod differential;
mod directors;
mod egress;
mod fixtures;
mod forwarding;
mod fragments;
mod gateway;
mod giving_up;
mod icmp;
mod ingress;
mod ipv6;
mod ipv6_services;
mod known;
mod leases;
mod malformed;
mod more_schedulers;
mod moves;
mod nat;
mod ops;
mod passed;
mod persistence;
mod ports;
mod probes;
mod quic;
mod reasons;
mod refusals;
mod schedulers;
mod servers;
mod serving_on;
mod silence;
mod sizes;
mod stand_in;
mod table;
mod table_model;
mod thresholds;
mod trace;
mod tunnels;
mod unfinished;
mod verifier;
