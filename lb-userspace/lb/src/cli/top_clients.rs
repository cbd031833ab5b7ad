//! `lb top-clients`: which clients have and open most connections, and whose packets are refused
//! most, in the director's order: by the sum of these three.

use anyhow::Result;
use clap::Args;
use lb_api::top::TopClient;
use lb_api::{client, schema};

use super::output::{Director, json_line, print};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How many clients at most, up to 1000
    #[arg(long, value_name = "N", default_value_t = 20)]
    count: usize,
    /// Print one JSON object a line, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

pub(super) fn run(Options { count, json, director }: Options) -> Result<()> {
    let mut clients = client::request_top_clients(&director.socket)?;
    clients.truncate(count);
    let text = match json {
        true => clients.iter().map(|client| json_line(schema::CLIENT, client)).collect::<Result<_>>()?,
        false => table(&clients),
    };
    print(&text)
}

const HEAD: [&str; 8] =
    ["Client", "Connections", "New/s", "Packets/s", "Refused/s", "Limited", "Denied", "Service"];

fn table(clients: &[TopClient]) -> String {
    let rows: Vec<[String; 8]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(clients.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; 8] = std::array::from_fn(width);
    let line = |row: &[String; 8]| {
        let [client, figures @ .., service] = row;
        let figures = figures.iter().zip(&widths[1..]).map(|(figure, width)| format!(" {figure:>width$}"));
        format!("{client:<width$}{} {service}\n", figures.collect::<String>(), width = widths[0])
    };
    rows.iter().map(line).collect()
}

fn row(client: &TopClient) -> [String; 8] {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    [
        client.client.clone(),
        client.connections.to_string(),
        rate(client.new_per_second),
        rate(client.packets_per_second),
        rate(Some(client.refused_per_second)),
        client.limited.to_string(),
        client.denied.to_string(),
        client.service.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_client() {
        let one = |client: &str, new_per_second| TopClient {
            client: client.to_owned(),
            service: "web".to_owned(),
            connections: 320,
            new_per_second,
            packets_per_second: None,
            refused_per_second: 1.5,
            limited: 12,
            denied: 0,
        };
        let shown = table(&[one("2001:db8:1:2::/64", Some(10.0)), one("192.0.2.1", None)]);
        let wanted = "Client            Connections New/s Packets/s Refused/s Limited Denied Service\n\
                      2001:db8:1:2::/64         320  10.0         -       1.5      12      0 web\n\
                      192.0.2.1                 320     -         -       1.5      12      0 web\n";
        assert_eq!(shown, wanted);
    }
}
