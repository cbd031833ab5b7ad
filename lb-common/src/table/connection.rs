//! One connection's entry in the table: its key, its state, its time-out, and what counts as
//! active.
//!
//! A director in direct routing sees only the client's half of a connection: no SYN-ACK, no FIN or
//! RST of the server. The states follow from what the client sends ([`step`]); time-outs do the
//! rest. Where addresses are translated it sees both halves, and what the server sends counts too
//! ([`answer`]).
//!
//! A source address is made up easily, so two packets are no proof of a client: what has sent
//! nothing after its handshake, or two datagrams, is *unproven* ([`State::is_unproven`]). It counts
//! and is served like all others, but it takes the slow way and gives way where a new connection
//! finds no room. Data prove a client, and so does its staying ([`matured`]). Other directors are
//! told of a handshake that was answered after all else, and not of more than so many a second.

mod key;

pub use self::key::{Key, KeyV4, KeyV6};
use crate::server::{Counts, ServerId};
use crate::service::Protocol;

/// TCP flags of the header's byte 13 (RFC 9293, section 3.1).
pub mod tcp_flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
    /// In the place of PSH, which decides nothing here: the packet carries data. Set by
    /// [`crate::packet::frame::check`].
    pub const DATA: u8 = 0x08;
}

/// Where a connection stands, as far as packets told. The number is also the index into
/// [`Timeouts`], see [`Self::timeout_index`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// A SYN and nothing after it.
    SynRecv = 1,
    Established = 2,
    /// The client has sent its FIN.
    FinWait = 3,
    /// The client has sent a RST, or the server has.
    Closed = 4,
    /// One UDP datagram.
    UdpNew = 5,
    /// More than one.
    Udp = 6,
    /// The server has sent its FIN, and the client has not.
    CloseWait = 7,
    /// Both have sent their FIN.
    TimeWait = 8,
    /// The client has sent its FIN, and no data before it.
    FinUnproven = 11,
    /// Two UDP datagrams.
    UdpUnproven = 13,
    /// The client has answered the handshake and has sent no data after that.
    Unproven = 14,
}

impl State {
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::SynRecv),
            2 => Some(Self::Established),
            3 => Some(Self::FinWait),
            4 => Some(Self::Closed),
            5 => Some(Self::UdpNew),
            6 => Some(Self::Udp),
            7 => Some(Self::CloseWait),
            8 => Some(Self::TimeWait),
            11 => Some(Self::FinUnproven),
            13 => Some(Self::UdpUnproven),
            14 => Some(Self::Unproven),
            _ => None,
        }
    }

    /// Its place in [`Timeouts`]: a power of two of them, so that a mask bounds the index. The
    /// numbers of unproven states are such that they share the time-out of their proven one, but
    /// for `Unproven`: a TCP service has no other use for UDP's place.
    #[inline(always)]
    pub const fn timeout_index(self) -> usize {
        self as usize & 7
    }

    /// Whether it counts as active; every other state is inactive.
    #[inline(always)]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Established | Self::Unproven)
    }

    /// Whether the client has ended the connection, as far as it was seen here.
    #[inline(always)]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::FinWait | Self::Closed | Self::TimeWait | Self::FinUnproven)
    }

    /// Whether neither side sends anything more, as far as it was seen here.
    #[inline(always)]
    pub const fn is_over_for_both(self) -> bool {
        matches!(self, Self::Closed | Self::TimeWait)
    }

    /// Whether an entry may be given up for a new connection: nobody would miss it, or nothing has
    /// proven it yet. Other directors are not told of it, but see [`is_news`].
    #[inline(always)]
    pub const fn is_evictable(self) -> bool {
        matches!(self, Self::SynRecv | Self::Closed | Self::UdpNew | Self::TimeWait) || self.is_unproven()
    }

    /// Whether it is more than a first packet, but may come from somebody who makes up sources:
    /// given up for a new connection once nothing else is left that is evictable.
    #[inline(always)]
    pub const fn is_unproven(self) -> bool {
        matches!(self, Self::Unproven | Self::UdpUnproven | Self::FinUnproven)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::Closed => "CLOSED",
            Self::UdpNew => "UDP_NEW",
            Self::Udp => "UDP",
            Self::CloseWait => "CLOSE_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::FinUnproven => "FIN_UNPROVEN",
            Self::UdpUnproven => "UDP_UNPROVEN",
            Self::Unproven => "UNPROVEN",
        }
    }
}

