//! UDP test servers.

use tokio::net::UdpSocket;

use super::TestServer;

/// Answers each datagram with the datagrams that `answers` returns.
pub(crate) async fn answering_datagrams<F>(answers: F) -> TestServer
where
    F: Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
{
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port on loopback");
    answering_datagrams_on(socket, answers)
}

/// Answers on an existing socket.
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
