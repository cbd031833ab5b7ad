//! A persistent connection to the VIP, and requests over it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::cluster::VIP;
use crate::lab::Node;
use crate::uninterrupted;

/// Time limit of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A text in each page of the cluster.
const END_OF_PAGE: &[u8] = b".wowlinux.com\n";

pub struct KeptOpen(TcpStream);

impl KeptOpen {
    pub fn open(client: &Node) -> Self {
        Self::open_to(client, VIP)
    }

    /// The same to another VIP.
    pub fn open_to(client: &Node, vip: Ipv4Addr) -> Self {
        let stream = client.run(|| TcpStream::connect((vip, 80))).expect("in the client's namespace");
        let stream = stream.expect("the VIP takes connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
        Self(stream)
    }

    /// The client's end.
    pub fn local(&self) -> SocketAddr {
        self.0.local_addr().expect("it is connected")
    }

    /// The page of the connection's server; panics if the connection is broken.
    pub fn get(&mut self) -> String {
        self.try_get().expect("the connection answers")
    }

    /// The page of the connection's server.
    pub fn try_get(&mut self) -> io::Result<String> {
        let request = format!("GET /index.html HTTP/1.1\r\nHost: {VIP}\r\n\r\n");
        self.0.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while !answer.ends_with(END_OF_PAGE) {
            match uninterrupted(|| self.0.read(&mut part))? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => answer.extend_from_slice(&part[..length]),
            }
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        Ok(text.lines().last().unwrap_or_default().to_owned())
    }
}
