//! A server that sends back what it gets, over TCP, and a client that checks every byte.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result};

use super::Node;

/// Sent alone it has the server close the connection.
pub const BYE: u8 = b'!';

/// Sends back what comes to this port of the node, at any of its addresses.
pub fn serve(node: &Node, port: u16) -> Result<()> {
    let listener = node.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))?;
    let listener = listener.with_context(|| format!("port {port} is not free"))?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || send_back(connection));
        }
    });
    Ok(())
}

fn send_back(mut connection: TcpStream) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = connection.read(&mut bytes) {
        let is_bye = length == 1 && bytes[0] == BYE;
        if is_bye || connection.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

/// Sends so many bytes and gets the same back.
#[track_caller]
pub fn exchange(connection: &TcpStream, bytes: usize) {
    let sent: Vec<u8> = (0..bytes).map(|index| (index ^ index >> 8 ^ index >> 16) as u8).collect();
    let mut got = vec![0; bytes];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = connection;
            writer.write_all(&sent).expect("it can be sent");
        });
        let mut reader = connection;
        reader.read_exact(&mut got).expect("what was sent comes back");
    });
    assert!(sent == got, "what comes back is not what was sent");
}
