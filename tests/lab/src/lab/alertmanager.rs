//! Alertmanager on a node. It tells nobody.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Node;

pub const PORT: u16 = 9093;

const CONFIGURATION: &str = "route: { receiver: nobody, group_wait: 1s, group_interval: 1s }\n\
    receivers: [{ name: nobody }]\n";

#[derive(Debug, Clone)]
pub struct Alertmanager(Node);

impl Alertmanager {
    /// Starts it on all addresses of the node.
    pub fn start(node: &Node) -> Result<Self> {
        let folder = node.folder()?;
        let configuration = folder.join("alertmanager.yml");
        fs::write(&configuration, CONFIGURATION)?;
        let arguments = [
            format!("--config.file={}", configuration.display()),
            format!("--storage.path={}", folder.join("alertmanager").display()),
            format!("--web.listen-address=0.0.0.0:{PORT}"),
            "--cluster.listen-address=".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let program = "prometheus-alertmanager";
        let started = node.start_server(program, program, &arguments, PORT);
        started.with_context(|| format!("{program} (`cargo xtask setup` installs it)"))?;
        Ok(Self(node.clone()))
    }

    /// The alerts by this name that it has.
    pub fn alerts(&self, name: &str) -> Result<Vec<Value>> {
        let filter = format!("alertname=\"{name}\"");
        let alerts = self.0.get_json(PORT, "/api/v2/alerts", &[("filter", &*filter)])?;
        alerts.as_array().cloned().with_context(|| format!("{alerts}"))
    }
}
