//! An array map as memory: read and written without system calls, shared with the program.

use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData};
use memmap2::{MmapOptions, MmapRaw};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A BPF_F_MMAPABLE array of `T`, or one whose single value is one.
pub struct Mapped<T> {
    memory: MmapRaw,
    /// Bytes from one element to the next: the kernel rounds up to 8.
    stride: usize,
    len: usize,
    /// Keeps the map alive.
    _map: MapData,
    _element: PhantomData<T>,
}

// SAFETY: the memory is shared with the kernel anyway; every access goes through atomics or is a
// plain copy whose tearing the layout's rules allow for (`lb_common`), and T is plain data.
unsafe impl<T: Send> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Mapped<T> {}

impl<T> Mapped<T> {
    pub fn new(name: &str, map: Map) -> Result<Self> {
        let Map::Array(map) = map else { anyhow::bail!("map {name} is not an array") };
        let info = map.info().with_context(|| format!("cannot ask for map {name}'s layout"))?;
        let (size, found) = (size_of::<T>(), info.value_size() as usize);
        let stride = size.next_multiple_of(8);
        let is_one_value = info.max_entries() == 1 && found.is_multiple_of(stride) && found != 0;
        ensure!(
            found == size || is_one_value,
            "map {name} holds values of {found} bytes, this controller expects {size}"
        );
        let len = if is_one_value { found / stride } else { info.max_entries() as usize };
        let memory = MmapOptions::new()
            .len(len * stride)
            .map_raw(map.fd().as_fd().as_raw_fd())
            .with_context(|| format!("cannot map {name} into memory ({} bytes)", len * stride))?;
        Ok(Self { memory, stride, len, _map: map, _element: PhantomData })
    }

    pub fn elements(&self) -> usize {
        self.len
    }

    /// Bytes of kernel memory behind it.
    pub fn bytes(&self) -> usize {
        self.len * self.stride
    }

    fn element(&self, index: usize) -> *mut T {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: index is below len, and the mapping is len * stride long.
        unsafe { self.memory.as_mut_ptr().add(index * self.stride).cast() }
    }

    /// The aligned u64 at byte `offset` of element `index`.
    pub fn word(&self, index: usize, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= size_of::<T>());
        // SAFETY: inside the element by the assertion, aligned because elements are, and alive as
        // long as self.
        unsafe { AtomicU64::from_ptr(self.element(index).cast::<u8>().add(offset).cast()) }
    }
}

impl<T> Mapped<T> {
    /// The aligned u32 at byte `offset` of element `index`.
    pub fn half_word(&self, index: usize, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= size_of::<T>());
        // SAFETY: as in `word`.
        unsafe { AtomicU32::from_ptr(self.element(index).cast::<u8>().add(offset).cast()) }
    }
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Mapped<T> {
    /// Stores `value` in an element that the program does not look at, or whose tearing does no
    /// harm.
    pub fn write(&self, index: usize, value: T) {
        // SAFETY: `element` is valid and aligned; volatile, because the program reads it.
        unsafe { self.element(index).write_volatile(value) };
        std::sync::atomic::fence(Ordering::Release);
    }

    pub fn read(&self, index: usize) -> T {
        // SAFETY: as in `write`; any bytes make a T.
        unsafe { self.element(index).read_volatile() }
    }
}

impl Mapped<u64> {
    pub fn atomic(&self, index: usize) -> &AtomicU64 {
        self.word(index, 0)
    }
}

impl Mapped<u32> {
    pub fn atomic(&self, index: usize) -> &AtomicU32 {
        // SAFETY: valid and aligned as `element` says, alive as long as self.
        unsafe { AtomicU32::from_ptr(self.element(index)) }
    }
}
