//! `lb top-clients`: who opens most connections, and whose packets are refused most.

use anyhow::{Context as _, Result};
use clap::Args;
use lb_api::client;
use lb_api::top::TopClient;

use super::output::{Director, print};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How many clients at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    count: usize,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

pub(super) fn run(Options { count, json, director }: Options) -> Result<()> {
    let mut clients = client::request_top_clients(&director.socket)?;
    clients.truncate(count);
    let text = match json {
        true => serde_json::to_string_pretty(&clients).context("writing clients as JSON")? + "\n",
        false => table(&clients),
    };
    print(&text)
}

fn table(clients: &[TopClient]) -> String {
    let width = clients.iter().map(|one| one.client.to_string().len()).fold("Client".len(), usize::max);
    let line = |client: &str, connections: &str, refused: &str, service: &str| {
        format!("{client:<width$} {connections:>12} {refused:>12} {service}\n")
    };
    let rows = clients.iter().map(|TopClient { client, service, connections, refused }| {
        line(&client.to_string(), &about(*connections), &about(*refused), service)
    });
    let head = line("Client", "Connections", "Refused", "Service");
    std::iter::once(head).chain(rows).collect()
}

/// One of some was counted.
fn about(number: u64) -> String {
    if number == 0 { "-".to_owned() } else { format!("~{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_client() {
        let one = |client: &str, connections, refused| TopClient {
            client: client.parse().unwrap(),
            service: "web".to_owned(),
            connections,
            refused,
        };
        let shown = table(&[one("2001:db8::1", 320, 0), one("192.0.2.1", 0, 32)]);
        let wanted = "Client       Connections      Refused Service\n\
                      2001:db8::1         ~320            - web\n\
                      192.0.2.1              -          ~32 web\n";
        assert_eq!(shown, wanted);
    }
}