/// What a packet does to a connection that the table knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The connection is (still or now) in this state.
    To(State),
    /// The old connection is over, this packet opens a new one with the same addresses.
    Reopen,
}

/// State of a known connection after a packet of the client. `flags` is the TCP header's byte 13
/// with [`tcp_flags::DATA`], ignored for UDP.
#[inline(always)]
pub const fn step(state: State, flags: u8) -> Step {
    match state {
        // Nearly every packet, so it is asked first.
        State::Established if goes_on(flags) => Step::To(State::Established),
        State::UdpNew => Step::To(State::UdpUnproven),
        State::UdpUnproven | State::Udp => Step::To(State::Udp),
        _ if flags & tcp_flags::RST != 0 => Step::To(State::Closed),
        _ if opens(flags) => match state {
            State::SynRecv | State::Established | State::Unproven => Step::To(state),
            _ => Step::Reopen,
        },
        // What answers the handshake proves nothing, with data or without: it is a second packet.
        State::SynRecv | State::Unproven if flags & tcp_flags::FIN != 0 => {
            let proven = matches!(state, State::Unproven) && flags & tcp_flags::DATA != 0;
            Step::To(if proven { State::FinWait } else { State::FinUnproven })
        }
        State::SynRecv if flags & tcp_flags::ACK != 0 => Step::To(State::Unproven),
        State::Unproven if flags & (tcp_flags::ACK | tcp_flags::DATA) == tcp_flags::ACK | tcp_flags::DATA => {
            Step::To(State::Established)
        }
        State::Established if flags & tcp_flags::FIN != 0 => Step::To(State::FinWait),
        State::CloseWait if flags & tcp_flags::FIN != 0 => Step::To(State::TimeWait),
        _ => Step::To(state),
    }
}

/// State of a connection of which a packet has come that leaves it in `state`, some time after its
/// entry was written: whoever stays is no made-up source.
#[inline(always)]
pub const fn matured(state: State) -> State {
    match state {
        State::Unproven => State::Established,
        _ => state,
    }
}

/// Whether other directors must hear of a connection that was in one state and now is in another.
/// Of one whose server speaks first they hear once the client has answered the handshake: it may
/// have nothing to say for long.
#[inline(always)]
pub const fn is_news(before: State, after: State) -> bool {
    let is_answered = matches!((before, after), (State::SynRecv, State::Unproven));
    is_answered || !(before.is_evictable() && after.is_evictable())
}

/// State of a known connection after a packet of its server. `flags` as in [`step`].
#[inline(always)]
pub const fn answer(state: State, flags: u8) -> State {
    const SENT: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::ACK;
    match state {
        State::Established if goes_on(flags) => State::Established,
        State::UdpNew | State::UdpUnproven | State::Udp | State::Closed | State::TimeWait => state,
        _ if flags & tcp_flags::RST != 0 => State::Closed,
        // A SYN-ACK, and nothing else that a server begins with.
        _ if flags & tcp_flags::SYN != 0 => state,
        State::Established | State::Unproven | State::SynRecv if flags & tcp_flags::FIN != 0 => {
            State::CloseWait
        }
        State::FinWait | State::FinUnproven if flags & tcp_flags::FIN != 0 => State::TimeWait,
        // The server has had the right acknowledgement, or it would reset the connection.
        State::SynRecv | State::Unproven if flags & SENT == tcp_flags::ACK => State::Established,
        _ => state,
    }
}

/// Whether a TCP packet leaves an established connection as it is.
#[inline(always)]
pub const fn goes_on(flags: u8) -> bool {
    const DECIDING: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST | tcp_flags::ACK;
    flags & DECIDING == tcp_flags::ACK
}

/// The steady state of each protocol: packets that `frame::plain` accepts leave it unchanged.
#[inline(always)]
pub const fn steady(protocol: Protocol) -> State {
    match protocol {
        Protocol::Tcp => State::Established,
        Protocol::Udp => State::Udp,
    }
}

