//! Servers of datagrams.

use tokio::net::UdpSocket;

use super::TestServer;

/// Answers each datagram with those that `answers` makes of it.
pub(crate) async fn answering_datagrams<F>(answers: F) -> TestServer
where
    F: Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
{
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port on loopback");
    answering_datagrams_on(socket, answers)
}

/// The same on a socket that is there already.
pub(crate) fn answering_datagrams_on<F>(socket: UdpSocket, answers: F) -> TestServer
where
    F: Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
{
    let address = socket.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
            for answer in answers(&buffer[..length]) {
                let _ = socket.send_to(&answer, asker).await;
            }
        }
    });
    TestServer { address, task }
}
