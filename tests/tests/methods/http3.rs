//! HTTP/3 through the director: a client that changes its address stays with its server (QUIC-LB).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aes::Aes128;
use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use bytes::{Buf as _, Bytes};
use lb_lab::lab::Node;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, RootCertStore};

use crate::bed::{Bed, Case, quic_id};

const PORT: u16 = 443;
const NAME: &str = "www.example.org";
const PATIENCE: Duration = Duration::from_secs(60);
const KEY: [u8; 16] = *b"sixteen secrets!";
/// Bytes of each page, so that one is many packets.
const PAGE: usize = 200_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Connection IDs of configuration 3: one byte of server ID and a nonce, encrypted.
struct Named {
    server: u8,
    made: u64,
}

impl ConnectionIdGenerator for Named {
    fn generate_cid(&mut self) -> ConnectionId {
        self.made += 1;
        let mut block = [self.server; 16];
        block[8..].copy_from_slice(&self.made.to_le_bytes());
        let mut block = block.into();
        Aes128::new(&KEY.into()).encrypt_block(&mut block);
        ConnectionId::new(&[&[3 << 5 | 0x0a][..], &block].concat())
    }

    fn cid_len(&self) -> usize {
        17
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn socket(node: &Node, address: IpAddr, port: u16) -> UdpSocket {
    node.run(|| UdpSocket::bind((address, port))).expect("in the node's namespace").expect("a socket")
}

/// A certificate of a self-signed kind, and its key.
fn certificate() -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    (made.cert.der().clone(), PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Serves HTTP/3 on the node until the process ends, and answers from the address that a packet
/// came to: each page begins with the node's name.
fn serve(node: &Node, chain: CertificateDer<'static>, key: PrivatePkcs8KeyDer<'static>) {
    let (server, socket) = (quic_id(node), socket(node, Ipv6Addr::UNSPECIFIED.into(), PORT));
    let page = Bytes::from([node.name().as_bytes(), &vec![b'.'; PAGE - node.name().len()]].concat());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let mut tls = rustls::ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("TLS 1.3")
                .with_no_client_auth()
                .with_single_cert(vec![chain], key.into())
                .expect("a certificate with its key");
            tls.alpn_protocols = vec![b"h3".to_vec()];
            let tls = QuicServerConfig::try_from(tls).expect("fit for QUIC");
            let mut config = EndpointConfig::default();
            config.cid_generator(move || Box::new(Named { server, made: 0 }));
            let with = ServerConfig::with_crypto(Arc::new(tls));
            let endpoint =
                Endpoint::new(config, Some(with), socket, Arc::new(TokioRuntime)).expect("an endpoint");
            while let Some(incoming) = endpoint.accept().await {
                let page = page.clone();
                tokio::spawn(async move { drop(answer(incoming, page).await) });
            }
        });
    });
}

async fn answer(incoming: quinn::Incoming, page: Bytes) -> Result<(), Failure> {
    let connection = h3_quinn::Connection::new(incoming.await?);
    let mut connection = h3::server::Connection::<_, Bytes>::new(connection).await?;
    while let Some(resolver) = connection.accept().await? {
        let (_, mut stream) = resolver.resolve_request().await?;
        stream.send_response(http::Response::new(())).await?;
        stream.send_data(page.clone()).await?;
        stream.finish().await?;
    }
    Ok(())
}

type Requests = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;

/// Who has sent the page, which must be whole.
async fn page(requests: &mut Requests) -> Result<String, Failure> {
    let request = http::Request::get(format!("https://{NAME}/")).body(())?;
    let mut stream = requests.send_request(request).await?;
    stream.finish().await?;
    let status = stream.recv_response().await?.status();
    let mut body = Vec::new();
    while let Some(mut chunk) = stream.recv_data().await? {
        body.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    let name = body.split(|byte| *byte == b'.').next().unwrap_or_default();
    if status != 200 || body.len() != PAGE {
        return Err(format!("{status}, {} bytes", body.len()).into());
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

pub(crate) fn service(bed: &Bed, case: Case) -> String {
    let key: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let ids = format!("{{ rotation: 3, server_id_length: 1, nonce_length: 15, key: {key} }}");
    case.service(bed, &PORT.to_string(), "udp", &format!("    quic_lb: [{ids}]\n"))
}

/// Served by both servers.
pub(crate) struct Site {
    client: ClientConfig,
}

impl Site {
    pub(crate) fn serve(bed: &Bed) -> Self {
        let (certificate, key) = certificate();
        for node in bed.servers() {
            serve(node, certificate.clone(), key.clone_key());
        }
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let tls = QuicClientConfig::try_from(tls).expect("fit for QUIC");
        Self { client: ClientConfig::new(Arc::new(tls)) }
    }

    /// Each new address is a new client to a scheduler, and round robin would send every second one
    /// to a server that knows nothing of the connection.
    pub(crate) fn visit(&self, bed: &Bed, case: Case) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let served =
            runtime.block_on(async { [self.connect(bed, case).await, self.connect(bed, case).await] });
        for by in &served {
            assert!(by.iter().all(|name| *name == by[0]), "{case:?}: one connection, one server: {served:?}");
        }
        assert_ne!(served[0][0], served[1][0], "{case:?}: connections are spread");
    }

    /// Who has sent the pages of one connection.
    async fn connect(&self, bed: &Bed, case: Case) -> Vec<String> {
        let [own, other] = case.clients();
        let first = socket(&bed.far, own, 0);
        let endpoint = Endpoint::new(EndpointConfig::default(), None, first, Arc::new(TokioRuntime));
        let endpoint = endpoint.expect("an endpoint");
        let to = SocketAddr::new(case.vip(), PORT);
        let connecting = endpoint.connect_with(self.client.clone(), to, NAME).expect("it may");
        let connection = connecting.await.unwrap_or_else(|error| panic!("{case:?}: {error}"));
        let connected = h3_quinn::Connection::new(connection.clone());
        let (mut driver, mut requests) = h3::client::new(connected).await.expect("HTTP/3");
        let driving = tokio::spawn(async move { drop(driver.wait_idle().await) });
        let mut by = vec![page(&mut requests).await.expect("a page")];
        for address in [other, own, other, own] {
            endpoint.rebind(socket(&bed.far, address, 0)).expect("another socket");
            let moved = tokio::time::timeout(PATIENCE, page(&mut requests)).await;
            let moved = moved.unwrap_or_else(|_| panic!("{case:?}: it stands after a move to {address}"));
            by.push(moved.unwrap_or_else(|error| panic!("{case:?}: after a move to {address}: {error}")));
        }
        connection.close(0_u32.into(), b"done");
        driving.abort();
        by
    }
}
