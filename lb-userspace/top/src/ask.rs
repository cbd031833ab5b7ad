//! Asks the director once a second, gives it orders, and has it list connections.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Result;
use lb_api::client;
use lb_api::status::ProbeReport;
use lb_api::wire::Request;
use lb_model::millis;

use crate::listing::{Ask, Listed, Part};
use crate::state::{Input, Snapshot};

const PERIOD: Duration = Duration::from_secs(1);

pub(crate) fn snapshot(socket: &Path) -> Result<Snapshot> {
    let status = client::request_status(socket)?;
    let events = client::request_events(socket, None)?;
    Ok(Snapshot { status, events, at: Instant::now() })
}

/// Tells what the director says, until nobody listens any more.
pub(crate) fn follow(socket: &Path, orders: &Receiver<Request>, tell: &Sender<Input>) {
    let mut next = Instant::now() + PERIOD;
    loop {
        let told = match orders.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(order) => Input::Outcome(give(socket, &order).map_err(|error| format!("{error:#}"))),
            Err(RecvTimeoutError::Timeout) => {
                next = Instant::now() + PERIOD;
                match snapshot(socket) {
                    Ok(snapshot) => Input::Snapshot(Box::new(snapshot)),
                    Err(error) => Input::Trouble(format!("{error:#}")),
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if tell.send(told).is_err() {
            return;
        }
    }
}

/// Has connections listed as they are asked for, until nobody listens any more. That is for a
/// thread of its own: the director may walk over a large table for seconds.
pub(crate) fn list(socket: &Path, asked: &Receiver<Ask>, tell: &Sender<Input>) {
    for ask in asked {
        let begun = Instant::now();
        let outcome = part(socket, &ask).map_err(|error| format!("{error:#}"));
        let listed = Listed { ask, outcome, took: begun.elapsed() };
        if tell.send(Input::Listed(Box::new(listed))).is_err() {
            return;
        }
    }
}

fn part(socket: &Path, ask: &Ask) -> Result<Part> {
    let mut connections = Vec::new();
    let end = client::list_connections(socket, &ask.filter, ask.bounds.clone(), |some| {
        connections.extend(some);
        Ok(())
    })?;
    Ok(Part { connections, next: end.next })
}

/// What there is to say of an order that was carried out, in lines.
fn give(socket: &Path, order: &Request) -> Result<Vec<String>> {
    match order {
        Request::Probe { service, server } => {
            Ok(client::request_probe(socket, service, server)?.iter().flat_map(report).collect())
        }
        order => client::request_server_order(socket, order).map(|message| vec![message]),
    }
}

fn report(report: &ProbeReport) -> Vec<String> {
    let outcome = match &report.failure {
        None => format!("succeeded in {}", millis(report.took_us)),
        Some(failure) => format!("failed: {failure}"),
    };
    let steps = report.steps.iter().map(|step| format!("  {:>8}  {}", millis(step.after_us), step.what));
    let head = format!("{} to {}: {outcome}", report.check, report.target);
    [head].into_iter().chain(steps).chain(report.warning.clone()).collect()
}
