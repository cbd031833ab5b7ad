//! The metrics, scraped by the real Prometheus with the scrape configuration that is shipped.

use std::path::Path;
use std::time::{Duration, Instant};

use lb_lab::cluster::Talk;
use lb_lab::lab::unique_name;
use lb_lab::scenario::traffic::Spread;

/// Prometheus starts, and scrapes every 5 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// The value of the only sample that `query` finds, once there is one that `wanted` accepts.
fn wait_for(talk: &Talk, query: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(talk, query);
        if let Some(value) = answer.as_ref().ok().and_then(sample)
            && wanted(value)
        {
            return value;
        }
        assert!(Instant::now() < deadline, "waited for {query}; the last answer was {answer:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn ask(talk: &Talk, query: &str) -> anyhow::Result<serde_json::Value> {
    let output = talk
        .ha1
        .command("curl")
        .args(["-q", "--silent", "--noproxy", "*", "--max-time", "2", "--get", "--data-urlencode"])
        .arg(format!("query={query}"))
        .arg("http://127.0.0.1:9090/api/v1/query")
        .output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn sample(answer: &serde_json::Value) -> Option<f64> {
    let [only] = answer["data"]["result"].as_array()?.as_slice() else { return None };
    only["value"][1].as_str()?.parse().ok()
}

#[test]
fn prometheus_scrapes_what_clients_did() {
    let talk = Talk::new(&unique_name("prometheus")).expect("the cluster comes up");
    let director = talk.start_director().expect("lb starts on ha1");
    director
        .wait_until("both servers up", PATIENCE, |status| status.serves("www1") && status.serves("www2"))
        .expect("both servers come up");
    let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/prometheus.yml");
    let storage = talk.ha1.folder().expect("a folder").join("prometheus");
    let arguments = [
        format!("--config.file={}", configuration.display()),
        format!("--storage.tsdb.path={}", storage.display()),
        "--web.listen-address=127.0.0.1:9090".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    talk.ha1
        .start("prometheus", "prometheus", &arguments)
        .expect("prometheus starts (`cargo xtask setup` installs it)");

    assert_eq!(Spread::of_requests(&talk.client, 20).total(), 20);
    wait_for(&talk, "lb_service_connections_total{service=\"web\"}", |value| value == 20.0);
    wait_for(&talk, "lb_server_connections_total{server=\"www1\"}", |value| value == 10.0);
    wait_for(&talk, "sum(lb_server_up)", |value| value == 2.0);
    wait_for(&talk, "lb_server_packets_total{server=\"www2\"}", |value| value >= 30.0);
    wait_for(&talk, "lb_server_bytes_total{server=\"www2\"}", |value| value >= 30.0 * 54.0);
    wait_for(&talk, "lb_table_slots", |value| value >= 2_000_000.0);
    wait_for(&talk, "count(lb_dropped_packets_total)", |value| value >= 8.0);
    wait_for(&talk, "lb_config_reload_ok", |value| value == 1.0);
}
