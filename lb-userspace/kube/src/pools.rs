//! Which Service gets which addresses: pure, and the same on every director that sees the same
//! cluster. An address that stands in a Service's status stays; then come those who ask for one,
//! then the others, the oldest first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::address::Family;
use crate::cluster::{Name, Service};
use crate::config::{Config, Pool};

/// What a Service of ours gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// By family, in the order of the Service's.
    pub addresses: Vec<IpAddr>,
    /// Why that is not all.
    pub trouble: Option<Trouble>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// What it asks for is no address, or of a family that it does not have.
    NotUnderstood(String),
    Taken {
        address: IpAddr,
        by: Name,
    },
    InNoPool(IpAddr),
    NotForNamespace {
        address: IpAddr,
        pool: String,
    },
    NoSuchPool(String),
    /// No address is free.
    Exhausted(Family),
}

impl Trouble {
    /// The reason of a condition and of an event.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::NotUnderstood(_) => "AddressNotUnderstood",
            Self::Taken { .. } => "AddressTaken",
            Self::InNoPool(_) => "AddressInNoPool",
            Self::NotForNamespace { .. } => "PoolNotForNamespace",
            Self::NoSuchPool(_) => "NoSuchPool",
            Self::Exhausted(_) => "PoolsExhausted",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUnderstood(text) => {
                write!(f, "it asks for {text:?}, expected addresses of its IP families, one of each")
            }
            Self::Taken { address, by } => write!(f, "{address} is taken by the Service {by}"),
            Self::InNoPool(address) => write!(f, "{address} is in no pool"),
            Self::NotForNamespace { address, pool } => {
                write!(f, "{address} is in the pool {pool}, which is not for this namespace")
            }
            Self::NoSuchPool(pool) => write!(f, "there is no pool {pool} for this namespace"),
            Self::Exhausted(family) => {
                write!(f, "no {} address is free in the pools that it may have one of", family.name())
            }
        }
    }
}

/// What each Service of ours gets.
pub(crate) fn assign(services: &BTreeMap<Name, Service>, config: &Config) -> BTreeMap<Name, Claim> {
    let mut ours: Vec<(&Name, &Service)> =
        services.iter().filter(|(_, service)| service.is_ours(config)).collect();
    ours.sort_by_key(|(name, service)| (service.created_s, *name));
    let mut given = Given { config, taken: held_by_others(services, config), claims: BTreeMap::new() };
    for (name, service) in &ours {
        given.keep(name, service);
    }
    for (name, service) in &ours {
        given.grant(name, service);
    }
    for (name, service) in &ours {
        given.fill(name, service);
    }
    given.claims
}

/// Addresses of Services that go: nobody else gets one before its finalizer is gone.
fn held_by_others(services: &BTreeMap<Name, Service>, config: &Config) -> BTreeMap<IpAddr, Name> {
    let others = services.iter().filter(|(_, service)| !service.is_ours(config) && service.has_finalizer());
    let held =
        others.flat_map(|(name, service)| service.addresses.iter().map(move |one| (*one, name.clone())));
    held.collect()
}

struct Given<'a> {
    config: &'a Config,
    taken: BTreeMap<IpAddr, Name>,
    claims: BTreeMap<Name, Claim>,
}

impl<'a> Given<'a> {
    /// What stands in its status and is not contested. What is in no pool any more stays, too, if
    /// it was given by us: who takes a pool away must not move Services that are in use.
    fn keep(&mut self, name: &Name, service: &Service) {
        let wished = wishes(service).unwrap_or_default();
        let mut claim = Claim::default();
        for family in &service.families {
            let is_kept = |address: &&IpAddr| {
                Family::of(**address) == *family
                    && !self.taken.contains_key(*address)
                    && (self.pool_of(**address).is_some() || service.has_finalizer())
                    && wished.get(family).is_none_or(|wish| wish == *address)
            };
            if let Some(address) = service.addresses.iter().find(is_kept).copied() {
                self.taken.insert(address, name.clone());
                claim.addresses.push(address);
            }
        }
        self.claims.insert(name.clone(), claim);
    }

