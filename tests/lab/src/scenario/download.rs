//! A long download by one client, over one connection that is open through all that happens.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};

use crate::cluster::{Talk, VIP};
use crate::lab::{Node, WebServer};
use crate::uninterrupted;

/// Longer than any scenario takes at this pace.
const LENGTH: u64 = 32 << 20;
const PIECE: usize = 2 << 10;
const PACE: Duration = Duration::from_millis(20);

/// What the client's kernel takes in ahead of the client: little, so that a connection that is
/// broken shows at once.
const AHEAD: usize = 16 << 10;

/// How long the next byte may take.
const PATIENCE: Duration = Duration::from_secs(15);

const NAME: &str = "download";

/// Ends with the value.
#[derive(Debug)]
pub struct Download {
    hurry: Arc<AtomicBool>,
    /// Bytes of the file so far.
    taken: Arc<AtomicU64>,
    worker: Option<JoinHandle<Result<()>>>,
}

impl Download {
    /// Puts the file on both servers and begins to take it from the VIP.
    pub fn start(talk: &Talk) -> Result<Self> {
        for server in [&talk.www1, &talk.www2] {
            offer(server)?;
        }
        let stream = ask(&talk.client)?;
        let (hurry, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let worker = {
            let (hurry, taken) = (Arc::clone(&hurry), Arc::clone(&taken));
            thread::spawn(move || take(stream, &hurry, &taken))
        };
        Ok(Self { hurry, taken, worker: Some(worker) })
    }

    /// Waits until more has come than the client's kernel may have had already.
    pub fn wait_for_more(&self) -> Result<()> {
        let wanted = self.taken.load(Ordering::Relaxed) + 4 * AHEAD as u64;
        let deadline = Instant::now() + PATIENCE;
        while self.taken.load(Ordering::Relaxed) < wanted.min(LENGTH) {
            let stands = self.worker.as_ref().is_none_or(JoinHandle::is_finished);
            ensure!(!stands && Instant::now() < deadline, "the download does not go on");
            thread::sleep(PACE);
        }
        Ok(())
    }

    /// Takes the rest at once; returns the number of bytes, all of which were right.
    pub fn finish(mut self) -> Result<u64> {
        self.hurry.store(true, Ordering::Relaxed);
        let worker = self.worker.take().context("the download has been finished before")?;
        worker.join().ok().context("the download broke off")??;
        Ok(self.taken.load(Ordering::Relaxed))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.hurry.store(true, Ordering::Relaxed);
    }
}

/// The byte of the file at this place.
fn byte(at: u64) -> u8 {
    (at / 8).to_le_bytes()[(at % 8) as usize]
}

fn offer(server: &WebServer) -> Result<()> {
    let path = server.page(NAME)?;
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::new(file);
    for word in 0..LENGTH / 8 {
        file.write_all(&word.to_le_bytes())?;
    }
    Ok(file.flush()?)
}

fn ask(client: &Node) -> Result<TcpStream> {
    let socket = client.run(|| -> Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(AHEAD)?;
        socket.connect(&SocketAddr::from((VIP, 80)).into())?;
        Ok(socket)
    })??;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /{NAME} HTTP/1.0\r\nHost: {VIP}\r\n\r\n").as_bytes())?;
    Ok(stream)
}

fn take(mut stream: TcpStream, hurry: &AtomicBool, taken: &AtomicU64) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut next = [0];
        uninterrupted(|| stream.read_exact(&mut next)).context("the head of the answer")?;
        head.extend(next);
    }
    ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    let mut piece = [0; PIECE];
    let mut at = 0;
    while at < LENGTH {
        let length =
            uninterrupted(|| stream.read(&mut piece)).with_context(|| format!("after {at} bytes"))?;
        ensure!(length > 0, "the download ended after {at} of {LENGTH} bytes");
        for found in &piece[..length] {
            ensure!(*found == byte(at), "byte {at} of the download is wrong");
            at += 1;
        }
        taken.store(at, Ordering::Relaxed);
        if !hurry.load(Ordering::Relaxed) {
            thread::sleep(PACE);
        }
    }
    Ok(())
}
