//! The server: TLS, connections, and their limits.
//!
//! Nothing here grows with what is asked of it: connections are counted, a request's header has
//! little time and room, and a connection ends after a while, whatever its client does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lb_model::Web;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::access::{self, Access, Peer};
use crate::director::Director;
use crate::page::Rendered;
use crate::snapshot::Snapshots;
use crate::tls::Certificate;
use crate::tokens::Tokens;
use crate::{api, page};

/// Connections at once; a viewer has one or a few.
const MOST: usize = 512;
/// How long a client may take for TLS, and for a request's header; a connection that is idle for so
/// long ends.
const HEADER: Duration = Duration::from_secs(30);
/// After so long a connection takes no further request,
const LIFE: Duration = Duration::from_secs(10 * 60);
/// and after so much longer it ends: an hour, as a check that was asked for may take.
const REST: Duration = Duration::from_secs(60 * 60);
/// A request's header, in bytes.
const LONGEST_HEADER: usize = 16 * 1024;
/// A request's body, in bytes.
const LONGEST_BODY: usize = 16 * 1024;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Site {
    pub director: Arc<dyn Director>,
    pub snapshots: Snapshots,
    pub access: Arc<Access>,
    pub rendered: Rendered,
    /// Of who lists connections.
    pub listing: Arc<Semaphore>,
}

impl Site {
    pub(crate) fn new(web: &Web, director: Arc<dyn Director>) -> Self {
        let access = Arc::new(Access::new(web));
        let listing = Arc::new(Semaphore::new(1));
        Self { director, snapshots: Snapshots::default(), access, rendered: Rendered::default(), listing }
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .merge(page::routes())
            .nest("/api", api::routes())
            .layer(DefaultBodyLimit::max(LONGEST_BODY))
            .layer(middleware::from_fn_with_state(self.clone(), access::guard))
            .with_state(self)
    }
}

/// A server whose certificate and tokens are there.
pub struct Prepared {
    web: Web,
    certificate: Option<Certificate>,
}

impl Prepared {
    /// # Errors
    /// What is wrong with the files of `web`.
    pub fn new(web: &Web) -> Result<Self> {
        if let Some(tokens) = &web.tokens {
            Tokens::read(tokens)?;
        }
        let certificate = web.tls.as_ref().map(Certificate::load).transpose()?;
        Ok(Self { web: web.clone(), certificate })
    }

    /// Where the page is, for people.
    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.web.listen)
    }

    /// Serves for as long as it is polled.
    pub async fn serve(self, listener: TcpListener, director: Arc<dyn Director>) {
        let site = Site::new(&self.web, Arc::clone(&director));
        let snapshots = site.snapshots.clone();
        let service = TowerToHyperService::new(site.router());
        tokio::join!(snapshots.follow(director), self.accept(listener, service));
    }

    async fn accept(mut self, listener: TcpListener, service: TowerToHyperService<Router>) {
        let room = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Descriptors may have run out; they come back.
                    tracing::debug!(%error, "accepting a connection to the page");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let acceptor = self.certificate.as_mut().map(Certificate::acceptor);
            let service = service.clone();
            tokio::spawn(async move {
                let _permit = permit;
                match acceptor {
                    None => converse(stream, peer, service).await,
                    Some(acceptor) => {
                        if let Ok(Ok(stream)) = timeout(HEADER, acceptor.accept(stream)).await {
                            converse(stream, peer, service).await;
                        }
                    }
                }
            });
        }
    }
}

/// One connection. Whatever goes wrong is the client's affair: one that asks in a wrong way has
/// been told so.
async fn converse<S>(stream: S, peer: SocketAddr, service: TowerToHyperService<Router>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        service.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(LONGEST_HEADER);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), answer));
    if timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(REST, connection).await;
    }
}
