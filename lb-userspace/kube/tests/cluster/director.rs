//! What stands in for a director: it takes services as the real one does, by the same types. The
//! real one, with packets, is in `lb-tests`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lb_api::wire::{LeftOut, Replaced, Reply, Request};
use lb_model::overlay::{KUBERNETES, NewService};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

#[derive(Default)]
struct Known {
    services: Vec<NewService>,
    replaced: usize,
    /// Services that it leaves out, and why.
    refuses: BTreeMap<String, String>,
    /// Why it takes nothing.
    fails: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Director {
    known: Arc<Mutex<Known>>,
    pub socket: PathBuf,
}

impl Director {
    pub(crate) fn start(folder: &Path, name: &str) -> Self {
        let socket = folder.join(name);
        let listener = UnixListener::bind(&socket).expect("a socket");
        let director = Self { known: Arc::default(), socket };
        let serving = director.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().converse(stream));
            }
        });
        director
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn converse(self, stream: UnixStream) {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let reply = match serde_json::from_str(&line).expect("a request") {
                Request::ReplaceSource { source, services } => {
                    assert_eq!(source, KUBERNETES);
                    self.known().replace(services)
                }
                other => Reply::Error(format!("nobody should ask for {other:?}")),
            };
            let mut text = serde_json::to_string(&reply).expect("JSON");
            text.push('\n');
            if writer.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// What it serves: names, VIPs, and the servers with their weights.
    pub(crate) fn serves(&self) -> Vec<String> {
        let known = self.known();
        let served = known.services.iter().filter(|service| !known.refuses.contains_key(&service.called()));
        let shown = served.map(|service| {
            let servers = service.servers.iter().map(|server| match server.weight {
                Some(weight) => format!("{}*{weight}", server.address),
                None => server.address.clone(),
            });
            let servers: Vec<String> = servers.collect();
            format!("{} {} {}", service.called(), service.vip, servers.join(","))
        });
        shown.collect()
    }

    /// How often it was given services.
    pub(crate) fn replaced(&self) -> usize {
        self.known().replaced
    }

    pub(crate) fn refuse(&self, service: &str, why: Option<&str>) {
        let mut known = self.known();
        match why {
            Some(why) => drop(known.refuses.insert(service.to_owned(), why.to_owned())),
            None => drop(known.refuses.remove(service)),
        }
    }

    pub(crate) fn fail(&self, why: Option<&str>) {
        self.known().fails = why.map(str::to_owned);
    }
}

impl Known {
    fn replace(&mut self, services: Vec<NewService>) -> Reply {
        if let Some(why) = &self.fails {
            return Reply::Error(why.clone());
        }
        self.services = services;
        self.replaced += 1;
        let left_out = self.services.iter().filter_map(|service| {
            let service = service.called();
            let why = self.refuses.get(&service)?.clone();
            Some(LeftOut { service, why })
        });
        let left_out = left_out.collect();
        Reply::Replaced(Replaced { differences: Vec::new(), left_out })
    }
}
