//! One VIP and port at which every request is answered with a sorry page.
//!
//! Nothing here grows with what is asked of it: connections are counted, each has little time, a
//! request's header little room, and one request is all that a connection gets, so that clients
//! come back to the real servers when these do.

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::trouble::Trouble;
use super::{Room, lingering, page};

/// Connections that are served at once at one VIP and port. Others wait in the kernel's queue.
const MOST: usize = 128;
/// That queue.
const QUEUE: i32 = 256;
/// A port that is taken is tried again this often.
const RETRY: Duration = Duration::from_secs(1);
/// How long a client may take for its request's header, and until it has taken the answer.
const HEADER: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(10);
/// A request's header, in bytes.
const LONGEST_HEADER: usize = 16 * 1024;
/// In seconds: what clients and search engines are told to wait.
const COME_BACK: HeaderValue = HeaderValue::from_static("10");

pub(super) struct Listener {
    pub address: SocketAddr,
    /// The operator's page.
    pub page: watch::Receiver<Option<PathBuf>>,
    pub trouble: Trouble,
    pub room: Room,
}

impl Listener {
    /// Until nobody wants it any more; connections that there are then come to their own end.
    pub(super) async fn run(self, unwanted: oneshot::Receiver<()>) {
        let mut serving = JoinSet::new();
        tokio::select! {
            () = self.accept(&mut serving) => {}
            _ = unwanted => {}
        }
        while serving.join_next().await.is_some() {}
    }

    async fn accept(&self, serving: &mut JoinSet<()>) {
        let listener = self.bound().await;
        let own = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(own) = Arc::clone(&own).acquire_owned().await else { return };
            while serving.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Ok(all) = Arc::clone(&self.room.connections).acquire_owned().await else { return };
                    let (page, trouble) = (self.page.borrow().clone(), self.trouble.clone());
                    let lingering = Arc::clone(&self.room.lingering);
                    serving.spawn(serve(stream, page, trouble, [own, all], lingering));
                }
                Err(error) => {
                    // Descriptors may have run out; they come back.
                    tracing::debug!(%error, "accepting a connection to the sorry page");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Waits until the port is free.
    async fn bound(&self) -> TcpListener {
        loop {
            match bind(self.address) {
                Ok(listener) => {
                    self.trouble.listening(None);
                    return listener;
                }
                Err(error) => {
                    let hint = if error.kind() == io::ErrorKind::AddrInUse {
                        ": another program listens there, or on all addresses"
                    } else {
                        ""
                    };
                    self.trouble.listening(Some(format!("cannot listen: {error}{hint}")));
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// A director that stands by does not have the VIP, and listens all the same.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(QUEUE)?;
    TcpListener::from_std(socket.into())
}

/// One connection, from its first byte to its end. The answer does not wait for the request's body:
/// an upload may be large, and its client slow.
pub(super) async fn serve(
    stream: TcpStream,
    page: Option<PathBuf>,
    trouble: Trouble,
    room: [OwnedSemaphorePermit; 2],
    lingering: Arc<Semaphore>,
) {
    let answer =
        service_fn(|_: Request<Incoming>| ready(Ok::<_, Infallible>(answer(page.as_deref(), &trouble))));
    let mut http = http1::Builder::new();
    http.keep_alive(false).half_close(true).timer(TokioTimer::new());
    http.header_read_timeout(HEADER).max_buf_size(LONGEST_HEADER);
    let mut connection = http.serve_connection(TokioIo::new(stream), answer);
    // Whatever goes wrong is the client's affair: one that asks in a wrong way has been told so.
    let _ = timeout(WHOLE, poll_fn(|context| connection.poll_without_shutdown(context))).await;
    // One that lingers is in nobody's way. If too many do, it ends at once.
    drop(room);
    if let Ok(_room) = lingering.try_acquire() {
        lingering::close(connection.into_parts().io.into_inner(), lingering::LIMITS).await;
    }
}

fn answer(page: Option<&Path>, trouble: &Trouble) -> Response<Full<Bytes>> {
    let (text, kind) = match page.map(page::read) {
        Some(Ok(text)) => {
            trouble.reading(None);
            (text, "text/html")
        }
        unreadable => {
            trouble.reading(unreadable.and_then(Result::err));
            (Bytes::from_static(page::BUILT_IN.as_bytes()), "text/html; charset=utf-8")
        }
    };
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(RETRY_AFTER, COME_BACK);
    response
}
