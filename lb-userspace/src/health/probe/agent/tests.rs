use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Probe;
use crate::health::probe::servers::{self, Asked, hears, says};

fn agent(send: Option<&str>, limit: Duration) -> Asked {
    Asked::of(Probe::Agent { send: send.map(str::to_owned) }, limit)
}

fn judged(line: &str) -> Result<Option<Advice>, String> {
    judge(line.as_bytes()).map_err(|failure| failure.to_string())
}

#[test]
fn words_set_the_weight() {
    let cases = [
        ("up", None),
        ("ready", None),
        ("75%", Some(Advice::Percent(75))),
        ("up 150%\r", Some(Advice::Percent(150))),
        ("Up,Ready\t0% # fine", Some(Advice::Percent(0))),
        ("up 12", Some(Advice::Weight(12))),
        ("drain", Some(Advice::Weight(0))),
        ("drain 50%#backup", Some(Advice::Weight(0))),
        ("up 50% maxconn:30", Some(Advice::Percent(50))),
    ];
    for (line, advice) in cases {
        assert_eq!(judged(line), Ok(advice), "{line}");
    }
}

#[test]
fn words_take_the_server_out() {
    let cases = [
        ("down", "the agent says down"),
        ("up 50% down", "the agent says down"),
        ("failed#disk full", "the agent says failed: disk full"),
        ("STOPPED # by hand ", "the agent says STOPPED: by hand"),
        ("maint#\x1b[2J", "the agent says maint: \\u{1b}[2J"),
    ];
    for (line, words) in cases {
        assert_eq!(judged(line), Err(words.to_owned()), "{line}");
    }
}

#[test]
fn what_is_not_understood_is_not_good() {
    let cases = [
        ("", "the agent's answer is '', wanted a word such as up"),
        ("#up", "the agent's answer is '#up', wanted a word such as up"),
        ("dwon", "'dwon' is not a word of the agent protocol"),
        ("up 65536%", "'65536%' is not a word of the agent protocol"),
        ("-1%", "'-1%' is not a word of the agent protocol"),
        ("%", "'%' is not a word of the agent protocol"),
        ("+5", "'+5' is not a word of the agent protocol"),
        ("maxconn:many", "'maxconn:many' is not a word of the agent protocol"),
    ];
    for (line, words) in cases {
        assert_eq!(judged(line), Err(words.to_owned()), "{line}");
    }
}

#[tokio::test]
async fn an_agent_is_asked_and_may_leave_without_an_end_of_line() {
    for answer in ["up 75%\n", "up 75%"] {
        let turns = [hears("weight?\n"), says(answer)];
        let (found, _) = agent(Some("weight?\n"), Duration::from_secs(5)).in_dialogue(turns).await;
        assert_eq!(found, Ok(Answer { advice: Some(Advice::Percent(75)) }));
    }
    let (found, rest) = agent(None, Duration::from_secs(5)).in_dialogue([says("down # upgrade\n")]).await;
    assert_eq!((found, &rest[..]), (Err("the agent says down: upgrade".into()), &b""[..]));
}

#[tokio::test]
async fn misbehaving_servers_fail_in_words() {
    servers::fails_at_all(&agent(None, Duration::from_millis(200))).await;
}

proptest! {
    #[test]
    fn arbitrary_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(failure) = judge(&line) {
            prop_assert!(failure.to_string().len() < 300);
        }
    }
}
