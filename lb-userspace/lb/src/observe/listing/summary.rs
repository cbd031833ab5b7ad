//! What is wrong with services and servers, in the first lines of a listing that is longer than a
//! screen: who is on call should not have to look for it.

use lb_api::status::ServiceStatus;
use lb_api::words;
use lb_model::Health;

use super::Tone;

/// A listing of fewer lines is seen at a glance.
const SCREEN: usize = 20;
/// So many are named.
const NAMED: usize = 8;

/// Nothing where all is well, or all is in sight.
pub(super) fn of(services: &[ServiceStatus], colour: bool) -> String {
    let lines: usize = services.iter().map(|service| 1 + service.servers.len()).sum();
    if lines <= SCREEN {
        return String::new();
    }
    let there = || services.iter().filter(|service| !service.draining);
    let nobody = there().filter(|service| service.on_fallback && !service.fallback_ready);
    let fallback = there().filter(|service| service.on_fallback && service.fallback_ready);
    let down = there().flat_map(|service| {
        let down = service.servers.iter().filter(|server| server.health == Health::Down);
        down.map(move |server| {
            let why = server.reason.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
            format!("{} of {}{why}", server.name, service.name)
        })
    });
    let name = |service: &ServiceStatus| service.name.clone();
    [
        line("NOBODY SERVES", nobody.map(name).collect(), Tone::Bad, colour),
        line("ON FALLBACK", fallback.map(name).collect(), Tone::Bad, colour),
        line("DOWN", down.collect(), Tone::Warning, colour),
    ]
    .concat()
}

fn line(head: &str, all: Vec<String>, tone: Tone, colour: bool) -> String {
    let more = all.len().saturating_sub(NAMED);
    let named: Vec<String> = all.iter().take(NAMED).map(|one| words::printable(one)).collect();
    let text = match (all.len(), more) {
        (0, _) => return String::new(),
        (_, 0) => format!("{head}: {}", named.join(", ")),
        (_, more) => format!("{head}: {} and {} more", named.join(", "), words::grouped(more as u64)),
    };
    tone.paint(&text, colour) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples;

    fn services(count: usize) -> Vec<ServiceStatus> {
        let one = samples::cluster().services.swap_remove(0);
        (0..count).map(|number| ServiceStatus { name: format!("s{number}"), ..one.clone() }).collect()
    }

    #[test]
    fn what_is_wrong_among_many_services_comes_first() {
        let mut many = services(100);
        assert_eq!(of(&many, false), "", "all is well");
        let www2 = &mut many[50].servers[1];
        (www2.health, www2.reason) = (Health::Down, Some("connection refused".into()));
        (many[70].on_fallback, many[71].on_fallback) = (true, true);
        many[71].fallback_ready = false;
        // An operator has taken it out.
        (many[72].on_fallback, many[72].draining) = (true, true);
        assert_eq!(
            of(&many, false),
            "NOBODY SERVES: s71\nON FALLBACK: s70\nDOWN: www2 of s50 (connection refused)\n"
        );
        many.iter_mut().for_each(|service| service.on_fallback = true);
        let listing = of(&many, false);
        let first = "ON FALLBACK: s0, s1, s2, s3, s4, s5, s6, s7 and 90 more";
        assert_eq!(listing.lines().nth(1), Some(first), "{listing}");
    }

    #[test]
    fn few_services_are_in_sight() {
        let mut few = services(6);
        few[0].on_fallback = true;
        assert_eq!(of(&few, false), "");
    }
}
