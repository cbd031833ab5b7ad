//! A real web server on a node: nginx with its own folder, configuration and logs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::{Node, Process, cleanup};

/// All paths are relative to the folder of `nginx -p`.
const CONFIGURATION: &str = "\
daemon off;
user root;  # it must read its page from a folder of root's, whatever the distribution calls its web user
worker_processes 1;
pid nginx.pid;
error_log stderr;
events { worker_connections 4096; }
http {
    log_format timed '$msec $server_addr $remote_addr';
    access_log access.log timed;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    default_type text/plain;
    server {
        include listen.conf;
        root html;
    }
}
";

const EVERYWHERE: &str = "listen 0.0.0.0:80; listen [::]:80;";

/// An nginx on port 80 of a node.
#[derive(Debug, Clone)]
pub struct WebServer {
    node: Node,
}

impl WebServer {
    pub(super) fn new(node: &Node, page: &str) -> Result<Self> {
        let folder = node.folder()?;
        fs::create_dir_all(folder.join("html"))?;
        fs::write(folder.join("html/index.html"), format!("{page}\n"))?;
        fs::write(folder.join("nginx.conf"), CONFIGURATION)?;
        fs::write(folder.join("listen.conf"), EVERYWHERE)?;
        Ok(Self { node: node.clone() })
    }

    /// The web server of a node in a lab of another process.
    pub fn open(node: &Node) -> Result<Self> {
        ensure!(node.folder()?.join("nginx.conf").is_file(), "{} has no web server", node.name());
        Ok(Self { node: node.clone() })
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The file in which the page of this name is: whoever writes it has it served.
    pub fn page(&self, name: &str) -> Result<PathBuf> {
        Ok(self.node.folder()?.join("html").join(name))
    }

    fn process(&self) -> Option<Process> {
        self.node.state().process(&self.node.record("nginx"))
    }

    /// From its next start on, the server listens only on the node's own address and on loopback.
    pub fn listen_on_own_address(&self) -> Result<()> {
        let own = format!("listen {}:80; listen 127.0.0.1:80;", self.node.address());
        fs::write(self.node.folder()?.join("listen.conf"), own).context("cannot write nginx's configuration")
    }

    /// Starts the server and waits until it accepts connections. Does nothing if it is running.
    pub fn start(&self) -> Result<()> {
        if self.process().is_some() {
            return Ok(());
        }
        let folder = self.node.folder()?;
        let folder = folder.to_str().context("the lab's folder is not UTF-8")?;
        let arguments = ["-e", "stderr", "-p", folder, "-c", "nginx.conf"];
        self.node.start_server("nginx", "nginx", &arguments, 80).map(drop)
    }

    /// Stops the server and waits until its port is closed. Does nothing if it is not running.
    pub fn stop(&self) -> Result<()> {
        match self.process() {
            Some(process) => process.stop(Duration::from_secs(30)),
            None => Ok(()),
        }
    }

    /// Freezes the server (SIGSTOP) until [`WebServer::thaw`]: the kernel still accepts
    /// connections, but no process answers.
    pub fn freeze(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    /// Signals master and workers: the node has no other processes.
    fn signal_all(&self, signal: Signal) {
        let members = cleanup::members(&self.node.state().namespace(self.node.name()));
        members.iter().for_each(|process| process.signal(signal));
    }

    /// The answered requests so far.
    pub fn requests(&self) -> Result<Vec<Request>> {
        let log = self.node.folder()?.join("access.log");
        let text = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
        // The last line may be incomplete.
        Ok(text.lines().filter_map(Request::parse).collect())
    }
}

/// An answered request in the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// Seconds since 1970, to the millisecond.
    pub at: f64,
    /// Destination address.
    pub server: Ipv4Addr,
    /// Source address.
    pub client: Ipv4Addr,
}

impl Request {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next();
        Some(Self { at: next()?.parse().ok()?, server: next()?.parse().ok()?, client: next()?.parse().ok()? })
    }
}
