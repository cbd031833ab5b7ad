use super::tcp_flags::*;
use super::*;

#[test]
fn a_connection_lives_from_syn_to_fin() {
    assert_eq!(first(Protocol::Tcp, SYN), Some(State::SynRecv));
    assert_eq!(step(State::SynRecv, SYN), Step::To(State::SynRecv));
    assert_eq!(step(State::SynRecv, ACK), Step::To(State::Unproven));
    assert_eq!(step(State::Unproven, ACK | DATA), Step::To(State::Established));
    assert_eq!(step(State::Established, ACK), Step::To(State::Established));
    assert_eq!(step(State::Established, SYN), Step::To(State::Established));
    assert_eq!(step(State::Established, FIN | ACK), Step::To(State::FinWait));
    assert_eq!(step(State::FinWait, ACK), Step::To(State::FinWait));
    assert_eq!(step(State::FinWait, SYN), Step::Reopen);
}

/// Two packets are no proof, whatever is in them.
#[test]
fn only_a_third_packet_proves_a_client() {
    use State::*;
    for flags in (0..=u8::MAX).filter(|flags| flags & (SYN | RST) == 0) {
        let Step::To(state) = step(SynRecv, flags) else { panic!("{flags:#x} reopens") };
        assert!(state.is_evictable(), "{flags:#x} leads to {state:?}");
    }
    for (state, flags, after) in [
        (SynRecv, ACK | DATA, Unproven),
        (SynRecv, FIN | ACK | DATA, FinUnproven),
        (Unproven, SYN, Unproven),
        (Unproven, ACK, Unproven),
        (Unproven, DATA, Unproven),
        (Unproven, FIN | ACK, FinUnproven),
        (Unproven, FIN | ACK | DATA, FinWait),
        (FinUnproven, ACK | DATA, FinUnproven),
        (UdpNew, 0, UdpUnproven),
        (UdpUnproven, 0, Udp),
    ] {
        assert_eq!(step(state, flags), Step::To(after), "{state:?} {flags:#x}");
    }
    assert_eq!(step(FinUnproven, SYN), Step::Reopen);
    assert_eq!(
        (matured(Unproven), matured(FinUnproven), matured(SynRecv)),
        (Established, FinUnproven, SynRecv)
    );
    // A server that goes on has had the acknowledgement that a made-up source does not know.
    assert_eq!((answer(Unproven, ACK), answer(Unproven, SYN | ACK)), (Established, Unproven));
    assert_eq!((answer(Unproven, FIN | ACK), answer(FinUnproven, FIN | ACK)), (CloseWait, TimeWait));
    assert_eq!((answer(Unproven, RST), answer(UdpUnproven, 0)), (Closed, UdpUnproven));
    assert!(Unproven.is_active() && !UdpUnproven.is_active() && FinUnproven.is_over());
    assert!(is_news(SynRecv, Unproven) && is_news(Unproven, Established) && is_news(Established, Closed));
    assert!(!is_news(Unproven, Closed) && !is_news(Unproven, FinUnproven));
    assert!(!is_news(SynRecv, Closed) && !is_news(UdpNew, UdpUnproven), "what a flood does");
}

#[test]
fn a_reset_closes_from_every_tcp_state() {
    for state in [State::SynRecv, State::Unproven, State::Established, State::FinWait, State::Closed] {
        assert_eq!(step(state, RST), Step::To(State::Closed));
        assert_eq!(step(state, RST | ACK), Step::To(State::Closed));
    }
    assert_eq!(step(State::Closed, SYN), Step::Reopen);
    assert_eq!(step(State::Closed, ACK), Step::To(State::Closed));
}

/// What IPVS does with packets of the client and of the server in its tables of states where
/// addresses are translated (`INPUT` and `OUTPUT`), in our words: its CLOSE_WAIT, in which the
/// client has sent a FIN, is our FIN_WAIT, and the reverse.
#[test]
fn both_halves_of_a_connection_are_seen() {
    use State::{CloseWait, Closed, Established, FinWait, SynRecv, TimeWait};
    for (state, flags, after) in [
        (SynRecv, SYN | ACK, SynRecv),
        (SynRecv, ACK, Established),
        (SynRecv, RST | ACK, Closed),
        (Established, ACK, Established),
        (Established, FIN | ACK, CloseWait),
        (Established, RST, Closed),
        (FinWait, ACK, FinWait),
        (FinWait, FIN | ACK, TimeWait),
        (FinWait, RST, Closed),
        (CloseWait, FIN | ACK, CloseWait),
        (CloseWait, ACK, CloseWait),
        (CloseWait, RST, Closed),
        (TimeWait, FIN | ACK, TimeWait),
        (TimeWait, RST, TimeWait),
        (Closed, ACK, Closed),
        (State::UdpNew, 0, State::UdpNew),
        (State::Udp, 0, State::Udp),
    ] {
        assert_eq!(answer(state, flags), after, "{state:?} {flags:#x}");
    }
    for (state, flags, after) in [
        (CloseWait, ACK, Step::To(CloseWait)),
        (CloseWait, FIN | ACK, Step::To(TimeWait)),
        (CloseWait, RST, Step::To(Closed)),
        (CloseWait, SYN, Step::Reopen),
        (TimeWait, ACK, Step::To(TimeWait)),
        (TimeWait, FIN | ACK, Step::To(TimeWait)),
        (TimeWait, SYN, Step::Reopen),
    ] {
        assert_eq!(step(state, flags), after, "{state:?} {flags:#x}");
    }
}

