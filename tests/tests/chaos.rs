//! A short run of `cargo xtask chaos`, and what longer ones have found.

use std::time::{Duration, Instant};

use lb_lab::chaos::fault::Refusing;
use lb_lab::chaos::{self, Options};
use lb_lab::cluster::Talk;
use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::lab::unique_name;
use lb_lab::scenario::alone::{BOTH, configuration};

/// The same faults every time.
const SEED: u64 = 1;

#[test]
fn nothing_against_the_rules_happens_for_a_while() {
    let (lasts, name) = (Duration::from_secs(20), unique_name("chaos"));
    let options = Options { lasts, seed: SEED, name, other_build: None };
    let mut told = Vec::new();
    let report = chaos::run(&options, &mut |text| told.push(text.to_owned()));
    let report = report.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(report.passed(), "{}\n{report}", told.join("\n"));
    println!("{report}");
}

/// The kernel cannot say whether the program is attached: that is no reason to take it for gone.
#[test]
fn a_kernel_without_memory_moves_no_group() {
    let talk = Talk::new(&unique_name("nomemory")).expect("the cluster comes up");
    let settings =
        Settings { interval: Duration::from_millis(50), dead: Duration::from_secs(5), serial: false };
    let configuration = configuration(10_000, BOTH);
    for server in [talk.www1.node(), talk.www2.node()] {
        lb_lab::lab::echo::serve(server, 7777).expect("a server");
    }
    let pair =
        Pair::start_in(&talk, settings, &configuration, "").unwrap_or_else(|error| panic!("{error:#}"));
    let moves = || {
        let events = pair.ha1.events().expect("events");
        events.iter().filter(|event| event.event == "role_changed").count()
    };
    let before = moves();
    let refusing = Refusing::start(&pair.ha1).expect("strace");
    let deadline = Instant::now() + Duration::from_secs(60);
    let asked = || refusing.refused().iter().filter(|call| call.contains("BPF_OBJ_GET_INFO_BY_FD")).count();
    while asked() < 5 {
        assert!(Instant::now() < deadline, "{:?}", refusing.refused());
        std::thread::sleep(Duration::from_millis(50));
    }
    refusing.end().expect("strace ends");
    assert_eq!(moves(), before, "{}", pair.shown());
    assert!(pair.ha1.status().expect("a status").finding("system_call_refused").is_none());
}
