//! Checks of servers that start, stop and misbehave.

use std::net::{Ipv4Addr, SocketAddr};

use lb_model::{Exchange, Expectation, HttpProbe, Probe, Protocol, Scheduler, Server};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;

use super::probe::test_servers::{self, TestServer};
use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PAGE: &[&str] = &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTest Page"];
/// Longer than any of these checks may take to send a verdict.
const PATIENCE: Duration = Duration::from_secs(30);

fn http() -> Check {
    let expected = Expectation { text: Some("Test Page".into()), pattern: None };
    let probe = Probe::Http(HttpProbe { expected, ..HttpProbe::default() });
    let interval = Duration::from_millis(30);
    Check { interval, fast_interval: interval, timeout: PATIENCE, rise: 2, fall: 2, ..Check::new(probe) }
}

fn service(vip: u8, check: Option<Check>, servers: &[SocketAddr]) -> Service {
    let checks: Arc<[Check]> = check.into_iter().collect();
    let server = |address: &SocketAddr| Server {
        checks: Arc::clone(&checks),
        ..Server::new(address.ip(), address.port())
    };
    let key = ServiceKey { vip: Ipv4Addr::new(192, 0, 2, vip).into(), port: 80, protocol: Protocol::Tcp };
    Service { servers: servers.iter().map(server).collect(), ..Service::new(format!("web{vip}"), key) }
}

fn checker() -> (Checker, UnboundedReceiver<Verdict>) {
    let (sender, verdicts) = mpsc::unbounded_channel();
    (Checker::start(sender, Net::default()).expect("a thread"), verdicts)
}

async fn next(verdicts: &mut UnboundedReceiver<Verdict>) -> Verdict {
    tokio::time::timeout(PATIENCE, verdicts.recv()).await.expect("a verdict in time").expect("a checker")
}

/// The next verdict with this state.
async fn until(verdicts: &mut UnboundedReceiver<Verdict>, state: State) -> Verdict {
    loop {
        let verdict = next(verdicts).await;
        if verdict.state == state && (state == State::Up) == verdict.reason.is_none() {
            return verdict;
        }
    }
}

async fn quiet(verdicts: &mut UnboundedReceiver<Verdict>) {
    let verdict = tokio::time::timeout(Duration::from_millis(150), verdicts.recv()).await;
    assert!(verdict.is_err(), "{verdict:?}");
}

/// A web server on a port that was in use a moment ago.
async fn restarted(address: SocketAddr) -> TestServer {
    let listener = TcpListener::bind(address).await.expect("the port again");
    test_servers::serving_on(listener, |stream| test_servers::answer(stream, PAGE))
}

#[tokio::test]
async fn follows_a_server_down_and_up_again() {
    let server = test_servers::answering(PAGE).await;
    let address = server.address;
    let (mut checker, mut verdicts) = checker();
    let begin = std::time::Instant::now();
    checker.set(&[service(1, Some(http()), &[address])]);

    let up = next(&mut verdicts).await;
    assert_eq!((up.state, up.server, up.reason.as_deref()), (State::Up, LOOPBACK, None));
    let outcomes = || checker.outcomes(up.service, up.server, 1).remove(0);
    let good = outcomes();
    assert!(good.latencies.iter().all(|latency| *latency < begin.elapsed()), "{good:?}");
    assert!(!good.latencies.is_empty() && good.failures == 0, "{good:?}");
    drop(server);
    let warned = next(&mut verdicts).await;
    assert_eq!(warned.state, State::Up);
    let down = until(&mut verdicts, State::Down).await;
    assert_eq!(down.reason.as_deref(), Some("connection refused"));
    assert!(outcomes().failures >= 2, "{:?}", outcomes());
    let _server = restarted(address).await;
    let rising = next(&mut verdicts).await;
    assert_eq!(
        (rising.state, rising.reason.as_deref()),
        (State::Down, Some("answers again, 1 of 2 in a row"))
    );
    until(&mut verdicts, State::Up).await;
}

#[tokio::test]
async fn a_reload_leaves_unchanged_checks_alone() {
    let (good, other) = (test_servers::answering(PAGE).await, test_servers::answering(PAGE).await);
    let (mut checker, mut verdicts) = checker();
    let first = service(1, Some(http()), &[good.address]);
    checker.set(std::slice::from_ref(&first));
    until(&mut verdicts, State::Up).await;

    let renamed = Service { name: "renamed".into(), scheduler: Scheduler::Wlc, ..first };
    let second = service(2, Some(http()), &[other.address]);
    let key = second.key;
    checker.set(&[second, renamed]);
    assert_eq!(next(&mut verdicts).await.service, key, "only the new one has news");
    quiet(&mut verdicts).await;
}

