use State::{CloseWait, Closed, Established, FinWait, SynRecv, TimeWait};
use Word::{Again, Hearsay, News};

use super::*;

const ME: NodeId = NodeId(1);
const TELLER: NodeId = NodeId(2);
const THIRD: Owner = Owner::Other(NodeId(0));
const ITS: Owner = Owner::Other(TELLER);
const LONG: u32 = 10 * ALIKE;

fn here(state: State, idle: u32, owner: Owner) -> Here {
    Here { me: ME, known: Known { server: 7, state, idle }, owner, outlives: false }
}

fn told(word: Word, state: State, idle: u32) -> Told {
    Told { known: Known { server: 7, state, idle }, teller: TELLER, word }
}

fn elsewhere(told: Told, server: u64) -> Told {
    Told { known: Known { server, ..told.known }, ..told }
}

fn stays(owner: Owner, answers: bool) -> Outcome {
    Outcome::Stays { owner, answers }
}

#[test]
fn states_with_other_time_outs_are_compared_by_their_last_packets() {
    let mut service = ServiceInfo { timeouts: [3600; 8], ..ServiceInfo::UNSET };
    service.timeouts[FinWait.timeout_index()] = 480;
    assert_eq!(idle(&service, Established, 3600 + 64), 0);
    assert_eq!(idle(&service, FinWait, 480 + 60), 0);
    assert_eq!((idle(&service, FinWait, 440), idle(&service, Established, 0)), (100, 3664));
    assert_eq!(idle(&service, FinWait, 9999), 0, "nothing is newer than now");
}

#[test]
fn what_was_used_last_counts_whoever_owns_it_and_however_it_is_told() {
    for owner in [Owner::Me, Owner::Nobody, THIRD, ITS] {
        for word in [News, Again, Hearsay] {
            for (one, other) in [(Established, FinWait), (FinWait, Established), (Established, Closed)] {
                let later = here(one, 0, owner).outcome(told(word, other, LONG));
                let left = if owner == ITS { Owner::Nobody } else { owner };
                assert_eq!(later, stays(left, true), "{owner:?} {word:?} {one:?} {other:?}");
                let earlier = here(one, LONG, owner).outcome(told(word, other, 0));
                assert_eq!(earlier, Outcome::GivesWay, "{owner:?} {word:?} {one:?} {other:?}");
            }
        }
    }
}

#[test]
fn told_again_by_its_owner_it_keeps_the_time_of_its_use_here() {
    assert_eq!(here(Established, 0, ITS).outcome(told(Again, Established, 5)), stays(ITS, false));
    assert_eq!(here(Established, 0, ITS).outcome(told(Again, Established, LONG)), stays(ITS, false));
    assert_eq!(here(Established, 5, ITS).outcome(told(Again, Established, 0)), Outcome::GivesWay);
    // Nobody spoke for it.
    assert_eq!(
        here(Established, 0, Owner::Nobody).outcome(told(Again, Established, LONG)),
        stays(ITS, false)
    );
    // It speaks for it no more.
    assert_eq!(here(Established, 0, ITS).outcome(told(Hearsay, Established, 0)), stays(Owner::Nobody, false));
}

#[test]
fn of_two_that_speak_for_the_same_the_lower_number_does() {
    for word in [News, Again] {
        let same = told(word, Established, 0);
        assert_eq!(here(Established, 0, Owner::Me).outcome(same), stays(Owner::Me, true));
        assert_eq!(here(Established, 0, THIRD).outcome(same), stays(THIRD, false));
        let lowest = Told { teller: NodeId(0), ..same };
        assert_eq!(here(Established, 5, Owner::Me).outcome(lowest), Outcome::GivesWay);
        let its = stays(Owner::Other(NodeId(0)), false);
        assert_eq!(here(Established, 0, ITS).outcome(lowest), its, "what is here has the later time");
    }
    assert_eq!(
        here(Established, 0, Owner::Me).outcome(told(Hearsay, Established, 0)),
        stays(Owner::Me, false)
    );
}

