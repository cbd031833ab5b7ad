use std::time::Duration;

use lb_model::Probe;
use proptest::prelude::*;

use super::*;
use crate::probe::test_servers::{self, Asked, receives, sends};
use crate::probe::{Advice, Report};

const LIMIT: Duration = test_servers::PATIENCE;

fn agent(send: Option<&str>, limit: Duration) -> Asked {
    Asked::of(Probe::Agent { send: send.map(str::to_owned) }, limit)
}

/// The final result of an agent's successive answers, and the warning about the last one.
fn judged(lines: &[&str]) -> (Result<Option<Advice>, String>, Option<String>) {
    let memory = Memory::default();
    let mut state = memory.lock();
    let told = lines.iter().map(|line| state.update(line.as_bytes())).last().flatten();
    (state.judge().map_err(|failure| failure.to_string()), told)
}

/// Successive answers, and their meaning in HAProxy.
type Row = (&'static [&'static str], Result<Option<Advice>, &'static str>);

#[test]
fn c2_words_mean_what_they_mean_to_haproxy() {
    const FULL: Result<Option<Advice>, &str> = Ok(None);
    let weight = |weight| Ok(Some(Advice::Weight(weight)));
    let percent = |percent| Ok(Some(Advice::Percent(percent)));
    let cases: [Row; 32] = [
        (&["up"], FULL),
        (&["ready"], FULL),
        (&["75%"], percent(75)),
        (&["up 150%\r"], percent(150)),
        (&["Up,Ready\t0% # fine"], percent(0)),
        (&["weight:12"], weight(12)),
        (&["up weight:50%"], percent(50)),
        (&["drain"], weight(0)),
        (&["drain 50%#backup"], weight(0)),
        (&["maxconn:30"], FULL),
        (&["up 50% maxconn:30"], percent(50)),
        (&["50%, 60%"], percent(60)),
        (&["down"], Err("the agent says down")),
        (&["up 50% down"], Err("the agent says down")),
        (&["down up"], FULL),
        (&["fail"], Err("the agent says fail")),
        (&["fail # disk full"], Err("the agent says fail: disk full")),
        (&["fail#disk full"], Err("the agent says fail: disk full")),
        (&["failed#disk full"], Err("the agent says failed: disk full")),
        (&["STOPPED # by hand "], Err("the agent says STOPPED: by hand")),
        (&["maint#\x1b[2J"], Err("the agent says maint: \\u{1b}[2J")),
        (&["up\rdown"], FULL),
        // Words that are not repeated still hold.
        (&["down#upgrade", "50%"], Err("the agent says down: upgrade")),
        (&["down#upgrade", "ready"], Err("the agent says down: upgrade")),
        (&["down#upgrade", "up"], FULL),
        (&["drain", "75%"], weight(0)),
        (&["drain", "75%", "up"], weight(0)),
        (&["drain", "75%", "ready"], percent(75)),
        (&["maint#disks", "up"], Err("the agent says maint: disks")),
        (&["maint", "up ready"], FULL),
        (&["75%", "up"], percent(75)),
        (&["75%", "100%"], percent(100)),
    ];
    for (lines, expected) in cases {
        assert_eq!(judged(lines), (expected.map_err(str::to_owned), None), "{lines:?}");
    }
}

/// HAProxy keeps its state, and reports the unknown word.
#[test]
fn c2_what_is_no_word_changes_nothing_and_is_told() {
    let ignored =
        |word| format!("the agent says '{word}', which is not a word of HAProxy's protocol: ignored");
    let cases = [
        ("", "the agent says '': ignored, expected a word such as up".to_owned()),
        ("#up", "the agent says '#up': ignored, expected a word such as up".into()),
        ("dwon", ignored("dwon")),
        ("up 65536%", ignored("65536%")),
        ("-1%", ignored("-1%")),
        ("%", ignored("%")),
        ("+5", ignored("+5")),
        ("up 12", ignored("12")),
        ("220 mail.example.org", ignored("220")),
        ("weight:", ignored("weight:")),
        ("maxconn:many", ignored("maxconn:many")),
        (
            "nolb",
            "the agent says 'nolb', which HAProxy's protocol does not have: ignored (`drain` keeps new connections away)"
                .into(),
        ),
    ];
    for (line, words) in cases {
        assert_eq!(judged(&[line]), (Ok(None), Some(words.clone())), "{line}");
        let weighed = judged(&["30%", line]);
        assert_eq!(weighed, (Ok(Some(Advice::Percent(30))), Some(words)), "{line}");
    }
    let (found, told) = judged(&["down#upgrade", "nolb"]);
    assert_eq!(found, Err("the agent says down: upgrade".into()));
    assert!(told.is_some());
    assert_eq!(
        judged(&["fail dwon"]).0,
        Err("the agent says fail".into()),
        "known words of the same line count"
    );
}

