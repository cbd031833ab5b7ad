//! Test helpers: commands for /bin/sh, and their effects.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lb_model::Command;

/// Time limit of all commands.
pub const LONG: Duration = Duration::from_secs(50);

pub fn shell(script: &str, timeout: Duration) -> Command {
    Command { words: ["/bin/sh", "-c", script].map(str::to_owned).into(), timeout }
}

/// The content of `file`; empty if it does not exist yet.
pub fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// Whether the process `pid` is running; a zombie is not.
pub fn runs(pid: &str) -> bool {
    let stat = read(&Path::new("/proc").join(pid).join("stat"));
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

pub async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LONG, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