#[test]
fn of_one_connection_the_end_counts_by_hearsay_too() {
    for owner in [Owner::Me, Owner::Nobody, THIRD] {
        for word in [News, Again, Hearsay] {
            for (open, ended) in [(Established, FinWait), (Established, CloseWait), (CloseWait, FinWait)] {
                assert_eq!(here(open, 0, owner).outcome(told(word, ended, 5)), Outcome::GivesWay);
                if word != News {
                    assert_eq!(here(ended, 5, owner).outcome(told(word, open, 0)), stays(owner, true));
                }
            }
            assert_eq!(here(FinWait, 0, owner).outcome(told(word, TimeWait, 5)), Outcome::GivesWay);
            // Not as news: then it began again there, or its director has missed the end.
            let is_raised = word != News && owner != Owner::Me;
            let wanted = if is_raised { Outcome::GivesWay } else { stays(owner, false) };
            assert_eq!(here(TimeWait, 5, owner).outcome(told(word, FinWait, 0)), wanted);
        }
    }
    assert_eq!(here(FinWait, 0, ITS).outcome(told(Again, Established, 0)), Outcome::GivesWay, "it knows");
}

#[test]
fn what_has_ended_here_is_alive_again_only_if_it_began_again() {
    for owner in [Owner::Me, Owner::Nobody, THIRD, ITS] {
        assert_eq!(here(Closed, 0, owner).outcome(told(News, Established, 5)), Outcome::GivesWay);
        assert_eq!(here(Closed, LONG, owner).outcome(told(Again, Established, 2 * LONG)), stays(owner, true));
    }
    for word in [Again, Hearsay] {
        assert_eq!(here(Closed, 0, Owner::Me).outcome(told(word, Established, 5)), stays(Owner::Me, true));
        for owner in [Owner::Nobody, THIRD] {
            assert_eq!(here(Closed, 0, owner).outcome(told(word, Established, 5)), Outcome::GivesWay);
        }
    }
    assert_eq!(here(Closed, 0, ITS).outcome(told(Again, Established, 5)), Outcome::GivesWay);
    // Whoever has ended it, in an earlier life too, knows of a later one.
    for state in [Established, FinWait] {
        assert_eq!(here(Closed, 0, ITS).outcome(told(Hearsay, state, 5)), Outcome::GivesWay);
        assert_eq!(here(Closed, 0, ITS).outcome(told(News, state, 5)), Outcome::GivesWay);
    }
    assert_eq!(here(Closed, 0, ITS).outcome(told(Hearsay, TimeWait, 5)), stays(ITS, false));
}

#[test]
fn what_began_after_an_end_outlives_what_is_no_later() {
    let began = |owner| Here { outlives: true, ..here(Established, 0, owner) };
    for state in [Closed, FinWait, CloseWait, SynRecv] {
        assert_eq!(began(Owner::Me).outcome(told(News, state, 5)), stays(Owner::Me, true), "{state:?}");
        assert_eq!(began(THIRD).outcome(told(News, state, 5)), stays(THIRD, false), "{state:?}");
        assert_eq!(began(ITS).outcome(told(News, state, 5)), Outcome::GivesWay, "{state:?}: it knows");
        let of_nobody = |word| began(Owner::Nobody).outcome(told(word, state, 5));
        assert_eq!(of_nobody(Again), stays(Owner::Nobody, false), "{state:?}");
        assert_eq!(of_nobody(Hearsay), Outcome::GivesWay, "{state:?}: it is its own end");
        assert_eq!(here(Established, 0, Owner::Me).outcome(told(News, state, 5)), Outcome::GivesWay);
    }
}

#[test]
fn of_connections_to_different_servers_the_living_one_counts() {
    for owner in [Owner::Me, Owner::Nobody, THIRD] {
        for word in [News, Again, Hearsay] {
            for ended in [FinWait, Closed] {
                let (open, over) = (here(Established, 5, owner), here(ended, 0, owner));
                let outcome = open.outcome(elsewhere(told(word, ended, 0), 8));
                assert_eq!(outcome, stays(owner, true), "{owner:?} {word:?} {ended:?}");
                let outcome = over.outcome(elsewhere(told(word, Established, 5), 8));
                assert_eq!(outcome, Outcome::GivesWay, "{owner:?} {word:?} {ended:?}");
            }
        }
    }
    // The end of a later one is the end of this one: its port was used again.
    let later = elsewhere(told(News, Closed, 0), 8);
    assert_eq!(here(Established, LONG, Owner::Me).outcome(later), Outcome::GivesWay);
}