#[test]
fn states_lead_back_and_have_a_timeout_each() {
    let mut places = 0_u8;
    for number in (1..=8).chain([11, 13, 14]) {
        let state = State::from_bits(number).expect("a state");
        assert_eq!(state as u8, number);
        places |= 1 << state.timeout_index();
    }
    assert_eq!((places, State::from_bits(9), State::from_bits(15)), (0xff, None, None));
    let place = |state: State| state.timeout_index();
    assert_eq!(place(State::FinUnproven), place(State::FinWait));
    assert_eq!(place(State::UdpUnproven), place(State::UdpNew));
    assert_eq!(place(State::Unproven), place(State::Udp), "which TCP does not have");
    for flags in (0..=u8::MAX).filter(|flags| goes_on(*flags)) {
        assert_eq!(answer(State::Established, flags), State::Established);
    }
}

#[test]
fn settled_states_stay() {
    for flags in (0..=u8::MAX).filter(|flags| goes_on(*flags)) {
        assert_eq!(step(steady(Protocol::Tcp), flags), Step::To(steady(Protocol::Tcp)));
    }
    assert_eq!(step(steady(Protocol::Udp), 0), Step::To(steady(Protocol::Udp)));
    let (this, next) = (Generation(15), Generation(15).next());
    let entry = Entry::new(ServerId(1), State::Udp, Tick(100), this);
    assert!(entry.is_settled(State::Udp, this, Tick(50), 50));
    assert!(!entry.is_settled(State::Udp, this, Tick(51), 50));
    assert!(!entry.is_settled(State::Udp, this, Tick(101), 1));
    assert!(!entry.is_settled(State::UdpNew, this, Tick(50), 50));
    assert!(!entry.is_settled(State::Udp, next, Tick(50), 50));
    // Where ticks begin again at 0, too.
    for (expires, now) in [(100, 0), (0, 100), (5, TICK_MASK - 5), (TICK_MASK, TICK_MASK), (TICK_MASK, 3)] {
        let entry = Entry::new(ServerId(1), State::Udp, Tick(expires), this);
        for timeout in [1, 10, 11, 12, 100, 101] {
            let enough = Tick(expires).ticks_after(Tick(now)) >= timeout;
            assert_eq!(
                entry.is_settled(State::Udp, this, Tick(now), timeout),
                enough,
                "{expires} {now} {timeout}"
            );
        }
    }
}

#[test]
fn only_a_syn_without_ack_opens() {
    for flags in [0, ACK, FIN, RST, SYN | ACK, FIN | ACK] {
        assert_eq!(first(Protocol::Tcp, flags), None, "flags {flags:#x}");
    }
    assert_eq!(first(Protocol::Udp, 0), Some(State::UdpNew));
    assert_eq!(step(State::UdpNew, 0xff), Step::To(State::UdpUnproven));
}

#[test]
fn ticks_compare_across_the_wrap() {
    let late = Tick(TICK_MASK - 1);
    assert!(!late.plus(10).is_past(late));
    assert!(late.is_past(late.plus(10)));
    assert!(late.is_past(late));
    assert_eq!(late.plus(10).ticks_after(late), 10);
    assert_eq!((late.plus(10).before(), Tick(0).before()), (late.plus(9), Tick(TICK_MASK)));
    assert_eq!(late.ticks_after(late.plus(10)), 0);
}

#[test]
fn a_timeout_is_never_cut_short() {
    for ms in [1, 268, 269, 1000, 900_000, 7 * 86_400_000] {
        let begun_just_before_the_next_tick = (1u64 << TICK_SHIFT) - 1;
        let expires = Tick::from_ns(begun_just_before_the_next_tick).plus(ticks_from_ms(ms));
        let not_yet = Tick::from_ns(begun_just_before_the_next_tick + ms * 1_000_000 - 1);
        assert!(!expires.is_past(not_yet), "{ms} ms");
    }
}

#[test]
fn words_unpack_to_what_was_packed() {
    let entry = Entry::new(ServerId(65_535), State::Udp, Tick(TICK_MASK), Generation(15));
    assert_eq!(entry.server(), ServerId(65_535));
    assert_eq!((entry.generation(), entry.generation().next()), (Generation(15), Generation(0)));
    assert_eq!((Generation(0).before(), Generation(15).disputed()), (Generation(15), Generation(7)));
    let later = Entry::new(ServerId(65_535), State::Udp, Tick(TICK_MASK), Generation(3));
    assert_eq!(entry.with_generation(Generation(3)), later);
    for line in [0, 63] {
        let away = entry.away_from(line);
        assert_eq!(
            (away.away(), away.server(), away.state()),
            (Some(line), ServerId(65_535), Some(State::Udp))
        );
        assert_eq!((away.at_home(), entry.away(), later.in_place_of(away).away()), (entry, None, Some(line)));
        assert_eq!(
            (away.in_place_of(entry), later.away_from(7).in_place_of(away).away()),
            (entry, Some(line))
        );
    }
    assert_eq!(entry.state(), Some(State::Udp));
    assert_eq!(entry.expires(), Tick(TICK_MASK));
    assert_eq!(Entry::claim(Tick(5)).state(), None);
    assert_eq!(Entry::claim(Tick(5)).counts(), 0);
}