    /// What it asks for.
    fn grant(&mut self, name: &Name, service: &Service) {
        let wished = match wishes(service) {
            Ok(wished) => wished,
            Err(trouble) => return self.note(name, trouble),
        };
        for (family, address) in wished {
            if self.has(name, family) {
                continue;
            }
            match self.may_have(name, address) {
                Ok(()) => self.give(name, service, address),
                Err(trouble) => self.note(name, trouble),
            }
        }
    }

    /// Of the families that are still missing, the first free one.
    fn fill(&mut self, name: &Name, service: &Service) {
        let wished = wishes(service).unwrap_or_default();
        for family in &service.families {
            if self.has(name, *family) || wished.contains_key(family) {
                continue;
            }
            let taken: BTreeSet<IpAddr> = self.taken.keys().copied().collect();
            let pools = self.pools_for(name, service);
            let mut ranges = pools.iter().flat_map(|pool| pool.ranges(*family));
            let free = ranges.find_map(|range| range.first_free(&taken));
            match free {
                Some(address) => self.give(name, service, address),
                None => match &service.pool {
                    Some(pool) if pools.is_empty() => self.note(name, Trouble::NoSuchPool(pool.clone())),
                    _ if service.prefers_both && service.families.len() > 1 => {}
                    _ => self.note(name, Trouble::Exhausted(*family)),
                },
            }
        }
        // Of two that it would like to have it needs one.
        let is_empty = self.claims.get(name).is_some_and(|claim| claim.addresses.is_empty());
        if let Some(family) = service.families.first().filter(|_| is_empty) {
            self.note(name, Trouble::Exhausted(*family));
        }
    }

    fn pools_for(&self, name: &Name, service: &Service) -> Vec<&'a Pool> {
        let pools = self.config.pools.iter().filter(|pool| pool.is_for(&name.namespace));
        let pools = pools.filter(|pool| match &service.pool {
            Some(wanted) => pool.name == *wanted,
            None => pool.auto_assign,
        });
        pools.collect()
    }

    fn pool_of(&self, address: IpAddr) -> Option<&Pool> {
        let has = |pool: &&Pool| pool.addresses.iter().any(|range| range.contains(address));
        self.config.pools.iter().find(has)
    }

    fn may_have(&self, name: &Name, address: IpAddr) -> Result<(), Trouble> {
        if let Some(by) = self.taken.get(&address) {
            return Err(Trouble::Taken { address, by: by.clone() });
        }
        let pool = self.pool_of(address).ok_or(Trouble::InNoPool(address))?;
        match pool.is_for(&name.namespace) {
            true => Ok(()),
            false => Err(Trouble::NotForNamespace { address, pool: pool.name.clone() }),
        }
    }

    fn has(&self, name: &Name, family: Family) -> bool {
        let claim = self.claims.get(name);
        claim.is_some_and(|claim| claim.addresses.iter().any(|address| Family::of(*address) == family))
    }

    fn give(&mut self, name: &Name, service: &Service, address: IpAddr) {
        self.taken.insert(address, name.clone());
        let claim = self.claims.entry(name.clone()).or_default();
        claim.addresses.push(address);
        let place = |address: &IpAddr| service.families.iter().position(|one| *one == Family::of(*address));
        claim.addresses.sort_by_key(place);
    }

    /// The first one is told.
    fn note(&mut self, name: &Name, trouble: Trouble) {
        self.claims.entry(name.clone()).or_default().trouble.get_or_insert(trouble);
    }
}

/// The addresses that a Service asks for, by family.
fn wishes(service: &Service) -> Result<BTreeMap<Family, IpAddr>, Trouble> {
    let mut wished = BTreeMap::new();
    for text in &service.asks_for {
        let wrong = || Trouble::NotUnderstood(service.asks_for.join(", "));
        let address: IpAddr = text.parse().map_err(|_| wrong())?;
        let family = Family::of(address);
        if !service.families.contains(&family) || wished.insert(family, address).is_some() {
            return Err(wrong());
        }
    }
    Ok(wished)
}

#[cfg(test)]
mod tests;
