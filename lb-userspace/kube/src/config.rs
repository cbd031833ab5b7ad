//! The file of `lb-kube`: which Services are its own, and the pools of addresses that they get.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::address::{Family, Range};

/// The default of `class`.
pub(crate) const CLASS: &str = "lb-kube/direct";

/// What kube-proxy answers `/healthz` on, unless it is told otherwise.
const KUBE_PROXY_PORT: u16 = 10256;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Services whose `spec.loadBalancerClass` says this are served, and Gateways of classes whose
    /// `spec.controllerName` does.
    #[serde(default = "class")]
    pub class: String,
    /// Whether those without a class are, too.
    #[serde(default)]
    pub default_class: bool,
    /// Where kube-proxy tells whether a node is well; 0: nobody asks.
    #[serde(default = "kube_proxy_port")]
    pub kube_proxy_port: u16,
    #[serde(default)]
    pub pools: Vec<Pool>,
}

/// Addresses for Services.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    pub name: String,
    pub addresses: Vec<Range>,
    /// Whose Services may have them; `None`: those of all.
    #[serde(default)]
    pub namespaces: Option<BTreeSet<String>>,
    /// Whether Services get them that name neither the pool nor an address.
    #[serde(default = "yes")]
    pub auto_assign: bool,
}

fn class() -> String {
    CLASS.to_owned()
}

const fn kube_proxy_port() -> u16 {
    KUBE_PROXY_PORT
}

const fn yes() -> bool {
    true
}

impl Default for Config {
    fn default() -> Self {
        Self { class: class(), default_class: false, kube_proxy_port: KUBE_PROXY_PORT, pools: Vec::new() }
    }
}

impl Config {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_yaml::from_str(text)?;
        let mut names = BTreeSet::new();
        let mut known: Vec<(&Pool, &Range)> = Vec::new();
        for pool in &config.pools {
            if !names.insert(&pool.name) {
                bail!("two pools are called {:?}, expected another name for one of them", pool.name);
            }
            for range in &pool.addresses {
                if let Some((other, both)) = known.iter().find(|(_, both)| both.overlaps(range)) {
                    bail!("{range} of pool {:?} overlaps {both} of pool {:?}", pool.name, other.name);
                }
                known.push((pool, range));
            }
        }
        Ok(config)
    }
}

impl Pool {
    pub(crate) fn is_for(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(namespace))
    }

    pub(crate) fn ranges(&self, family: Family) -> impl Iterator<Item = &Range> {
        self.addresses.iter().filter(move |range| range.family() == family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        format!("{:#}", Config::parse(text).expect_err("a mistake"))
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        let config = Config::parse("pools: [{ name: a, addresses: [192.0.2.32/28] }]").expect("valid");
        let pool = Pool {
            name: "a".into(),
            addresses: vec!["192.0.2.32-192.0.2.47".parse().expect("a range")],
            namespaces: None,
            auto_assign: true,
        };
        assert_eq!(config, Config { pools: vec![pool], ..Config::default() });
        assert_eq!(Config::parse("{}").expect("valid"), Config::default());
    }

    #[test]
    fn mistakes_are_told_in_words() {
        assert!(mistake("class: a\npool: []").contains("unknown field `pool`"));
        let twice = "pools: [{ name: a, addresses: [] }, { name: a, addresses: [] }]";
        assert!(mistake(twice).contains("two pools are called \"a\""));
        let both = "pools: [{ name: a, addresses: [192.0.2.0/24] }, { name: b, addresses: [192.0.2.9] }]";
        assert_eq!(mistake(both), "192.0.2.9 of pool \"b\" overlaps 192.0.2.0-192.0.2.255 of pool \"a\"");
        assert!(mistake("pools: [{ name: a, addresses: [192.0.2.300] }]").contains("192.0.2.300"));
    }

    #[test]
    fn a_pool_may_be_for_some_namespaces() {
        let text = "pools: [{ name: a, addresses: [], namespaces: [shop] }]";
        let config = Config::parse(text).expect("valid");
        assert!(config.pools[0].is_for("shop"));
        assert!(!config.pools[0].is_for("blog"));
    }
}
