//! Why something that arrived on a heartbeat path was not handed on.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $label:literal;)+) => {
        /// Why a message was dropped. The number is the index of its counter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl DropReason {
            /// In the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The `reason` label of the metrics and listings.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

reasons! {
    /// Noise on a serial line, or a frame whose beginning or end is missing.
    BadFrame = 0, "bad_frame";
    /// Too short for any heartbeat.
    Truncated = 1, "truncated";
    /// Longer than any heartbeat.
    TooLong = 2, "too_long";
    /// Not a heartbeat at all: it does not begin as one.
    NotHeartbeat = 3, "not_heartbeat";
    /// Of a version of the wire format that this program does not speak: update the older node.
    BadVersion = 4, "bad_version";
    /// Of another cluster on the same network.
    ForeignCluster = 5, "foreign_cluster";
    /// Signed with a key id that our key file lacks.
    UnknownKey = 6, "unknown_key";
    /// The signature does not fit: mangled, forged, or the nodes' keys of this id differ.
    BadMac = 7, "bad_mac";
    /// Properly signed, but not what the format allows: a defect of the sender.
    Malformed = 8, "malformed";
    /// Our own message of this session, come back.
    FromMyself = 9, "from_myself";
    /// Under our own id but not of this session: another node has our id, or somebody replays our
    /// past.
    MyId = 10, "my_id";
    /// From a node that is not in our configuration.
    UnknownNode = 11, "unknown_node";
    /// The same message came before, over another path: that is how several paths should look.
    Duplicate = 12, "duplicate";
    /// A newer message overtook it on another path.
    Overtaken = 13, "overtaken";
    /// Far older than the newest one of its session.
    Replayed = 14, "replayed";
    /// Of an earlier session than the one we know.
    OldSession = 15, "old_session";
    /// Of a session that has not yet shown that it hears us. A few are normal when either node has
    /// just started; if they go on, the sender does not hear us (the path works one way only) or
    /// somebody replays.
    NotEchoed = 16, "not_echoed";
}

impl DropReason {
    pub const COUNT: usize = Self::ALL.len();

    /// Happens in a healthy cluster; nothing to warn of.
    pub const fn is_normal(self) -> bool {
        matches!(self, Self::Duplicate | Self::Overtaken | Self::NotEchoed | Self::FromMyself)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_and_labels_are_unique() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(DropReason::ALL.iter().filter(|other| other.label() == reason.label()).count() == 1);
        }
    }
}
