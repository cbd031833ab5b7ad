//! Addresses of clients as operators ask for them.

use std::net::IpAddr;

use lb_common::addr::V6;

/// Address and mask.
pub(super) fn prefix(text: &str) -> Result<[[u64; 2]; 2], String> {
    let wrong = || {
        format!("{text:?} is neither an address nor one with a prefix length, such as 10.0.0.7 or 10.0.0.0/8")
    };
    let (address, length) = text.split_once('/').map_or((text, None), |(host, rest)| (host, Some(rest)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length: u32 = length.map_or(Ok(bits), str::parse).map_err(|_| wrong())?;
    if length > bits {
        return Err(wrong());
    }
    let mask = u128::MAX.checked_shl(bits - length).unwrap_or(0);
    // What stands before an IPv4 address in its mapped form belongs to it.
    let mask = if address.is_ipv4() { mask | u128::MAX << 32 } else { mask };
    let mask = V6::from_octets(mask.to_be_bytes());
    Ok([V6::from(address).0, mask.0])
}
