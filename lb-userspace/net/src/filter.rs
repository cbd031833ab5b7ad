//! Socket filters in classic BPF, for sockets that receive more than they need: dropped packets
//! wake no task.
//!
//! The machine has an accumulator, an index register and forward jumps.

use socket2::SockFilter;

/// Loads the byte at `offset`.
pub(crate) const fn load_byte(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, offset)
}

/// Loads the byte at the index register plus `offset`.
pub(crate) const fn load_indexed_byte(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, offset)
}

/// Loads the two bytes, in network order, at the index register plus `offset`.
pub(crate) const fn load_indexed_half(offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, offset)
}

/// Sets the index register.
pub(crate) const fn index(value: u32) -> SockFilter {
    instruction(libc::BPF_LDX | libc::BPF_IMM, value)
}

/// Sets the index register to the length of the IPv4 header at `offset`.
pub(crate) const fn index_behind_ipv4(offset: u32) -> SockFilter {
    instruction(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, offset)
}

/// Skips instructions unless the accumulator is `value`.
pub(crate) const fn unless(value: u32, skip: u8) -> SockFilter {
    SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, skip, value)
}

/// Returns: the socket receives the first `length` bytes, or nothing if 0.
pub(crate) const fn take(length: u32) -> SockFilter {
    instruction(libc::BPF_RET | libc::BPF_K, length)
}

const fn instruction(code: u32, operand: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, operand)
}
