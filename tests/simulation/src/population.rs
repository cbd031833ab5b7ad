//! Connections that begin and end at the directors of a simulated cluster.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use lb_common::table::connection::State;
use lb_sync::simulation::World;

/// How long a connection lasts that ends.
pub(crate) const LIFE: Duration = Duration::from_secs(1);
/// From the client's FIN to the server's.
const CLOSING: Duration = Duration::from_millis(100);

pub(crate) struct Population {
    pub world: World,
    /// Clients of connections that stay.
    pub lasting: Vec<u32>,
    /// Connections that the last step has opened.
    pub opened: Vec<u32>,
    /// All of them so far.
    count: u32,
    open: VecDeque<Ending>,
    closing: VecDeque<Ending>,
    /// What is due of the next connection at each director.
    due: Vec<f64>,
}

/// A connection and its next step.
struct Ending {
    client: u32,
    node: usize,
    at: Duration,
}

impl Population {
    pub(crate) fn new(world: World, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Not all of them at the same moment.
        let due = world.directors.iter().map(|_| rng.f64()).collect();
        Self {
            world,
            lasting: Vec::new(),
            opened: Vec::new(),
            count: 0,
            open: VecDeque::new(),
            closing: VecDeque::new(),
            due,
        }
    }

    /// A step of the clock, while each director that runs gets so many new connections a second.
    pub(crate) fn step(&mut self, rate: f64, lasting: bool) {
        self.opened.clear();
        let now = self.world.now;
        for node in 0..self.due.len() {
            if self.world.directors[node].side().is_none() {
                continue;
            }
            self.due[node] += rate * self.world.step.as_secs_f64();
            while self.due[node] >= 1.0 {
                self.due[node] -= 1.0;
                // Every third client would have IPv6, so those are left out.
                let client = 3 * (self.count / 2) + 1 + self.count % 2;
                self.count += 1;
                self.world.happen(node, client, State::Established);
                self.opened.push(client);
                match lasting {
                    true => self.lasting.push(client),
                    false => self.open.push_back(Ending { client, node, at: now + LIFE }),
                }
            }
        }
        while let Some(Ending { client, node, .. }) = due(&mut self.open, now) {
            self.world.happen(node, client, State::FinWait);
            self.closing.push_back(Ending { client, node, at: now + CLOSING });
        }
        while let Some(Ending { client, node, .. }) = due(&mut self.closing, now) {
            self.world.happen(node, client, State::TimeWait);
        }
        self.world.step();
    }

    pub(crate) fn knows(&self, node: usize, client: u32) -> bool {
        self.world.state(node, client).is_some_and(|state| !state.is_evictable())
    }
}

fn due(endings: &mut VecDeque<Ending>, now: Duration) -> Option<Ending> {
    endings.front().filter(|ending| ending.at <= now)?;
    endings.pop_front()
}

/// Connections that directors are to know, and how far each of these is.
pub(crate) struct Awaited {
    clients: Vec<u32>,
    /// By director: how many it knows of the first ones.
    known: Vec<(usize, usize)>,
}

impl Awaited {
    pub(crate) fn new(clients: &[u32], nodes: impl IntoIterator<Item = usize>) -> Self {
        Self { clients: clients.to_vec(), known: nodes.into_iter().map(|node| (node, 0)).collect() }
    }

    /// Whether all know all.
    pub(crate) fn is_over(&mut self, population: &Population) -> bool {
        for (node, known) in &mut self.known {
            let unknown = self.clients[*known..].iter().position(|client| !population.knows(*node, *client));
            match unknown {
                Some(more) => *known += more,
                None => *known = self.clients.len(),
            }
        }
        self.known.iter().all(|(_, known)| *known == self.clients.len())
    }
}
