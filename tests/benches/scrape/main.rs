//! What a scrape of the metrics takes with thousands of servers: from the question to the last byte
//! of the answer, with all that the director does for it.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use lb_api::status::Status;
use lb_lab::lab::{Director, Lab, unique_name};
use lb_lab::origin;
use serde_json::json;

/// What a scrape of the metrics takes with thousands of servers.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench scrape")]
struct Options {
    /// Print JSON instead of a line.
    #[arg(long)]
    json: bool,
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=4000))]
    services: u32,
    /// Servers of each service.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    servers: u32,
    /// How often the metrics are scraped.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    scrapes: u32,
    /// Cargo adds this to every benchmark's arguments.
    #[arg(long, hide = true)]
    bench: bool,
}

/// As long as any scrape may take.
const GOAL: Duration = Duration::from_millis(100);

const PATIENCE: Duration = Duration::from_secs(120);

/// What one scrape took and brought.
struct Scrape {
    took: Duration,
    bytes: usize,
    series: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let lab = Lab::new(&unique_name("scrape"))?;
    let (node, machine) =
        (lab.node("director", "10.67.0.1/16".parse()?)?, lab.node("servers", "10.67.0.2/16".parse()?)?);
    // It answers ARP for all servers.
    machine.ip("route add local 10.67.200.0/24 dev lo")?;
    let director = Director::start(&node, &configuration(&options))?;
    let all = options.services * options.servers;
    let known = |status: &Status| {
        let servers = status.services.iter().flat_map(|service| &service.servers);
        servers.filter(|server| server.mac.is_some()).count() == all as usize
    };
    director.wait_until("the MAC of each server", PATIENCE, known)?;
    // What the start has stirred up is over by then.
    thread::sleep(Duration::from_secs(2));
    let mut scrapes = node.run(|| (0..options.scrapes).map(|_| scrape()).collect::<Result<Vec<_>>>())??;
    scrapes.sort_by_key(|scrape| scrape.took);
    let millis = |scrape: &Scrape| scrape.took.as_secs_f64() * 1e3;
    let median = &scrapes[scrapes.len() / 2];
    let worst = scrapes.last().context("no scrape")?;
    let met = worst.took <= GOAL;
    if options.json {
        let found = json!({
            "services": options.services, "servers": all, "series": median.series, "bytes": median.bytes,
            "median_ms": millis(median), "worst_ms": millis(worst), "goal_ms": GOAL.as_millis(), "met": met,
        });
        println!("{}", origin::json(&json!({ "scrape": found }))?);
    } else {
        println!(
            "{} services, {all} servers: {} series, {:.1} MB; median {:.0} ms, worst of {} {:.0} ms; \
             goal at most {} ms: {}",
            options.services,
            median.series,
            median.bytes as f64 / 1e6,
            millis(median),
            scrapes.len(),
            millis(worst),
            GOAL.as_millis(),
            if met { "met" } else { "missed" }
        );
    }
    ensure!(met, "the goal was missed");
    Ok(())
}

/// All services have the same servers.
fn configuration(Options { services, servers, .. }: &Options) -> String {
    let mut text = "interface: eth0\nservices:\n".to_owned();
    for service in 0..*services {
        let (vip, port) = (1 + service / 100, 1000 + service % 100);
        let _ = write!(text, "  - vip: 10.67.1.{vip}:{port}\n    check: {{ type: none }}\n    servers:\n");
        for server in 1..=*servers {
            let _ = writeln!(text, "      - address: 10.67.200.{server}");
        }
    }
    text
}

fn scrape() -> Result<Scrape> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", 9105)).context("the metrics")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let took = begin.elapsed();
    let (header, page) = answer.split_once("\r\n\r\n").context("no page")?;
    ensure!(header.starts_with("HTTP/1.1 200 "), "{header}");
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    Ok(Scrape { took, bytes: page.len(), series })
}
