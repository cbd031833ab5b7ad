//! The two maps that nearly every packet asks: the settings, and how each server is reached.
//!
//! The programs have their addresses in their instructions, so that reading them takes no lookup.
//! The kernel allows that for an array of one value (BPF_PSEUDO_MAP_VALUE). aya does it for the
//! sections `.data`, `.bss` and `.rodata` alone, whose maps it makes itself, neither mapped into
//! memory nor taken over from another `lb`. So in the object the two are symbols that it does not
//! define, which aya leaves alone, and [`DirectMaps::write_into`] puts a map's descriptor where
//! each is used.

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Map, MapData};
use aya_obj::generated::{BPF_PSEUDO_MAP_VALUE, bpf_map_type};
use lb_common::control::Control;
use lb_common::server::{ServerEntry, ServerId};
use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};
use zerocopy::IntoBytes as _;

use super::bpf;
use super::inherited::PinnedMaps;
use super::kernel;
use super::mapped::Mapped;

pub const CONTROL: &str = "CONTROL";
pub const SERVERS: &str = "SERVERS";

/// The controller maps it into its own memory.
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// First byte of the instruction that loads 64 bits: BPF_LD, BPF_IMM, BPF_DW. It takes the place of
/// two.
const LOAD: u8 = 0x18;
const INSTRUCTION: usize = 8;
const IMMEDIATE: usize = 4;

pub struct DirectMaps {
    control: MapData,
    servers: MapData,
}

impl DirectMaps {
    /// Those that are pinned, or new ones, which are pinned where the others are.
    pub fn new(pinned_maps: &PinnedMaps) -> Result<Self> {
        let control = map(CONTROL, size_of::<Control>(), pinned_maps)?;
        let servers = map(SERVERS, ServerId::NUMBERS * size_of::<ServerEntry>(), pinned_maps)?;
        Ok(Self { control, servers })
    }

    /// The object, with these maps where its programs use them. They must stay as they are until
    /// the last of its programs is loaded.
    pub fn write_into(&self, object: &[u8]) -> Result<AlignedObject> {
        let mut written = AlignedObject::copy(object);
        for (at, name) in places(object)? {
            let map = if name == CONTROL { &self.control } else { &self.servers };
            let bytes = written.words.as_mut_bytes().get_mut(at..at + 2 * INSTRUCTION);
            let bytes = bytes.filter(|bytes| bytes[0] == LOAD);
            let (first, second) =
                bytes.context("an address is used where none is loaded")?.split_at_mut(INSTRUCTION);
            // Below it the register that is loaded.
            first[1] = first[1] & 0x0f | (BPF_PSEUDO_MAP_VALUE as u8) << 4;
            // Where in the map, which stood where its descriptor goes.
            second[IMMEDIATE..].copy_from_slice(&first[IMMEDIATE..]);
            first[IMMEDIATE..].copy_from_slice(&bpf::number(map).to_le_bytes());
        }
        Ok(written)
    }

    pub fn into_maps(self) -> Result<(Mapped<Control>, Mapped<ServerEntry>)> {
        Ok((Mapped::new(CONTROL, Map::Array(self.control))?, Mapped::new(SERVERS, Map::Array(self.servers))?))
    }
}

/// Where in the object which of the maps is used, by name.
fn places(object: &[u8]) -> Result<Vec<(usize, &'static str)>> {
    let file = File::parse(object).context("the BPF object is no object")?;
    let mut places = Vec::new();
    for section in file.sections() {
        let Some((start, _)) = section.file_range() else { continue };
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let symbol =
                file.symbol_by_index(symbol).context("the BPF object names a symbol that is not there")?;
            if symbol.is_undefined() {
                let name = symbol.name().context("the BPF object names no symbol")?;
                let Some(map) = [CONTROL, SERVERS].into_iter().find(|map| *map == name) else {
                    bail!("the BPF object uses {name}, which nobody defines")
                };
                places.push((usize::try_from(start + offset)?, map));
            }
        }
    }
    Ok(places)
}

/// A BPF object in memory as aligned as its reader wants it.
pub struct AlignedObject {
    words: Vec<u64>,
    length: usize,
}

impl AlignedObject {
    fn copy(object: &[u8]) -> Self {
        let mut words = vec![0; object.len().div_ceil(size_of::<u64>())];
        words.as_mut_bytes()[..object.len()].copy_from_slice(object);
        Self { words, length: object.len() }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.length]
    }
}

fn map(name: &str, size: usize, pinned_maps: &PinnedMaps) -> Result<MapData> {
    let path = pinned_maps.path(name);
    if let Some(path) = path.as_ref().filter(|path| path.exists()) {
        let map = MapData::from_pin(path).with_context(|| format!("cannot open {}", path.display()))?;
        let found = map.info().with_context(|| format!("cannot ask for map {name}'s layout"))?.value_size();
        ensure!(found as usize == size, "map {name} holds {found} bytes, this lb's {size}");
        return Ok(map);
    }
    let wanted = aya_obj::Map::new_from_params(
        bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
        size_of::<u32>() as u32,
        u32::try_from(size)?,
        1,
        BPF_F_MMAPABLE,
    );
    let map = MapData::create(wanted, name, None).with_context(kernel::makes_no_maps)?;
    if let Some(path) = path {
        map.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::super::object::OBJECT;
    use super::*;

    #[test]
    fn the_object_loads_the_address_of_either_map_where_it_says_so() {
        let places = places(OBJECT).unwrap();
        for map in [CONTROL, SERVERS] {
            assert!(places.iter().any(|(_, name)| *name == map), "nobody uses {map}");
        }
        assert!(places.iter().all(|(at, _)| OBJECT[*at] == LOAD));
    }

    #[test]
    fn what_nobody_defines_is_named() {
        let mut object = AlignedObject::copy(OBJECT);
        let bytes = object.words.as_mut_bytes();
        for at in 0..bytes.len() - CONTROL.len() {
            if bytes[at..].starts_with(b"\0CONTROL\0") {
                bytes[at + CONTROL.len()] = b'X';
            }
        }
        let error = places(object.bytes()).unwrap_err();
        assert_eq!(error.to_string(), "the BPF object uses CONTROX, which nobody defines");
    }
}
