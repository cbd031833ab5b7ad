//! prototype
use anyhow::Result;
use lb_tests::crowd::Crowd;
use lb_tests::lab::{Director, unique_name};
use std::thread;
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let n: usize = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(5000);
    let check = std::env::var("CHECK").unwrap_or(
        "{ type: http, request: /index.html, receive: Test Page, interval: 1s, timeout: 3s }".into(),
    );
    let begun = Instant::now();
    let crowd = Crowd::new(&unique_name("scale"), n, 50)?;
    println!("lab {:?}", begun.elapsed());
    let begun = Instant::now();
    let director = Director::start(&crowd.director, &crowd.configuration(&check))?;
    println!("status answers {:?}, cpu {:?}", begun.elapsed(), director.process().cpu_time()?);
    loop {
        let status = director.status()?;
        let count = |health: &str| {
            status.services.iter().flat_map(|s| &s.servers).filter(|s| s.health == health).count()
        };
        let macs = status.services.iter().flat_map(|s| &s.servers).filter(|s| s.mac.is_some()).count();
        println!(
            "{:?} up {} down {} unknown {} macs {macs}, cpu {:?}",
            begun.elapsed(),
            count("up"),
            count("down"),
            count("unknown"),
            director.process().cpu_time()?
        );
        if count("up") == n && macs == n {
            break;
        }
        if begun.elapsed() > Duration::from_secs(30) {
            println!("{}", director.log_tail());
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    thread::sleep(Duration::from_secs(5));
    println!("pid {}", director.process().pid());
    for _ in 0..3 {
        let before = (
            Instant::now(),
            director.process().cpu_time()?,
            crowd.steady.requests()?.len() + crowd.frail.requests()?.len(),
        );
        thread::sleep(Duration::from_secs(5));
        let (wall, cpu) = (before.0.elapsed(), director.process().cpu_time()? - before.1);
        let requests = crowd.steady.requests()?.len() + crowd.frail.requests()?.len() - before.2;
        println!(
            "cpu share {:.3}, checks/s {:.0}, fds {}",
            cpu.as_secs_f64() / wall.as_secs_f64(),
            requests as f64 / wall.as_secs_f64(),
            director.process().open_files()?
        );
    }
    if std::env::var("HOLD").is_ok() {
        thread::sleep(Duration::from_secs(60));
    }
    Ok(())
}
