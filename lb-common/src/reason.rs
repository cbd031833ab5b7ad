//! Why a packet was dropped or passed to the host's own stack.

/// What happens to a packet that is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The packet ends here.
    Drop,
    /// The host's stack gets it.
    Pass,
    /// Its sender gets an answer in its place.
    Answer,
    /// The controller has it, and sends it in its turn or leaves it to the host.
    Hold,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $fate:ident, $label:literal;)+) => {
        /// Why a packet was not forwarded. The number is the index of its per-CPU counter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Reason {
            /// In the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Drop, pass, answer or hold: fixed for each reason, so that the counter's name tells
            /// what happened.
            pub const fn fate(self) -> Fate {
                match self { $(Self::$name => Fate::$fate,)+ }
            }

            /// In a sentence, as it stands at the reason.
            #[cfg(not(target_arch = "bpf"))]
            pub fn text(self) -> &'static str {
                let text = match self { $(Self::$name => concat!($($doc),+),)+ };
                text.trim().trim_end_matches('.')
            }

            /// The `reason` label of the metrics and listings.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

reasons! {
    /// Shorter than its IPv4 header; nobody can say whose it is.
    TruncatedIp = 0, Pass, "truncated_ip";
    /// An IPv4 header with another version number or a header length below 20 bytes.
    BadIpHeader = 1, Pass, "bad_ip_header";
    /// A later fragment to an address of a service, or from a server that is reached by address
    /// translation, and no first one is known that would tell its ports.
    FragmentUnknown = 2, Pass, "fragment_unknown";
    /// Too short to hold the ports.
    TruncatedPorts = 3, Pass, "truncated_ports";
    /// For a service, but sent to another station's MAC (flooded by a switch): forwarding would
    /// duplicate it.
    NotOurMac = 4, Pass, "not_our_mac";
    /// This director is on standby for the VIP's group: it gave its lease up or never had one.
    Standby = 5, Pass, "standby";
    /// In mid-connection, no entry knows it, and the service passes such packets to the host.
    Stray = 6, Pass, "stray";
    /// No real server was usable and the host serves instead (`fallback: local`).
    LocalFallback = 7, Pass, "local_fallback";
    /// For a service, but its lengths contradict each other or the frame.
    BadLength = 8, Drop, "bad_length";
    /// TCP flags that no connection sends: SYN with FIN or RST.
    BadTcpFlags = 9, Drop, "bad_tcp_flags";
    /// The source address is the service's own (a LAND packet).
    SourceIsVip = 10, Drop, "source_is_vip";
    /// Time to live 0 on arrival, or 1 where addresses are translated and the director is a hop,
    /// and nothing was sent back: too many ICMP errors, or a packet that must not be answered.
    TtlExpired = 11, Drop, "ttl_expired";
    /// The packet came from the very server it would go to, and had been sent back there before:
    /// that server lacks the VIP.
    Loop = 12, Drop, "loop";
    /// No real server is usable and the service has no fallback.
    NoServer = 13, Drop, "no_server";
    /// Its server's MAC is not known (any more).
    NoMac = 14, Drop, "no_mac";
    /// A map held nothing where something must be: a defect, here or in the controller.
    MapInconsistency = 15, Drop, "map_inconsistency";
    /// The lease of the VIP's group ran out not long ago, and the address may still be on the
    /// interface.
    LeaseLapsed = 16, Drop, "lease_lapsed";
    /// An ARP request or neighbour solicitation for a VIP whose group has no lease here.
    ArpSilenced = 17, Drop, "arp_silenced";
    /// The answer to a probe through a VIP, and no socket of the controller is there to take it.
    ProbeUnheard = 18, Drop, "probe_unheard";
    /// A probe through a VIP that its server has sent on instead of answering it.
    ProbeAstray = 19, Drop, "probe_astray";
    /// Its server is the director's own host.
    LocalServer = 20, Pass, "local_server";
    /// Another director has balanced it, and picked this host.
    PeerBalanced = 21, Pass, "peer_balanced";
    /// No real server is usable, and the service refuses clients then: a TCP reset or an ICMP error
    /// went back.
    Refused = 22, Answer, "refused";
    /// As `Refused`, but nothing was sent: too many ICMP errors, or a packet that must not be
    /// answered.
    RefusedSilently = 23, Drop, "refused_silently";
    /// In mid-connection, and no entry knows it yet: this `lb` has just taken over, and connections
    /// are still being copied.
    StrayHeld = 24, Drop, "stray_held";
    /// Its service's schedule names a scheduler that this program does not know: a defect of the
    /// controller.
    UnknownScheduler = 25, Drop, "unknown_scheduler";
    /// It does not fit into the tunnel to its server, or onto the interface that the server is
    /// behind: the sender was told what does.
    TooBig = 26, Answer, "too_big";
    /// The same, but nothing was sent: too many ICMP errors, or a packet that must not be answered.
    /// Also where the driver has left no room before the frame for the headers.
    TooBigSilently = 27, Drop, "too_big_silently";
    /// An ICMP error about a packet of a service, of a connection that the table does not know.
    IcmpUnknown = 28, Pass, "icmp_unknown";
    /// A fragment that carries again what another one of its datagram has carried.
    FragmentOverlap = 29, Drop, "fragment_overlap";
    /// A fragment of a datagram of which too many separate stretches have come.
    FragmentScattered = 30, Drop, "fragment_scattered";
    /// A fragment that came before the first one of its datagram, or long before others: it is held
    /// and sent in its turn, or after half a second left to the host.
    FragmentHeld = 31, Hold, "fragment_held";
    /// It came from another VLAN than its service has its clients in, and its server is in a VLAN
    /// of its own; or it is such a server's answer, and came from another VLAN than that.
    ForeignVlan = 32, Drop, "foreign_vlan";
    /// Its server is behind an interface that is gone.
    NoInterface = 33, Drop, "no_interface";
    /// Its server is reached by address translation (`forward: masq`) and is in the client's own
    /// subnet, so it would answer the client directly, from an address that the client does not
    /// know.
    ClientNearServer = 34, Drop, "client_near_server";
    /// It opens a connection through address translation while another one from the same address
    /// and port goes to the same server by another service: the server could not tell them apart.
    NatClash = 35, Drop, "nat_clash";
    /// A server's answer, and no route or MAC is known by which it would get to the client.
    NoWayBack = 36, Drop, "no_way_back";
    /// Its server gets clients' packets from addresses of `source_nat`, and no port of these was
    /// found free for the connection.
    NoSourcePort = 37, Drop, "no_source_port";
    /// Its time to live was 1 where addresses are translated and the director is a hop: the sender
    /// was told (ICMP time exceeded).
    TtlAnswered = 38, Answer, "ttl_answered";
    /// Its server is down, and its service has the connections of such a server reset: a TCP reset
    /// went back.
    ServerDead = 39, Answer, "server_dead";
    /// Its client is in a list of those who are denied (`clients: deny`).
    ClientDenied = 40, Drop, "client_denied";
    /// It opens a connection, and its client is not in the list of those whom the service allows
    /// (`clients: allow`).
    ClientUnlisted = 41, Drop, "client_unlisted";
    /// It opens a connection, and its client has opened too many just now (`clients: each:
    /// new_per_second`).
    ClientNewLimit = 42, Drop, "client_new_limit";
    /// Its client has sent too many packets just now (`clients: each: packets_per_second`).
    ClientPacketLimit = 43, Drop, "client_packet_limit";
    /// It opens a connection, and its client has as many as it may have (`clients: each:
    /// connections`).
    ClientConnectionLimit = 44, Drop, "client_connection_limit";
    /// It opens a connection, and all clients of the service together have opened too many just now
    /// (`clients: all: new_per_second`).
    ServiceNewLimit = 45, Drop, "service_new_limit";
    /// All clients of the service together have sent too many packets just now (`clients: all:
    /// packets_per_second`).
    ServicePacketLimit = 46, Drop, "service_packet_limit";
}

