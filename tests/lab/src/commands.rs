//! For tests: commands that /bin/sh runs, and a look at what became of them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lb_model::Command;

/// Longer than anything here may take.
pub const LONG: Duration = Duration::from_secs(50);

pub fn shell(script: &str, timeout: Duration) -> Command {
    Command { words: ["/bin/sh", "-c", script].map(str::to_owned).into(), timeout }
}

/// What a command has written into `file`, nothing if it is not there yet.
pub fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// Whether there is a process `pid`. A zombie runs no more, whoever shall reap it.
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
