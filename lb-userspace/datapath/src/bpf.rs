//! bpf(2), for what aya does not do.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};

use aya::maps::MapData;
use aya_obj::generated::{bpf_attr, bpf_cmd};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// For commands that return a new descriptor.
pub(crate) fn descriptor(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> io::Result<OwnedFd> {
    let fd = call(command, fill)?;
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// As [`call`], and hands `read` what the kernel has left in the attributes, also where it reports
/// an error.
pub(crate) fn call_with(
    command: bpf_cmd,
    fill: impl FnOnce(&mut bpf_attr),
    read: impl FnOnce(&bpf_attr),
) -> io::Result<i32> {
    // SAFETY: as in `call`.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    fill(&mut attr);
    // SAFETY: as in `call`.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut attr, size_of::<bpf_attr>()) };
    let result = if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) };
    read(&attr);
    result
}

/// What `fill` points to must live until this returns.
pub(crate) fn call(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> io::Result<i32> {
    answer(command, fill).map(|(result, _)| result)
}

/// As [`call`], for commands that answer in what was filled.
pub(crate) fn answer(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> io::Result<(i32, bpf_attr)> {
    // SAFETY: the union consists of integers, for which zeros are fine, and unset fields must be
    // zero.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    fill(&mut attr);
    // SAFETY: the size is the union's; the pointers in it are of this function's callers, which
    // keep what they point to.
    match unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut attr, size_of::<bpf_attr>()) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok((result as i32, attr)),
    }
}

/// Number of the map's descriptor, as the attributes have it.
pub(crate) fn number(map: &MapData) -> u32 {
    map.fd().as_fd().as_raw_fd().unsigned_abs()
}

/// Entries that one call of the kernel returns; more than a bucket of a hash map ever holds.
const BATCH: usize = 4096;

/// All entries of a hash map, whose keys and values have these types. They change meanwhile.
pub(crate) fn entries<K, V>(map: &MapData) -> io::Result<Vec<(K, V)>>
where
    K: FromBytes + IntoBytes + Immutable + Copy,
    V: FromBytes + IntoBytes + Immutable + Copy,
{
    let mut keys = vec![K::new_zeroed(); BATCH];
    let mut values = vec![V::new_zeroed(); BATCH];
    let mut found = Vec::new();
    // Where the kernel goes on: the number of a bucket.
    let (mut place, mut begun) = (0_u64, false);
    loop {
        let (from, mut count) = (place, 0);
        let result = call_with(
            bpf_cmd::BPF_MAP_LOOKUP_BATCH,
            |attr| {
                attr.batch.in_batch = if begun { &raw const from as u64 } else { 0 };
                attr.batch.out_batch = &raw mut place as u64;
                attr.batch.keys = keys.as_mut_ptr() as u64;
                attr.batch.values = values.as_mut_ptr() as u64;
                attr.batch.count = BATCH as u32;
                attr.batch.map_fd = number(map);
            },
            // SAFETY: a number, whatever it is; the kernel writes how many there are.
            |attr| count = unsafe { attr.batch.count },
        );
        let ended = match result {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        found.extend(keys.iter().copied().zip(values.iter().copied()).take(count as usize));
        if ended {
            return Ok(found);
        }
        begun = true;
    }
}

/// Adds entries to a hash map, or changes them, up to the first that fails.
pub(crate) fn set<K, V>(map: &MapData, keys: &[K], values: &[V]) -> io::Result<()>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    assert_eq!(keys.len(), values.len(), "a value for each key");
    batch(bpf_cmd::BPF_MAP_UPDATE_BATCH, map, keys, values.as_ptr() as u64)
}

/// Removes entries of a hash map, up to the first that is not there.
pub(crate) fn remove<K: IntoBytes + Immutable>(map: &MapData, keys: &[K]) -> io::Result<()> {
    batch(bpf_cmd::BPF_MAP_DELETE_BATCH, map, keys, 0)
}

fn batch<K>(command: bpf_cmd, map: &MapData, keys: &[K], values: u64) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let done = call(command, |attr| {
        attr.batch.keys = keys.as_ptr() as u64;
        attr.batch.values = values;
        attr.batch.count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        attr.batch.map_fd = number(map);
    });
    done.map(drop)
}