impl Reason {
    pub const COUNT: usize = Self::ALL.len();
}

/// What the connection table did; the number is the index of its per-CPU counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum TableEvent {
    /// A half-open or closed entry was given up for a new connection.
    Evicted = 0,
    /// No slot could be had: the packet went by the hash of its client.
    Full = 1,
    /// Another CPU claimed the slot first; the next one was tried.
    Contended = 2,
    /// The table did not know a packet in mid-connection: the other director of a hand-over got it.
    Relayed = 3,
    /// A packet that opens a connection had a checksum that was left to hardware.
    PartialChecksum = 4,
    /// A QUIC packet of a client that has changed its address went to the server that its
    /// connection ID names.
    QuicMoved = 5,
    /// A connection went on of a client that was bound no more: its binding had given way to other
    /// clients', because the map of bindings was full. The client is bound anew.
    BindingLost = 6,
}

impl TableEvent {
    pub const COUNT: usize = Self::ALL.len();
    /// In the order of their numbers.
    pub const ALL: &[Self] = &[
        Self::Evicted,
        Self::Full,
        Self::Contended,
        Self::Relayed,
        Self::PartialChecksum,
        Self::QuicMoved,
        Self::BindingLost,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_and_labels_are_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(!reason.text().is_empty() && !reason.text().ends_with('.'), "{}", reason.text());
            assert!(Reason::ALL.iter().filter(|other| other.label() == reason.label()).count() == 1);
        }
    }
}
