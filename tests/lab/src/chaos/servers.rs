//! Servers that say who they are and send back what they get, and that can die with all their
//! connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::schedule::Server;
use crate::cluster::{Talk, VIP};
use crate::lab::Node;

const PORT: u16 = 7979;
pub const SERVICE: SocketAddrV4 = SocketAddrV4::new(VIP, PORT);

/// A server's first line: `www1`.
pub const GREETING: usize = 5;

/// Both web servers' echo.
pub(super) struct Servers([watch::Sender<bool>; 2]);

pub(super) fn configuration() -> String {
    format!(
        "\
interface: eth0
metrics: off
connections: 20000
groups: [{{ name: web, vips: [211.58.250.6/25] }}]
services:
  - name: echo
    vip: 211.58.250.6:{PORT}
    scheduler: rr
    check: {{ type: tcp, interval: 500ms, timeout: 2s }}
    servers: [{{ name: www1, address: 211.58.250.25 }}, {{ name: www2, address: 211.58.250.27 }}]
"
    )
}

impl Servers {
    pub(super) fn start(talk: &Talk) -> Result<Self> {
        Ok(Self([start(talk.www1.node())?, start(talk.www2.node())?]))
    }

    pub(super) fn crash(&self, server: Server) {
        self.0[server].send_replace(false);
    }

    pub(super) fn start_again(&self, server: Server) {
        self.0[server].send_replace(true);
    }
}

/// It ends when the sender is dropped.
fn start(node: &Node) -> Result<watch::Sender<bool>> {
    let (sender, runs) = watch::channel(true);
    let name = node.name().to_owned();
    let node = node.clone();
    let serve = move || {
        let outcome = node.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(&format!("{}\n", node.name()), runs))
        });
        if let Err(error) = outcome.and_then(|served| Ok(served?)) {
            eprintln!("echo of {}: {error:#}", node.name());
        }
    };
    std::thread::Builder::new().name(name).spawn(serve).context("a server's thread")?;
    Ok(sender)
}

async fn serve(greeting: &str, mut runs: watch::Receiver<bool>) -> io::Result<()> {
    while runs.wait_for(|runs| *runs).await.is_ok() {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    connections.spawn(talk(accepted?.0, greeting.to_owned()));
                }
                Some(_) = connections.join_next() => {}
                changed = runs.changed() => match changed {
                    Ok(()) if *runs.borrow() => {}
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
            }
        }
        // Aborted, they are reset, see `talk`.
        drop(listener);
        connections.shutdown().await;
    }
    Ok(())
}

async fn talk(mut stream: TcpStream, greeting: String) -> io::Result<()> {
    // A process that dies resets its connections if it has not read all.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    stream.set_nodelay(true)?;
    stream.write_all(greeting.as_bytes()).await?;
    let mut block = vec![0; 1 << 14];
    loop {
        match stream.read(&mut block).await? {
            0 => break,
            length => stream.write_all(&block[..length]).await?,
        }
    }
    // The client has closed: in order, too.
    SockRef::from(&stream).set_linger(None)
}