#[tokio::test]
async fn an_agent_is_asked_and_may_leave_without_an_end_of_line() {
    for answer in ["up 75%\n", "up 75%\r\n", "up 75%"] {
        let turns = [receives("weight?\n"), sends(answer)];
        let (found, _) = agent(Some("weight?\n"), LIMIT).in_dialogue(turns).await;
        assert_eq!(found, Ok(Answer { advice: Some(Advice::Percent(75)), stale: false }));
    }
    let (found, rest) = agent(None, LIMIT).in_dialogue([sends("down # upgrade\n")]).await;
    assert_eq!((found, &rest[..]), (Err("the agent says down: upgrade".into()), &b""[..]));
}

/// The result for an agent that has sent `before` and does not answer now.
async fn gone(before: &'static str) -> Report {
    let asked = agent(None, LIMIT);
    if !before.is_empty() {
        let server = test_servers::closing_after(before.as_bytes()).await;
        let _ = asked.at(server.address).await;
    }
    asked.report(test_servers::closed().await).await
}

#[tokio::test]
async fn c2_an_agent_that_cannot_be_asked_keeps_its_last_word() {
    for (before, advice) in
        [("up", None), ("up 75%", Some(Advice::Percent(75))), ("drain", Some(Advice::Weight(0)))]
    {
        let report = gone(before).await;
        assert_eq!(report.result.expect("no failure"), Answer { advice, stale: true }, "{before}");
        let words = "the agent does not answer (connection refused); its last answer still applies";
        assert_eq!(report.warning.as_deref(), Some(words));
    }
    let report = gone("fail # disk full").await;
    let words = "the agent says fail: disk full; since then the agent does not answer (connection refused)";
    assert_eq!(report.result.expect_err("it said so").to_string(), words);

    let report = gone("").await;
    assert_eq!(report.result.expect("nothing was said against it"), Answer { advice: None, stale: true });
    let words = "the agent does not answer (connection refused); the server counts as up so far";
    assert_eq!(report.warning.as_deref(), Some(words));
}

#[tokio::test]
async fn agents_that_say_it_in_odd_ways_are_good() {
    test_servers::succeeds_at_all(&agent(None, LIMIT), "up\n").await;
    test_servers::succeeds_at_all(&agent(Some("how\n"), LIMIT), "ready\r\n").await;
}

/// Useless answers leave the state as it was, as in HAProxy, and cause a warning.
#[tokio::test]
async fn misbehaving_agents_change_nothing() {
    let begin = std::time::Instant::now();
    for (name, server) in test_servers::misbehaving().await {
        let asked = agent(None, Duration::from_millis(200));
        let report = asked.report(server.address).await;
        let found = report.result.map(|answer| answer.advice);
        assert!(matches!(found, Ok(None)), "{name}: {found:?}");
        let warning = report.warning.expect(name);
        assert!(!warning.contains('\n') && warning.len() < 400, "{name}: {warning}");
        while test_servers::sockets_to(server.address) > 0 {
            assert!(begin.elapsed() < Duration::from_secs(60), "{name}: a socket was left behind");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let memory = Memory::default();
        let mut state = memory.lock();
        if let Some(words) = state.update(&line) {
            prop_assert!(words.len() < 400);
        }
        if let Err(failure) = state.judge() {
            prop_assert!(failure.to_string().len() < 400);
        }
    }
}
