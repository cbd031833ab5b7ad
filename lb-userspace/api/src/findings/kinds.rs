//! Every kind of finding. To add one: an entry here, and whoever sees it raises it.

use crate::events::Level;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $label:literal, $level:ident;)+) => {
        /// What kind of thing is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The label `finding` of the metric `lb_finding`, and the id in listings and events; these stay.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// How bad it is: an error costs clients something now, a warning may.
            pub const fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)+ }
            }
        }
    };
}

kinds! {
    /// Another machine answers for a VIP that this director holds.
    VipClaimed = "vip_claimed", Error;
    /// Another interface of this host answers for a VIP: packets that come in by it are not balanced.
    VipOnOtherInterface = "vip_on_other_interface", Error;
    /// The driver throws away what the XDP program sends.
    FramesLost = "frames_lost", Error;
    /// Packets come with checksums that were left to hardware which never sees them.
    ChecksumsUnfinished = "checksums_unfinished", Error;
    /// Somebody removes a VIP from the interface again and again, or once a short while ago.
    VipRemoved = "vip_removed", Warning;
    /// Packets of this host's own would have a VIP as their source.
    VipIsSource = "vip_is_source", Error;
    /// The host's firewall has rules about a VIP, which packets that XDP forwards never meet.
    FirewallBypassed = "firewall_bypassed", Warning;
    /// A real server sends packets for a VIP on instead of serving them.
    ServerForwards = "server_forwards", Error;
    /// This host is a real server of a service and lacks its VIP while another director is active.
    VipNotOnLoopback = "vip_not_on_loopback", Warning;
    /// Another director signs its heartbeats with a key that this one does not have.
    KeyMismatch = "key_mismatch", Error;
    /// The address of the metrics cannot be had.
    MetricsUnavailable = "metrics_unavailable", Warning;
}
