//! Figures as tables in Markdown, so that a document can have them as they are printed.

use std::fmt::Write as _;

use crate::figures::{Cost, Heal, Join, Lags, Memory, Size};

const COSTS: [&str; 11] = [
    "directors",
    "new/s each",
    "sent/s",
    "received/s",
    "Mbit/s sent",
    "Mbit/s received",
    "core, %",
    "bytes",
    "ns",
    "known p50, ms",
    "p99, ms",
];

const SIZES: [&str; 12] = [
    "directors",
    "connections",
    "table, MiB",
    "mirror, MiB",
    "others, MiB",
    "at most, MiB",
    "joins in, s",
    "says so, s",
    "takes, MB",
    "core, s",
    "heals in, s",
    "says so, s",
];

/// Both tables, and what their columns mean.
pub fn text(sizes: &[Size]) -> String {
    let costs = sizes.iter().flat_map(|size| size.costs.iter().map(move |cost| cost_row(size, cost)));
    let mut text = table(&COSTS, &costs.collect::<Vec<_>>());
    text += "\nThe mean of all directors. Mbit/s have the headers of UDP, IPv4 and Ethernet. `bytes` sent and `ns` of \
             processor time are what a\nnew connection at each adds for each other director; `known`: to all of them.\n\n";
    text += &table(&SIZES, &sizes.iter().map(size_row).collect::<Vec<_>>());
    text += "\nMemory of a director for the connections that all know, and for the state of all others. Then a \
             director with an empty table\njoins; and some that were cut off for four seconds are back.\n";
    if let Some(size) = sizes.iter().rfind(|size| size.calculated_from.is_none())
        && let Some(idle) = size.costs.iter().find(|cost| cost.new_per_s == 0)
    {
        let others = (size.directors - 1) as f64;
        let _ = writeln!(
            text,
            "\nIdle, for each other director: {:.1} datagrams/s, {:.2} kbit/s, {:.3} ms of a core each second.",
            idle.sent_per_s / others,
            idle.sent_mbit_s * 1e3 / others,
            idle.busy_share * 1e3 / others,
        );
    }
    for size in sizes {
        if let Some(from) = size.calculated_from {
            let _ = writeln!(
                text,
                "* {} directors are calculated from {from}: a number on the wire is a byte.",
                size.directors
            );
        }
    }
    text
}

fn cost_row(size: &Size, cost: &Cost) -> Vec<String> {
    let marginal = size.marginal(cost);
    let known = |lag: fn(Lags) -> f64| or_dash(cost.known.map(lag), 0);
    vec![
        name(size),
        cost.new_per_s.to_string(),
        format!("{:.0}", cost.sent_per_s),
        format!("{:.0}", cost.received_per_s),
        format!("{:.2}", cost.sent_mbit_s),
        format!("{:.2}", cost.received_mbit_s),
        format!("{:.2}", cost.busy_share * 100.0),
        or_dash(marginal.map(|marginal| marginal.bytes), 0),
        // At low rates the difference to an idle cluster is less than the measurement's noise.
        or_dash(marginal.map(|marginal| marginal.processor_ns).filter(|ns| *ns > 0.0), 0),
        known(|lags| lags.p50_ms),
        known(|lags| lags.p99_ms),
    ]
}

fn size_row(size: &Size) -> Vec<String> {
    let Memory { connections, table_bytes_each, mirror_bytes_each, peers_bytes, peers_bytes_most } =
        size.memory;
    let mib = |bytes: usize| format!("{:.2}", bytes as f64 / f64::from(1 << 20));
    let join = |figure: fn(Join) -> Option<f64>| or_dash(size.join.and_then(figure), 2);
    let heal = |figure: fn(Heal) -> Option<f64>| or_dash(size.heal.and_then(figure), 2);
    vec![
        name(size),
        connections.to_string(),
        mib(connections * table_bytes_each),
        mib(connections * mirror_bytes_each),
        mib(peers_bytes),
        mib(peers_bytes_most),
        join(|join| join.knows_all_s),
        join(|join| join.in_step_s),
        join(|join| Some(join.received_mbyte)),
        join(|join| Some(join.busy_s)),
        heal(|heal| heal.know_all_s),
        heal(|heal| heal.in_step_s),
    ]
}

fn name(size: &Size) -> String {
    format!("{}{}", size.directors, if size.calculated_from.is_some() { "*" } else { "" })
}

fn or_dash(figure: Option<f64>, decimals: usize) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.decimals$}"))
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).map(|(cell, &width)| format!(" {cell:>width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let mut text = line(&mut head.iter().copied());
    let rule: Vec<String> = widths.iter().map(|width| format!("{}:", "-".repeat(width - 1))).collect();
    text += &line(&mut rule.iter().map(String::as_str));
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}
