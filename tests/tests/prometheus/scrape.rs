//! What Prometheus gets with the scrape configuration that is shipped.

use std::io::Write as _;
use std::process::{Command, Stdio};

use lb_lab::cluster::{Talk, configuration};
use lb_lab::lab::{Director, unique_name};
use lb_lab::scenario::traffic::Spread;

use super::monitor::Monitor;
use super::{PATIENCE, deployed};

#[test]
fn prometheus_scrapes_what_clients_did() {
    let talk = Talk::new(&unique_name("prometheus")).expect("the cluster comes up");
    let configuration = configuration().expect("the example") + "metrics: { ipvs_names: on }\n";
    let director = Director::start(&talk.ha1, &configuration).expect("lb starts on ha1");
    director
        .wait_until("both servers up", PATIENCE, |status| status.serves("www1") && status.serves("www2"))
        .expect("both servers come up");
    let prometheus =
        Monitor::start(&talk.ha1, &deployed("prometheus/prometheus.yml")).expect("prometheus starts");

    assert_eq!(Spread::of_requests(&talk.client, 20).total(), 20);
    let wait_for = |query: &str, wanted: &dyn Fn(f64) -> bool| prometheus.wait_for(query, wanted);
    wait_for("lb_service_connections_total{service=\"web\"}", &|value| value == 20.0);
    wait_for("lb_server_connections_total{server=\"www1\"}", &|value| value == 10.0);
    wait_for("sum(lb_server_up)", &|value| value == 2.0);
    wait_for("sum(lb_server_state{state=\"up\"})", &|value| value == 2.0);
    wait_for("sum(lb_server_state)", &|value| value == 2.0);
    wait_for("lb_server_packets_total{server=\"www2\"}", &|value| value >= 30.0);
    wait_for("lb_server_bytes_total{server=\"www2\"}", &|value| value >= 30.0 * 54.0);
    wait_for("lb_table_slots", &|value| value >= 2_000_000.0);
    wait_for("count(lb_dropped_packets_total)", &|value| value >= 8.0);
    wait_for("lb_config_reload_ok", &|value| value == 1.0);
    wait_for("time() - lb_config_last_reload_success_timestamp_seconds", &|age| (0.0..600.0).contains(&age));
    wait_for("process_resident_memory_bytes{job=\"lb\"}", &|value| value > 1e6);
    wait_for("node_ipvs_connections_total", &|value| value == 20.0);
    let address = talk.www1.node().address();
    wait_for(
        &format!(
            "node_ipvs_backend_weight{{remote_address=\"{address}\", local_port=\"80\", proto=\"TCP\"}}"
        ),
        &|value| value == 1.0,
    );
    let info = format!("lb_server_info{{address=\"{address}\", method=\"Route\", server=\"www1\"}}");
    wait_for(&info, &|value| value == 1.0);
    let page = talk.ha1.get("http://127.0.0.1:9105/metrics").expect("the metrics");
    assert_eq!(lint(&page), "", "what promtool says of the page");
}

/// What promtool says of a page of metrics.
fn lint(page: &str) -> String {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool, of the package prometheus");
    let mut input = promtool.stdin.take().expect("a pipe");
    input.write_all(page.as_bytes()).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("an end");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success() || !said.is_empty(), "{:?}", output.status);
    said
}
