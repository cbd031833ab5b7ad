//! All kinds of findings. To add one, add an entry here, and raise it where the problem is
//! detected.

use crate::events::Level;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal, $level:ident;)+) => {
        /// The kind of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The label `finding` of the metric `lb_finding`, and the id in listings and events;
            /// labels are stable.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// Severity: an error affects clients now, a warning may do so.
            pub const fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)+ }
            }
        }
    };
}

kinds! {
    /// Another machine answers for a VIP that this director holds.
    VipClaimed = "vip_claimed", Error;
    /// Another interface of this host answers for a VIP: packets that arrive there are not
    /// balanced.
    VipOnOtherInterface = "vip_on_other_interface", Error;
    /// The driver drops packets that the XDP program sends.
    FramesLost = "frames_lost", Error;
    /// Packets arrive with unfinished checksums, left to hardware (offload) that never sees them.
    ChecksumsUnfinished = "checksums_unfinished", Error;
    /// Another program removes a VIP from the interface repeatedly, or did so recently.
    VipRemoved = "vip_removed", Warning;
    /// This host's own packets would have a VIP as their source address.
    VipIsSource = "vip_is_source", Error;
    /// The host's firewall has rules for a VIP, which packets forwarded by XDP bypass.
    FirewallBypassed = "firewall_bypassed", Warning;
    /// A real server forwards packets for a VIP instead of serving them.
    ServerForwards = "server_forwards", Error;
    /// This host is a real server of a service and lacks its VIP while another director is active.
    VipNotOnLoopback = "vip_not_on_loopback", Warning;
    /// A command of the configuration, or `lb` itself, has made a system call that the filter
    /// refuses.
    SystemCallRefused = "system_call_refused", Warning;
    /// `lb` could not give up what it does not need, or does not hear of what is refused.
    Unconfined = "unconfined", Warning;
    /// Another director authenticates its heartbeats with a key that this one does not have.
    KeyMismatch = "key_mismatch", Error;
    /// Another director is alive and does not answer to what it is told of connections.
    SyncSilent = "sync_silent", Error;
    /// No packets get to a server by its tunnel or by address translation, or not all that clients
    /// may send.
    TunnelUnusable = "tunnel_unusable", Error;
    /// No packets get to a server by the interface that it is behind.
    InterfaceUnusable = "interface_unusable", Error;
    /// An interface that packets of clients, or of servers behind address translation, come in by,
    /// besides the main one, is gone.
    IngressGone = "ingress_gone", Error;
    /// A VIP is on another interface than the one whose network it belongs to.
    VipMisplaced = "vip_misplaced", Warning;
    /// The network card takes VLAN tags off, so packets would leave without them.
    VlanTagsStripped = "vlan_tags_stripped", Error;
    /// The interface is of a kind, or belongs to another one, that a director has less of.
    InterfaceUnsuited = "interface_unsuited", Warning;
    /// An interface that servers are behind takes nothing that the XDP program redirects to it.
    RedirectsLost = "redirects_lost", Error;
    /// What servers send that are reached by address translation does not get to all clients.
    NoWayBack = "no_way_back", Error;
    /// Clients in the own subnet of a server that is reached by address translation are refused.
    ClientNearServer = "client_near_server", Error;
    /// A server that is reached by address translation is in the VIP's own subnet, so clients there
    /// will be refused.
    MasqNearVip = "masq_near_vip", Warning;
    /// No port of `source_nat` was free for a connection.
    SourcePortsExhausted = "source_ports_exhausted", Error;
    /// An address of `source_nat` is none of this host's, so servers get no answer from it.
    SourceNatMissing = "source_nat_missing", Error;
    /// The address of the metrics endpoint is not available.
    MetricsUnavailable = "metrics_unavailable", Warning;
    /// Nothing gets through to a receiver of alerts.
    AlertsUndelivered = "alerts_undelivered", Warning;
    /// The page and the HTTP API are not served: their address, certificate or tokens are missing.
    WebUnavailable = "web_unavailable", Warning;
    /// What was changed at run time stands in a file that cannot be read, so it is left out.
    OverlayUnreadable = "overlay_unreadable", Error;
}
