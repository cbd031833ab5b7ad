//! What alerts are called at an Alertmanager.
//!
//! The alerts of Prometheus' rules (deploy/prometheus/rules.yml) may come to the same Alertmanager.
//! Where a rule is about what an event tells, both have the rule's name: a route or a silence for
//! that name is for both, and docs/troubleshooting.md has its heading.

/// Events that tell what a rule is about, and the rule's name. The other events have names of their
/// own.
const OF_RULES: [(&str, &str); 8] = [
    ("config_differs", "LbConfigDiffers"),
    ("config_refused", "LbConfigRefused"),
    ("fallback_started", "LbOnFallback"),
    ("finding", "LbFinding"),
    ("node_dead", "LbNodeDown"),
    ("path_closed", "LbHeartbeatPathDown"),
    ("server_down", "LbServerDown"),
    ("split_brain", "LbSplitBrain"),
];

/// The name of an alert about the event: the rule's, or the event's own, as `LbQuorumLost` of
/// `quorum_lost`.
pub(crate) fn name(event: &str) -> String {
    match OF_RULES.iter().find(|(known, _)| *known == event) {
        Some((_, rule)) => (*rule).to_owned(),
        None => own(event),
    }
}

fn own(event: &str) -> String {
    let words = event.split('_').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    format!("Lb{}", words.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::ongoing;
    use super::*;

    const FILE: &str = include_str!("../../../deploy/prometheus/rules.yml");

    #[test]
    fn the_page_has_the_names() {
        const PAGE: &str = include_str!("../../../docs/alerts.md");
        for (event, rule) in OF_RULES {
            assert!(PAGE.contains(&format!("| `{event}` | `{rule}` |")), "{event}");
        }
    }

    /// What no event tells: it takes figures over a time, several directors, or one that does not
    /// answer.
    const RULES_ALONE: [&str; 16] = [
        "LbBindingsLost",
        "LbChecksLate",
        "LbDown",
        "LbDrops",
        "LbGroupFlapping",
        "LbGroupNowhere",
        "LbNoSuccessor",
        "LbNotAtHome",
        "LbServerFlapping",
        "LbServerWarning",
        "LbServersDown",
        "LbServiceDown",
        "LbSyncBehind",
        "LbSyncLag",
        "LbTableFilling",
        "LbTableFull",
    ];

    /// What lasts, and no rule is about: quorums are lost with and without a fallback, and a role
    /// may be `fault` on one director while another one serves.
    const EVENTS_ALONE: [&str; 7] = [
        "keys_refused",
        "path_sends_fail",
        "quorum_lost",
        "role_changed",
        "server_full",
        "thread_hangs",
        "vip_checks_failed",
    ];

    fn rules() -> BTreeSet<&'static str> {
        FILE.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
    }

    /// A new rule, and a new event that lasts, stand in one of these tables.
    #[test]
    fn each_rule_and_each_event_that_lasts_was_looked_at() {
        let with: BTreeSet<&str> = OF_RULES.iter().map(|(_, rule)| *rule).collect();
        let looked_at: BTreeSet<&str> = with.into_iter().chain(RULES_ALONE).collect();
        assert_eq!(rules(), looked_at);
        let with: BTreeSet<&str> = OF_RULES.iter().map(|(event, _)| *event).collect();
        assert!(with.iter().all(|event| lb_model::is_event(event)), "{with:?}");
        let looked_at: BTreeSet<&str> = with.into_iter().chain(EVENTS_ALONE).collect();
        assert_eq!(ongoing::lasting().collect::<BTreeSet<&str>>(), looked_at);
    }

    #[test]
    fn an_alert_has_the_name_of_a_rule_only_where_it_means_the_same() {
        let rules = rules();
        for event in lb_model::EVENTS {
            let of_a_rule = OF_RULES.iter().any(|(known, _)| *known == event);
            let name = name(event);
            assert_eq!(rules.contains(&*name), of_a_rule, "{event}: {name}");
        }
        assert_eq!(name("node_dead"), "LbNodeDown");
        assert_eq!(name("quorum_lost"), "LbQuorumLost");
    }

    /// Two that can last at once about one thing would be one alert, and end together.
    #[test]
    fn no_two_events_have_one_name() {
        let names: BTreeSet<String> = lb_model::EVENTS.iter().map(|event| name(event)).collect();
        assert_eq!(names.len(), lb_model::EVENTS.len());
    }
}
