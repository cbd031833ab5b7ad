//! The loop: what watches tell goes to the director, and, if this one leads, back to the cluster.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::decisions::{self, Answer, Unseen};
use crate::desired::{Desired, desired};
use crate::elector::Elector;
use crate::gateway::{self, Gateways};
use crate::health::{self, Board};
use crate::words::OngoingTrouble;
use crate::writer::Writer;
use crate::{director, watch as watches};

/// What comes within so long is one change: a rolling update changes endpoints one by one.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// After a failure all is tried again,
const RETRY: Duration = Duration::from_secs(2);
/// and if nothing happens, too: the director may have lost what it was given.
const RESYNC: Duration = Duration::from_secs(30);
/// The writes of one round may take so long.
const LONGEST_WRITES: Duration = Duration::from_secs(10);
/// The Lease is given up within so long, or left to the others' patience.
const LONGEST_LEAVE: Duration = Duration::from_secs(5);
/// Events of watches that may wait.
const QUEUE: usize = 256;

/// Where things are.
pub(crate) struct Settings {
    pub file: PathBuf,
    pub socket: PathBuf,
    /// The namespace of the Lease.
    pub namespace: String,
    /// This one among all `lb-kube`s.
    pub me: String,
}

enum Message {
    Service(Box<Event<api::Service>>),
    Slice(Box<Event<EndpointSlice>>),
    Node(Box<Event<api::Node>>),
    Gateway(gateway::News),
}

impl From<gateway::News> for Message {
    fn from(news: gateway::News) -> Self {
        Self::Gateway(news)
    }
}

/// Runs until `end` comes to its end. What the director serves stays as it is.
pub(crate) async fn run(
    client: Client,
    settings: Settings,
    health: Option<TcpListener>,
    end: impl Future<Output = ()>,
) -> Result<()> {
    let config = Config::read(&settings.file).context("the configuration")?;
    let board = Board::default();
    let (to, messages) = mpsc::channel(QUEUE);
    let (leads, leadership) = watch::channel(None);
    let (stop, stopping) = watch::channel(false);
    let elector = Elector::new(client.clone(), &settings.namespace, settings.me.clone());
    let elector = tokio::spawn(elector.run(leads, stopping));
    let mut others = watching(&client, &to);
    others.extend(gateway::watch::watching(&client, &to));
    drop(to);
    if let Some(listener) = health {
        others.push(tokio::spawn(health::serve(listener, board.clone())));
    }
    let mut runner = Runner {
        writer: Writer::new(client.clone(), settings.me.clone()),
        gateway_writer: gateway::writer::Writer::new(client),
        settings,
        config,
        cluster: Cluster::default(),
        gateways: Gateways::default(),
        board,
        given: None,
        answer: None,
        unseen: Unseen::default(),
        director: OngoingTrouble::default(),
        file: OngoingTrouble::default(),
        leadership,
    };
    let outcome = tokio::select! {
        () = runner.follow(messages) => Err(anyhow!("nobody watches the API server any more")),
        () = end => {
            tracing::info!("stopping; the director goes on serving what it has");
            Ok(())
        }
    };
    others.iter().for_each(JoinHandle::abort);
    let _ = stop.send(true);
    if timeout(LONGEST_LEAVE, elector).await.is_err() {
        tracing::warn!("the Lease was not given up in time; another lb-kube takes it when it has run out");
    }
    outcome
}

fn watching(client: &Client, to: &mpsc::Sender<Message>) -> Vec<JoinHandle<()>> {
    let services = Api::<api::Service>::all(client.clone());
    let slices = Api::<EndpointSlice>::all(client.clone());
    let nodes = Api::<api::Node>::all(client.clone());
    vec![
        tokio::spawn(watches::follow(services, "Services", to.clone(), |event| {
            Message::Service(Box::new(event))
        })),
        tokio::spawn(watches::follow(slices, "EndpointSlices", to.clone(), |event| {
            Message::Slice(Box::new(event))
        })),
        tokio::spawn(watches::follow(nodes, "Nodes", to.clone(), |event| Message::Node(Box::new(event)))),
    ]
}

struct Runner {
    settings: Settings,
    config: Config,
    cluster: Cluster,
    gateways: Gateways,
    board: Board,
    writer: Writer,
    gateway_writer: gateway::writer::Writer,
    /// What the director has, and since when.
    given: Option<(Desired, Instant)>,
    answer: Option<Answer>,
    /// What was written to the cluster and is not known yet.
    unseen: Unseen,
    director: OngoingTrouble,
    file: OngoingTrouble,
    /// Until when this one leads.
    leadership: watch::Receiver<Option<Instant>>,
}

