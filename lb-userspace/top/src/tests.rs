//! What is on the terminal at three sizes, what keys do, and that no key is an order by itself.
//!
//! - here: what is on the terminal, orders, services, servers and events; `connections`

mod connections;

use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use lb_api::events::{Level, Record};
use lb_api::samples;
use lb_api::status::{ServiceStatus, Status, Tone};
use lb_api::wire::{Request, ServerRequest};
use lb_model::Health;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use crate::draw::draw;
use crate::state::{Effect, Input, Over, Snapshot, State};

/// The talk's directors; www2 is ill.
fn status() -> Status {
    let mut status = Status {
        cluster: Some(samples::directors()),
        findings: vec![samples::finding("vip_claimed", "211.58.250.6")],
        ..samples::cluster()
    };
    let sick = &mut status.services[0].servers[1];
    (sick.health, sick.effective_weight, sick.since_s) = (Health::Down, 0, 12);
    sick.reason = Some("connection refused".into());
    let dns = ServiceStatus {
        name: "dns".into(),
        vip: [211, 58, 250, 7].into(),
        ports: "53".into(),
        protocol: "udp".into(),
        servers: vec![samples::server(3, Health::Up)],
        ..status.services[0].clone()
    };
    status.services.push(dns);
    status
}

fn events() -> Vec<Record> {
    let record = |number, level, event: &str, text: &str| Record {
        number,
        time: format!("2026-11-29T10:00:0{number}.000Z"),
        ..Record::new(level, event, text.to_owned()).service("web").server("www2")
    };
    vec![
        record(1, Level::Info, "server_up", "web: www2 is up"),
        record(2, Level::Warning, "server_down", "web: www2 is down: connection refused"),
    ]
}

/// After 20 seconds in which www1 has got 4 connections each second.
fn state() -> State {
    let mut state = State::new(false);
    let (mut status, start) = (status(), Instant::now());
    for second in 0..=20 {
        status.services[0].servers[0].connections += 4 + second % 3;
        status.services[0].servers[0].bytes += 125_000;
        let at = start + Duration::from_secs(second);
        let snapshot = Snapshot { status: status.clone(), events: events(), at };
        state.update(Input::Snapshot(Box::new(snapshot)));
    }
    state
}

