//! The director beside this process: it is given all services at once, and says what it does not
//! serve.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use lb_api::client;
use lb_api::wire::Replaced;
use lb_model::overlay::KUBERNETES;

use crate::cluster::Name;
use crate::decisions::Answer;
use crate::desired::Desired;

/// Gives the director these services in place of those before.
pub(crate) async fn give(socket: &Path, desired: Desired) -> Result<Answer> {
    let Desired { services, owners } = desired;
    let socket: PathBuf = socket.to_owned();
    let asked =
        tokio::task::spawn_blocking(move || client::request_replacement(&socket, KUBERNETES, services));
    let replaced = asked.await.context("asking the director")??;
    for difference in &replaced.differences {
        tracing::info!("director: {difference}");
    }
    Ok(answer(&owners, &replaced))
}

fn answer(owners: &BTreeMap<String, Name>, replaced: &Replaced) -> Answer {
    let given: BTreeSet<Name> = owners.values().cloned().collect();
    let mut left_out: BTreeMap<Name, String> = BTreeMap::new();
    for one in &replaced.left_out {
        if let Some(owner) = owners.get(&one.service) {
            let words = left_out.entry(owner.clone()).or_default();
            if !words.is_empty() {
                words.push_str("; ");
            }
            words.push_str(&format!("{}: {}", one.service, one.why));
        }
    }
    Answer { given, left_out }
}

#[cfg(test)]
mod tests {
    use lb_api::wire::LeftOut;

    use super::*;
    use crate::cluster::samples::name;

    #[test]
    fn what_is_left_out_is_told_by_service() {
        let owners = BTreeMap::from([
            ("shop/a:80/tcp".to_owned(), name("a")),
            ("shop/b:80/tcp".to_owned(), name("b")),
            ("shop/b:81/tcp".to_owned(), name("b")),
        ]);
        let left_out = |service: &str| LeftOut { service: service.into(), why: "it is taken".into() };
        let replaced = Replaced {
            differences: Vec::new(),
            left_out: vec![left_out("shop/b:80/tcp"), left_out("shop/b:81/tcp"), left_out("other")],
        };
        let answer = answer(&owners, &replaced);
        assert_eq!(answer.given, BTreeSet::from([name("a"), name("b")]));
        let words = "shop/b:80/tcp: it is taken; shop/b:81/tcp: it is taken".to_owned();
        assert_eq!(answer.left_out, BTreeMap::from([(name("b"), words)]));
    }
}