impl Runner {
    async fn follow(&mut self, mut messages: mpsc::Receiver<Message>) {
        let mut next = tokio::time::Instant::now() + RESYNC;
        let mut is_running_for_office = true;
        loop {
            tokio::select! {
                message = messages.recv() => {
                    let Some(message) = message else { return };
                    let mut is_news = self.take(message);
                    // All that waits is one change.
                    while let Ok(message) = messages.try_recv() {
                        is_news |= self.take(message);
                    }
                    if is_news {
                        next = next.min(tokio::time::Instant::now() + DEBOUNCE);
                    }
                }
                changed = self.leadership.changed(), if is_running_for_office => {
                    is_running_for_office = changed.is_ok();
                    next = next.min(tokio::time::Instant::now() + DEBOUNCE);
                }
                () = sleep_until(next) => {
                    let is_well = self.act().await;
                    next = tokio::time::Instant::now() + if is_well { RESYNC } else { RETRY };
                }
            }
        }
    }

    /// Returns whether something is other than before.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Service(event) => self.cluster.services.take(*event),
            Message::Slice(event) => self.cluster.slices.take(*event),
            Message::Node(event) => self.cluster.nodes.take(*event),
            Message::Gateway(news) => self.gateways.take(news),
        }
    }

    /// Brings the director, and the cluster, to what they should be. Returns whether that was done.
    async fn act(&mut self) -> bool {
        self.read_file();
        let is_synced = self.cluster.is_complete();
        self.board.update(|figures| figures.is_synced = is_synced);
        if !is_synced {
            // Half a cluster would take services from clients.
            return true;
        }
        let is_given = self.give().await;
        let is_leader = self.leads();
        self.board.update(|figures| figures.is_leader = is_leader);
        let is_written = !is_leader || (self.write().await & self.write_gateways().await);
        is_given && is_written
    }

    fn leads(&self) -> bool {
        self.leadership.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// A file with a mistake leaves what was read before in force.
    fn read_file(&mut self) {
        match Config::read(&self.settings.file) {
            Ok(config) => {
                self.file.end("the configuration is right again");
                if config != self.config {
                    tracing::info!("the configuration has changed");
                    self.config = config;
                }
            }
            Err(error) => {
                self.file.trouble(format!("the configuration is refused, the one before stays: {error:#}"));
            }
        }
    }

    async fn give(&mut self) -> bool {
        let wanted = desired(&self.cluster, &self.config);
        let has_it = self.given.as_ref().is_some_and(|(given, at)| {
            *given == wanted && (at.elapsed() < RESYNC) && !self.director.is_trouble()
        });
        if has_it {
            return true;
        }
        match director::give(&self.settings.socket, wanted.clone()).await {
            Ok(answer) => {
                self.director.end("the director takes services again");
                for (name, why) in &answer.left_out {
                    let is_known =
                        self.answer.as_ref().is_some_and(|known| known.left_out.get(name) == Some(why));
                    if !is_known {
                        tracing::warn!("the director does not serve {name}: {why}");
                    }
                }
                self.board.update(|figures| {
                    figures.is_applied = true;
                    figures.applied += 1;
                    figures.services = answer.given.len();
                    figures.left_out = answer.left_out.len();
                });
                self.answer = Some(answer);
                self.given = Some((wanted, Instant::now()));
                true
            }
            Err(error) => {
                self.director.trouble(format!("the director takes no services: {error:#}"));
                self.board.update(|figures| {
                    figures.is_applied = false;
                    figures.failed += 1;
                });
                // Nobody knows what it has, and so what it serves.
                self.answer = None;
                false
            }
        }
    }

    async fn write(&mut self) -> bool {
        let services = self.cluster.services.all();
        let (answer, now) = (self.answer.as_ref(), Timestamp::now());
        let writes = decisions::writes(services, &self.config, &mut self.unseen, answer, now);
        if writes.is_empty() {
            return true;
        }
        let longest = time_to_write(*self.leadership.borrow(), Instant::now());
        match timeout(longest, self.writer.write(writes)).await {
            Ok(is_written) => is_written,
            Err(_) => {
                tracing::warn!("writing to Services took longer than {:.1} s", longest.as_secs_f64());
                false
            }
        }
    }

    /// Carriers of Gateways are Services like others, and need no more than what is written here.
    async fn write_gateways(&mut self) -> bool {
        if !self.gateways.is_complete() {
            // What is not known yet would take carriers from Gateways.
            return true;
        }
        let writes =
            gateway::decisions::writes(&self.gateways, &self.cluster, &self.config, &Timestamp::now());
        let longest = time_to_write(*self.leadership.borrow(), Instant::now());
        match timeout(longest, self.gateway_writer.write(writes)).await {
            Ok(is_written) => is_written,
            Err(_) => {
                tracing::warn!("writing for Gateways took longer than {:.1} s", longest.as_secs_f64());
                false
            }
        }
    }
}

/// How long writes may take that begin now. Whoever leads no longer writes no longer: another one
/// gives addresses by then.
fn time_to_write(leads_until: Option<Instant>, now: Instant) -> Duration {
    let left = leads_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
    left.min(LONGEST_WRITES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_longer_than_it_leads() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(time_to_write(None, now), Duration::ZERO);
        assert_eq!(time_to_write(Some(now), now + second), Duration::ZERO);
        assert_eq!(time_to_write(Some(now + 3 * second), now), 3 * second);
        assert_eq!(time_to_write(Some(now + 60 * second), now), LONGEST_WRITES);
    }
}
