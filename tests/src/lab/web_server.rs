//! A real web server on a node: nginx with a folder, a configuration and logs of its own.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Node, Process};

/// All paths are relative to the folder that `nginx -p` names.
const CONFIGURATION: &str = "\
daemon off;
user root;  # it must read its page from a folder of root's, whatever the distribution calls its web user
worker_processes 1;
pid nginx.pid;
error_log stderr;
events { worker_connections 512; }
http {
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    default_type text/plain;
    server {
        listen 0.0.0.0:80;
        listen [::]:80;
        root html;
    }
}
";

/// An nginx on port 80 of a node, which can be stopped and started again.
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
        Ok(Self { node: node.clone() })
    }

    /// The web server of a node in a lab that another process made.
    pub fn open(node: &Node) -> Result<Self> {
        ensure!(node.folder()?.join("nginx.conf").is_file(), "{} has no web server", node.name());
        Ok(Self { node: node.clone() })
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    fn process(&self) -> Option<Process> {
        self.node.state().process(&self.node.record("nginx"))
    }

    /// Starts it and returns once it accepts connections. Does nothing if it runs.
    pub fn start(&self) -> Result<()> {
        if self.process().is_some() {
            return Ok(());
        }
        let folder = self.node.folder()?;
        let folder = folder.to_str().context("the lab's folder is not UTF-8")?;
        let arguments = ["-e", "stderr", "-p", folder, "-c", "nginx.conf"];
        self.node.start_server("nginx", "nginx", &arguments, 80).map(drop)
    }

    /// Stops it and returns once its port is closed. Does nothing if it does not run.
    pub fn stop(&self) -> Result<()> {
        match self.process() {
            Some(process) => process.stop(Duration::from_secs(5)),
            None => Ok(()),
        }
    }

    pub fn is_running(&self) -> bool {
        self.process().is_some()
    }
}
