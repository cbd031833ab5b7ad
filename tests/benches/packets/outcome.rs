//! What must have become of a packet, byte by byte.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use lb_common::mac::Mac;

use crate::frames::{DIRECTOR_MAC, residue, residue_of_segment};
use crate::methods::{Method, SERVER_MAC, SERVER_PORT, Way};

/// What clients are behind.
pub(crate) const ROUTER: Mac = Mac::new([2, 0, 0, 0, 0, 9]);
const ETHERNET: usize = 14;
const RIGHT: u16 = 0xffff;
const GUE_PORT: u16 = 6080;

/// Whether `left` is what the packet must have become.
pub(crate) fn check(sent: &[u8], left: &[u8], way: Way) -> Result<()> {
    let to = if way.back { ROUTER } else { SERVER_MAC };
    ensure!(left.len() >= sent.len(), "{} bytes left of {}", left.len(), sent.len());
    ensure!(left[..6] == to.octets() && left[6..12] == DIRECTOR_MAC.octets(), "MACs {:x?}", &left[..12]);
    ensure!(left[12..14] == sent[12..14], "EtherType {:x?}", &left[12..14]);
    match way.method {
        Method::Direct => ensure!(left[ETHERNET..] == sent[ETHERNET..], "{left:x?} of {sent:x?}"),
        Method::Nat => check_translated(sent, left, way)?,
        Method::Ipip => check_outer(sent, left, way, if way.is_ipv4 { 4 } else { 41 }, 0)?,
        Method::Gue => check_outer(sent, left, way, 17, 12)?,
    }
    Ok(())
}

/// An outer header and, between it and the packet, `shim` bytes.
fn check_outer(sent: &[u8], left: &[u8], way: Way, protocol: u8, shim: usize) -> Result<()> {
    let header = if way.is_ipv4 { 20 } else { 40 };
    let inner = ETHERNET + header + shim;
    ensure!(left[inner..] == sent[ETHERNET..], "the inner packet has changed: {left:x?}");
    let outer = &left[ETHERNET..];
    let total = ip_length(&sent[ETHERNET..])? + header + shim;
    ensure!(ip_length(outer)? == total, "the outer packet is not {total} bytes long: {outer:x?}");
    let (next, source, destination) = if way.is_ipv4 { (9, 12, 16) } else { (6, 8, 24) };
    let ends = [octets(way.own()), octets(way.server())];
    let found = [source, destination].map(|at| &outer[at..at + ends[0].len()]);
    ensure!(outer[next] == protocol && found == [&ends[0][..], &ends[1][..]], "the outer header: {outer:x?}");
    if way.is_ipv4 {
        ensure!(residue(&outer[..header]) == RIGHT, "the outer header's checksum: {outer:x?}");
    }
    if shim > 0 {
        let udp = &outer[header..header + shim];
        let length = u16::from_be_bytes([udp[4], udp[5]]);
        ensure!(udp[2..4] == GUE_PORT.to_be_bytes(), "the port: {udp:x?}");
        ensure!(usize::from(length) == total - header, "the datagram's length: {udp:x?}");
        ensure!(udp[8..] == [0, if way.is_ipv4 { 4 } else { 41 }, 0, 0], "the header of GUE: {udp:x?}");
        // The outer checksum is right if the inner one is, which packets of many clients have
        // wrong.
        let of_inner = residue_of_segment(&sent[..ETHERNET + ip_length(&sent[ETHERNET..])?]);
        if !way.is_ipv4 && of_inner == RIGHT {
            ensure!(residue_of_segment(&left[..ETHERNET + total]) == RIGHT, "the UDP checksum: {udp:x?}");
        }
    }
    Ok(())
}

fn check_translated(sent: &[u8], left: &[u8], way: Way) -> Result<()> {
    let header = if way.is_ipv4 { 20 } else { 40 };
    let transport = ETHERNET + header;
    let (address, port) = if way.back { way.service_address() } else { (way.server(), SERVER_PORT) };
    let address = octets(address);
    let (hops, source, checksum) = if way.is_ipv4 { (22, 26, 24) } else { (21, 22, transport + 16) };
    let at = if way.back { source } else { source + address.len() };
    let mut wanted = sent.to_vec();
    wanted[..12].copy_from_slice(&left[..12]);
    wanted[hops] -= 1;
    wanted[at..at + address.len()].copy_from_slice(&address);
    let port_at = transport + if way.back { 0 } else { 2 };
    wanted[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
    // As right, or as wrong, as they were.
    for at in [checksum, transport + 16] {
        wanted[at..at + 2].copy_from_slice(&left[at..at + 2]);
    }
    ensure!(wanted == left, "{left:x?} instead of {wanted:x?}");
    let end = ETHERNET + ip_length(&sent[ETHERNET..])?;
    let of = |frame: &[u8]| (residue(&frame[ETHERNET..transport]), residue_of_segment(&frame[..end]));
    let (before, after) = (of(sent), of(left));
    ensure!(
        before.1 == after.1 && (!way.is_ipv4 || before.0 == after.0),
        "checksums {before:x?}, {after:x?}"
    );
    Ok(())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The packet's length by its header, bytes.
fn ip_length(packet: &[u8]) -> Result<usize> {
    let word =
        |at: usize| packet.get(at..at + 2).map(|word| usize::from(word[0]) << 8 | usize::from(word[1]));
    let length = if packet[0] >> 4 == 4 { word(2) } else { word(4).map(|payload| payload + 40) };
    length.context("the packet has no header")
}