/// Whether a TCP packet opens a connection: SYN without ACK.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN
}

/// State of a connection after its first packet; `None` for a TCP packet that opens none.
#[inline(always)]
pub const fn first(protocol: Protocol, flags: u8) -> Option<State> {
    match protocol {
        Protocol::Udp => Some(State::UdpNew),
        Protocol::Tcp if opens(flags) => Some(State::SynRecv),
        Protocol::Tcp => None,
    }
}

/// Coarse time: units of 2^28 ns (about 0.27 s) of CLOCK_MONOTONIC, modulo 2^24 (52 days).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick(pub u32);

/// Length of a tick as a power of two of nanoseconds.
pub const TICK_SHIFT: u32 = 28;
const TICK_MASK: u32 = 0x00ff_ffff;

impl Tick {
    #[inline(always)]
    pub const fn from_ns(ns: u64) -> Self {
        Self((ns >> TICK_SHIFT) as u32 & TICK_MASK)
    }
    #[inline(always)]
    pub const fn plus(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks) & TICK_MASK)
    }
    #[inline(always)]
    pub const fn before(self) -> Self {
        Self(self.0.wrapping_sub(1) & TICK_MASK)
    }
    /// Whether `self` has come at `now`. Right as long as the two are less than 26 days apart.
    #[inline(always)]
    pub const fn is_past(self, now: Self) -> bool {
        now.0.wrapping_sub(self.0) & TICK_MASK < 1 << 23
    }
    /// Ticks from `now` until `self`, 0 if it is past.
    #[inline(always)]
    pub const fn ticks_after(self, now: Self) -> u32 {
        if self.is_past(now) { 0 } else { self.0.wrapping_sub(now.0) & TICK_MASK }
    }
}

/// Ticks that cover a time-out of so many milliseconds: rounded up, one more because the current
/// tick has begun.
pub const fn ticks_from_ms(ms: u64) -> u32 {
    ((ms * 1_000_000).div_ceil(1 << TICK_SHIFT) + 1) as u32
}

/// How much longer than its time-out an idle entry may stay, in ticks: an eighth of the time-out,
/// at most 17 s.
///
/// An entry's expiry is written ahead by this much and left alone until it is used up, so that a
/// packet of a known connection seldom writes to the table. With a million connections, a write per
/// packet would double its cost.
#[inline(always)]
pub const fn slack(timeout: u32) -> u32 {
    let eighth = timeout >> 3;
    if eighth > 64 { 64 } else { eighth }
}

/// Time-outs in ticks, by [`State::timeout_index`].
pub type Timeouts = [u32; 8];

/// How often this director has taken a group and given it up, modulo 16. An entry holds the
/// generation of its group's lease ([`crate::lease::Lease::generation`]) in which it was written
/// last: what another generation wrote may have been overtaken by a connection that the client has
/// opened through another director, from the same port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u8);

impl Generation {
    const MASK: u8 = 0xf;

    /// Of a number, whose low bits count.
    #[inline(always)]
    pub const fn from_number(number: u64) -> Self {
        Self(number as u8 & Self::MASK)
    }
    pub const fn number(self) -> u64 {
        self.0 as u64
    }
    #[inline(always)]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1) & Self::MASK)
    }
    #[inline(always)]
    pub const fn before(self) -> Self {
        Self(self.0.wrapping_sub(1) & Self::MASK)
    }

    /// The mark of an earlier entry about which the other director was asked in this generation,
    /// and did not send the packet back: the farthest number.
    #[inline(always)]
    pub const fn disputed(self) -> Self {
        Self(self.0 ^ 8)
    }
}