#[tokio::test]
async fn a_changed_check_keeps_the_state_and_decides_at_its_first_result() {
    let server = test_servers::answering(PAGE).await;
    let (mut checker, mut verdicts) = checker();
    checker.set(&[service(1, Some(http()), &[server.address])]);
    until(&mut verdicts, State::Up).await;

    checker.set(&[service(1, Some(Check { fall: 5, ..http() }), &[server.address])]);
    quiet(&mut verdicts).await;
    checker.set(&[service(
        1,
        Some(Check { port: Some(test_servers::closed().await.port()), ..http() }),
        &[server.address],
    )]);
    let down = next(&mut verdicts).await;
    assert_eq!((down.state, down.reason.as_deref()), (State::Down, Some("connection refused")));
}

#[tokio::test]
async fn what_is_removed_ends_at_once() {
    let (sender, mut asked) = mpsc::unbounded_channel();
    let server = test_servers::serving(move |mut stream| {
        let sender = sender.clone();
        async move {
            test_servers::read_header(&mut stream).await;
            sender.send(()).expect("a test that listens");
            test_servers::read_header(&mut stream).await;
            sender.send(()).expect("a test that listens");
        }
    })
    .await;
    let (mut checker, mut verdicts) = checker();
    let check = Check { timeout: PATIENCE * 2, ..http() };
    checker.set(&[service(1, Some(check), &[server.address])]);
    asked.recv().await.expect("a probe in flight");
    checker.set(&[service(1, None, &[server.address])]);
    let closed = tokio::time::timeout(PATIENCE, asked.recv()).await;
    assert_eq!(closed, Ok(Some(())), "its socket is closed");
    quiet(&mut verdicts).await;
    assert!(asked.try_recv().is_err(), "no further probe");
}

#[tokio::test]
async fn one_that_hangs_holds_up_no_other() {
    let (good, silent) = (test_servers::answering(PAGE).await, test_servers::silent().await);
    let (mut checker, mut verdicts) = checker();
    let brief = Check { timeout: Duration::from_millis(200), ..http() };
    checker.set(&[service(1, Some(brief), &[silent.address]), service(2, Some(http()), &[good.address])]);
    let mut both = [next(&mut verdicts).await, next(&mut verdicts).await];
    both.sort_by_key(|verdict| verdict.service);
    assert_eq!(both.each_ref().map(|verdict| verdict.state), [State::Down, State::Up]);
    let reason = both[0].reason.take().expect("a reason");
    assert!(reason.starts_with("connected after "), "{reason}");
    assert!(reason.ends_with(", then no answer within 200ms"), "{reason}");
    let failures = both.map(|verdict| checker.outcomes(verdict.service, verdict.server, 1)[0].failures);
    assert!(failures[0] > 0 && failures[1] == 0, "{failures:?}");
}

#[tokio::test]
async fn many_checks_at_once_all_come_to_a_verdict() {
    let server = test_servers::silent().await;
    let (mut checker, mut verdicts) = checker();
    let tcp =
        Check { probe: Probe::Tcp(Exchange::default()), interval: Duration::from_millis(100), ..http() };
    let services: Vec<_> = (0..200).map(|vip| service(vip, Some(tcp.clone()), &[server.address])).collect();
    checker.set(&services);
    let mut seen = HashSet::new();
    while seen.len() < services.len() {
        let verdict = next(&mut verdicts).await;
        assert_eq!(verdict.state, State::Up, "{verdict:?}");
        assert!(seen.insert(verdict.service), "told once");
    }
}

/// As in HAProxy, the regular check decides whether the server serves.
#[tokio::test]
async fn c2_an_agent_that_is_gone_does_not_take_out_a_server_that_serves() {
    let server = test_servers::answering(PAGE).await;
    let agent = test_servers::closing_after(b"up 50%\n").await;
    let (mut checker, mut verdicts) = checker();
    let agent_port = Some(agent.address.port());
    let agents = Check { probe: Probe::Agent { send: None }, port: agent_port, ..http() };
    let mut web = service(1, None, &[server.address]);
    web.servers[0].checks = [http(), agents].into();
    checker.set(&[web]);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let verdict = next(&mut verdicts).await;
        assert_eq!(verdict.state, State::Up, "{verdict:?}");
        seen.push((verdict.index, verdict.advice));
    }
    seen.sort_by_key(|(place, _)| *place);
    let half = Some(Advice::Percent(50));
    assert_eq!(seen, [(0, None), (1, half)]);
    drop(agent);
    let warned = next(&mut verdicts).await;
    assert_eq!((warned.index, warned.state, warned.reason, warned.advice), (1, State::Up, None, half));
    let words = "the agent does not answer (connection refused); its last answer still applies";
    assert_eq!(warned.warning.as_deref(), Some(words));
    quiet(&mut verdicts).await;
}