fn press(state: &mut State, codes: impl IntoIterator<Item = KeyCode>) -> Option<Effect> {
    let mut last = None;
    for code in codes {
        last = state.update(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
    last
}

fn type_in(state: &mut State, text: &str) -> Option<Effect> {
    press(state, text.chars().map(KeyCode::Char))
}

fn drawn(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(state, frame)).expect("a drawing");
    terminal
}

fn text(state: &State, width: u16, height: u16) -> String {
    drawn(state, width, height).backend().to_string()
}

#[test]
fn views_at_three_sizes() {
    let mut state = state();
    let views =
        [('1', "services"), ('2', "servers"), ('3', "events"), ('4', "cluster"), ('5', "connections")];
    for (view, name) in views {
        if let Some(Effect::List(ask)) = press(&mut state, [KeyCode::Char(view)]) {
            connections::answer(&mut state, *ask, Ok(connections::first()));
        }
        for (width, height) in [(40, 10), (80, 24), (120, 40)] {
            insta::assert_snapshot!(format!("{name}_{width}x{height}"), text(&state, width, height));
        }
    }
}

#[test]
fn what_lies_over_a_view() {
    let mut state = state();
    press(&mut state, [KeyCode::Char('?')]);
    insta::assert_snapshot!("help", text(&state, 80, 24));
    press(&mut state, [KeyCode::Esc, KeyCode::Enter]);
    insta::assert_snapshot!("inside_a_service", text(&state, 80, 24));
    press(&mut state, [KeyCode::Down, KeyCode::Enter]);
    insta::assert_snapshot!("details", text(&state, 80, 24));
    press(&mut state, [KeyCode::Esc, KeyCode::Char('d')]);
    insta::assert_snapshot!("confirm", text(&state, 80, 24));
}

#[test]
fn a_narrow_terminal_has_the_reason_of_the_selected_server_below() {
    let mut state = state();
    press(&mut state, [KeyCode::Char('2')]);
    assert!(!text(&state, 80, 24).contains(" of web: "), "all is well with www1");
    press(&mut state, [KeyCode::Down]);
    let shown = text(&state, 80, 24);
    let line = shown.lines().nth(22).map(|line| line.trim_matches(['"', ' ']));
    assert_eq!(line, Some("www2 of web: connection refused"), "{shown}");
    assert!(!text(&state, 120, 40).contains("www2 of web: "), "it stands in the row");
}

#[test]
fn the_worst_is_told_first_and_nothing_is_left_out_silently() {
    let mut state = state();
    let mut status = status();
    let warning = |number: u8| lb_api::status::FindingStatus {
        level: Level::Warning,
        ..samples::finding("clock_unsynchronised", &format!("f{number}"))
    };
    status.findings.splice(0..0, (0..4).map(warning));
    status.services[1].on_fallback = true;
    status.services[1].fallback_ready = false;
    let at = Instant::now();
    state.update(Input::Snapshot(Box::new(Snapshot { status, events: events(), at })));
    let shown = text(&state, 120, 40);
    let lines: Vec<&str> = shown.lines().map(|line| line.trim_start_matches('"')).collect();
    assert!(lines[2].starts_with("NOBODY SERVES: dns "), "{shown}");
    assert!(lines[3].starts_with("vip_claimed: "), "{shown}");
    assert!(lines[4].starts_with("clock_unsynchronised: "), "{shown}");
    assert!(lines[5].starts_with("(+2 more) clock_unsynchronised: "), "{shown}");
    let small = text(&state, 40, 10);
    assert!(small.contains("(+5 more) NOBODY SERVES: dns"), "{small}");
}

/// A snapshot has symbols only.
#[test]
fn what_is_wrong_stands_out() {
    let mut state = state();
    press(&mut state, [KeyCode::Char('2')]);
    let colour_of = |state: &State, word: &str| {
        let terminal = drawn(state, 80, 24);
        let buffer = terminal.backend().buffer();
        let line: Vec<_> =
            buffer.content().iter().map(|cell| cell.symbol().chars().next().unwrap_or(' ')).collect();
        let word: Vec<char> = word.chars().collect();
        let at = line.windows(word.len()).position(|found| found == word).expect("the word");
        buffer.content()[at].fg
    };
    assert_eq!((colour_of(&state, "down 12s"), colour_of(&state, "up 2m")), (Color::Red, Color::Green));
    state.no_color = true;
    assert_eq!(colour_of(&state, "down 12s"), Color::Reset);
    assert_eq!(status().services[0].tone(), Tone::Warning, "one of two servers is up");
}

#[test]
fn an_order_is_asked_for_first() {
    let mut state = state();
    assert_eq!(type_in(&mut state, "dy"), None, "no server is selected among services");
    type_in(&mut state, "2");
    let drain =
        Request::Drain(ServerRequest::about("211.58.250.25:80".into()).because(Some("lb top".into())));
    assert_eq!(type_in(&mut state, "d"), None);
    assert_eq!(type_in(&mut state, "x"), None, "neither yes nor no");
    assert_eq!(type_in(&mut state, "n"), None);
    assert_eq!(type_in(&mut state, "y"), None, "it was declined");
    assert_eq!(type_in(&mut state, "dy"), Some(Effect::Order(Box::new(drain))));
    assert_eq!(type_in(&mut state, "ey"), None, "one order at a time");
    state.update(Input::Outcome(Ok(vec!["211.58.250.25:80 is drained".into()])));
    assert!(text(&state, 80, 24).contains("is drained"));
    press(&mut state, [KeyCode::Esc, KeyCode::Down]);
    let probe = Request::Probe { service: "web".into(), server: "211.58.250.27".into() };
    assert_eq!(type_in(&mut state, "py"), Some(Effect::Order(Box::new(probe))));
    state.update(Input::Outcome(Err("no such server".into())));
    assert!(text(&state, 80, 24).contains("Refused"));
}

#[test]
fn rows_are_filtered_and_sorted_and_the_selection_stays() {
    let mut state = state();
    type_in(&mut state, "2/down");
    press(&mut state, [KeyCode::Enter]);
    assert_eq!((state.rows(), state.selected_server().expect("a server").1.name.as_str()), (1, "www2"));
    press(&mut state, [KeyCode::Esc]);
    assert_eq!(state.rows(), 3);
    type_in(&mut state, "ss");
    assert_eq!(state.selected_server().expect("a server").1.name, "www2", "the worst first");
    // It gets well and is no longer the first; the selection goes with it.
    let mut well = status();
    well.services[0].servers[1].health = Health::Up;
    well.services[0].servers[0].health = Health::Down;
    state.update(Input::Snapshot(Box::new(Snapshot { status: well, events: events(), at: Instant::now() })));
    assert_eq!(state.selected_server().expect("a server").1.name, "www2");
    let one = Status { services: vec![], ..status() };
    state.update(Input::Snapshot(Box::new(Snapshot { status: one, events: vec![], at: Instant::now() })));
    assert_eq!((state.row, state.selected_server().is_none()), (0, true));
    type_in(&mut state, "dy");
    assert_eq!(state.over, None);
}

/// Whatever a director says and whoever types what: it is drawn, on the smallest terminal too.
#[test]
fn no_key_and_no_size_is_too_much() {
    let keys = "12345\t/s?depyn\njkgGqcbr".chars().map(KeyCode::Char);
    let more =
        [KeyCode::Enter, KeyCode::Esc, KeyCode::Tab, KeyCode::Up, KeyCode::PageDown, KeyCode::Backspace];
    let keys: Vec<KeyCode> = keys.chain(more).collect();
    let mut state = state();
    let mut seed = 1_u64;
    for step in 0..2000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = keys[(seed >> 33) as usize % keys.len()];
        if let Some(Effect::List(ask)) = press(&mut state, [key]) {
            connections::answer(&mut state, *ask, Ok(connections::first()));
        }
        if step % 10 == 0 {
            let (width, height) = (((seed >> 20) % 60) as u16 + 1, ((seed >> 40) % 30) as u16 + 1);
            drawn(&state, width, height);
        }
        if step == 1000 {
            state.update(Input::Trouble("the director does not answer".into()));
            assert!(text(&state, 80, 24).contains("NO ANSWER"));
        }
    }
    state.over = Some(Over::Help);
    drawn(&state, 1, 1);
}