/// What the table knows of a connection besides its key, in one word: bits 0 to 23 the tick when it
/// expires, 24 to 27 the state, 28 to 31 the generation, 32 to 47 the server. Where the entry
/// stands in another line than its first: bit 54, and in bits 48 to 53 its first line's number.
/// Bits 55 to 63: the tick in which it was written, modulo 512 (137 s), by which those are told
/// apart that may be given up. The word 0 is an empty slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    pub const EMPTY: Self = Self(0);
    const CLAIMED: u64 = 15;
    const HOME_SHIFT: u32 = 48;
    const AWAY: u64 = 1 << 54;
    /// What tells where it stands.
    const STANDING: u64 = Self::AWAY | 0x3f << Self::HOME_SHIFT;
    const WRITTEN_SHIFT: u32 = 55;
    /// No entry is older than this, as far as it tells.
    pub const MOST_TICKS_OLD: u32 = 511;

    #[inline(always)]
    pub const fn new(server: ServerId, state: State, expires: Tick, generation: Generation) -> Self {
        let head = (generation.0 as u64) << 28 | (state as u64) << 24;
        Self((server.0 as u64) << 32 | head | expires.0 as u64)
    }

    /// The same entry, written now.
    #[inline(always)]
    pub const fn written(self, now: Tick) -> Self {
        let written = (now.0 & Self::MOST_TICKS_OLD) as u64;
        Self(self.0 & !(u64::MAX << Self::WRITTEN_SHIFT) | written << Self::WRITTEN_SHIFT)
    }

    /// Ticks since it was written, modulo 512.
    #[inline(always)]
    pub const fn age(self, now: Tick) -> u32 {
        now.0.wrapping_sub((self.0 >> Self::WRITTEN_SHIFT) as u32) & Self::MOST_TICKS_OLD
    }

    /// A slot being written by one CPU. Others leave it alone until `expires`.
    #[inline(always)]
    pub const fn claim(expires: Tick) -> Self {
        Self(Self::CLAIMED << 24 | expires.0 as u64)
    }

    #[inline(always)]
    pub const fn server(self) -> ServerId {
        ServerId((self.0 >> 32) as u16)
    }

    /// `None`: empty or claimed.
    #[inline(always)]
    pub const fn state(self) -> Option<State> {
        State::from_bits(self.state_bits())
    }

    /// The state's number, or another one below 16.
    #[inline(always)]
    pub const fn state_bits(self) -> u8 {
        (self.0 >> 24) as u8 & 0xf
    }

    #[inline(always)]
    pub const fn generation(self) -> Generation {
        Generation((self.0 >> 28) as u8 & Generation::MASK)
    }

    #[inline(always)]
    pub const fn with_generation(self, generation: Generation) -> Self {
        Self(self.0 & !((Generation::MASK as u64) << 28) | (generation.0 as u64) << 28)
    }

    /// Whether it is in this state, of this generation, and expires `timeout` ticks after `now` or
    /// later: nothing to write.
    #[inline(always)]
    pub const fn is_settled(self, state: State, generation: Generation, now: Tick, timeout: u32) -> bool {
        // Both as the high 24 bits of a signed number: of what is past the sign tells.
        let left = (self.0 as u32).wrapping_sub(now.0) << 8;
        (self.0 >> 24) as u8 == generation.0 << 4 | state as u8 && left as i32 >= (timeout << 8) as i32
    }

    /// The same entry in its first line.
    #[inline(always)]
    pub const fn at_home(self) -> Self {
        Self(self.0 & !Self::STANDING)
    }

    /// The same entry in another line than its first, which is `line`.
    #[inline(always)]
    pub const fn away_from(self, line: u32) -> Self {
        Self(self.at_home().0 | Self::AWAY | (line as u64) << Self::HOME_SHIFT)
    }

    /// The same entry where `other` stands.
    #[inline(always)]
    pub const fn in_place_of(self, other: Self) -> Self {
        Self(self.at_home().0 | other.0 & Self::STANDING)
    }

    /// Its first line, if it stands in another one.
    pub const fn away(self) -> Option<u32> {
        if self.0 & Self::AWAY == 0 { None } else { Some((self.0 >> Self::HOME_SHIFT) as u32 & 0x3f) }
    }

    #[inline(always)]
    pub const fn expires(self) -> Tick {
        Tick(self.0 as u32 & TICK_MASK)
    }

    /// What this entry adds to its server's [`Counts`]; 0 for an empty or claimed slot.
    #[inline(always)]
    pub const fn counts(self) -> u64 {
        match self.state() {
            Some(state) => Counts::of_one(state.is_active()),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests;
