//! `lb-kube` itself, and what it says.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::api::Api;
use crate::director::Director;

/// Whatever is waited for has come by then, on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// The namespace of the Lease.
pub(crate) const NAMESPACE: &str = "lb-system";

pub(crate) const POOLS: &str = "
pools:
  - { name: public, addresses: [192.0.2.10-192.0.2.12, 2001:db8::10] }
";

pub(crate) struct LbKube {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl LbKube {
    /// `folder` gets the files that it reads.
    pub(crate) fn start(folder: &Path, api: &Api, director: &Director, identity: &str) -> Self {
        Self::start_with(folder, &api.url, &director.socket, identity, &[])
    }

    pub(crate) fn start_with(folder: &Path, url: &str, socket: &Path, identity: &str, more: &[&str]) -> Self {
        let kubeconfig = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{ name: test, cluster: {{ server: '{url}' }} }}]\n\
             users: [{{ name: test, user: {{}} }}]\n\
             contexts: [{{ name: test, context: {{ cluster: test, user: test, namespace: {NAMESPACE} }} }}]\n"
        );
        fs::write(&kubeconfig, text).expect("a kubeconfig");
        let config = folder.join("config.yaml");
        if !config.exists() {
            fs::write(&config, POOLS).expect("a configuration");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb-kube"));
        command.arg("--kubeconfig").arg(kubeconfig).arg("--config").arg(config);
        command.arg("--socket").arg(socket).arg("--identity").arg(identity).args(more);
        command.env_remove("KUBECONFIG").env_remove("POD_NAMESPACE").env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("lb-kube starts");
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let (heard, identity) = (Arc::clone(&log), identity.to_owned());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("{identity}: {line}");
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        Self { child, log }
    }

    pub(crate) fn said(&self, words: &str) -> bool {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).contains(words)
    }

    /// How often it has said that.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).matches(words).count()
    }

    /// Has it end; it must do so by itself.
    pub(crate) async fn stop(mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("a signal");
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it ends").expect("its exit code");
        assert!(status.success(), "{status}");
    }

    /// As a machine that loses its power.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it is killed");
    }
}

/// Waits until it is so.
pub(crate) async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