#[test]
fn of_two_servers_told_at_one_moment_the_lower_number_counts() {
    let outcome = |owner, idle, teller| {
        let told = Told { teller, ..elsewhere(told(News, Established, 0), 8) };
        here(Established, idle, owner).outcome(told)
    };
    assert_eq!(outcome(Owner::Me, MARGIN, TELLER), stays(Owner::Me, true));
    assert_eq!(outcome(THIRD, 0, TELLER), stays(THIRD, false));
    for (owner, teller) in [(Owner::Me, 0), (Owner::Other(NodeId(3)), 2), (Owner::Nobody, 2), (ITS, 2)] {
        assert_eq!(outcome(owner, 0, NodeId(teller)), Outcome::GivesWay, "{owner:?}");
    }
    // The later one is no older news: what is here was known there.
    for owner in [Owner::Me, THIRD] {
        assert_eq!(outcome(owner, MARGIN + 1, TELLER), Outcome::GivesWay, "{owner:?}");
    }
}

#[test]
fn what_only_begins_here_gives_way_to_what_is_established_there() {
    let begun = here(SynRecv, 0, Owner::Nobody);
    for word in [News, Again, Hearsay] {
        let before = begun.outcome(told(word, Established, LONG));
        assert_eq!(before, stays(Owner::Nobody, false), "of the one before");
        assert_eq!(begun.outcome(told(word, Established, 0)), Outcome::GivesWay);
        for over in [FinWait, Closed] {
            assert_eq!(begun.outcome(told(word, over, 0)), stays(Owner::Nobody, false));
        }
    }
}

/// Both speak for it, and each tells the other one, some time ago and with ticks that are rounded.
#[test]
fn two_never_answer_each_other() {
    let states = [Established, CloseWait, FinWait];
    let (idles, servers) = ([0, ALIKE, ALIKE + 1, ALIKE + MARGIN, ALIKE + MARGIN + 1, LONG], [7, 8]);
    let known = |server, state, idle| Known { server, state, idle };
    let all = || {
        servers.into_iter().flat_map(move |server| {
            states.into_iter().flat_map(move |state| idles.map(|idle| known(server, state, idle)))
        })
    };
    for (one, other) in all().flat_map(|one| all().map(move |other| (one, other))) {
        for (word, late, rounded) in [(News, 0, 0), (News, 3, 1), (Again, 0, 1), (Again, 3, 0)] {
            let outcome = |me, known: Known, teller, told: Known| {
                let known = Known { idle: known.idle + late, ..known };
                let here = Here { me, known, owner: Owner::Me, outlives: false };
                let told = Known { idle: told.idle + rounded, ..told };
                here.outcome(Told { known: told, teller, word })
            };
            let both = [outcome(ME, one, TELLER, other), outcome(TELLER, other, ME, one)];
            let answers = |outcome: &Outcome| matches!(outcome, Outcome::Stays { answers: true, .. });
            assert!(!both.iter().all(answers), "{word:?} {late} {rounded}: {one:?}, {other:?}: {both:?}");
        }
    }
}

/// The one with longer time-outs takes all that it is told for older, and the other one for new.
#[test]
fn two_with_different_time_outs_do_not_answer_each_other_for_ever() {
    for (long, short) in [(ME, TELLER), (TELLER, ME)] {
        let outcome = |me, teller, word, idle| {
            let here = Here { me, ..here(Established, 0, Owner::Me) };
            here.outcome(Told { teller, ..told(word, Established, idle) })
        };
        assert_eq!(outcome(long, short, News, LONG), stays(Owner::Me, false), "{long:?}");
        assert_eq!(outcome(long, short, Again, LONG), stays(Owner::Me, true), "{long:?}: it is asked");
        let answers = outcome(short, long, News, 0) == stays(Owner::Me, true);
        assert_eq!(answers, short == ME, "{short:?}: the lower number speaks for it");
    }
}
