//! What is wrong with services and servers, in a few lines: who is on call should not have to look
//! for it among thousands.

use lb_model::Health;

use super::{ServerStatus, ServiceStatus, Status, Tone};
use crate::words;

/// So many are named in a line.
const NAMED: usize = 8;

/// Services and servers that do not serve as they should, but for those that an operator has taken
/// out.
#[derive(Debug)]
pub struct Troubles<'a> {
    /// Their new connections are dropped or refused.
    pub nobody: Vec<&'a ServiceStatus>,
    pub on_fallback: Vec<&'a ServiceStatus>,
    /// With their services.
    pub down: Vec<(&'a ServiceStatus, &'a ServerStatus)>,
}

impl Status {
    pub fn troubles(&self) -> Troubles<'_> {
        let there = || self.services.iter().filter(|service| !service.draining);
        let on_fallback = there().filter(|service| service.on_fallback);
        let (on_fallback, nobody) = on_fallback.partition(|service| service.fallback_ready);
        let servers = there().flat_map(|service| service.servers.iter().map(move |server| (service, server)));
        let down = servers.filter(|(_, server)| server.health == Health::Down).collect();
        Troubles { nobody, on_fallback, down }
    }
}

impl Troubles<'_> {
    /// A line for services that nobody serves, and one for those on their fallback.
    pub fn of_services(&self) -> Vec<(Tone, String)> {
        let names = |services: &[&ServiceStatus]| -> Vec<String> {
            services.iter().map(|service| service.name.clone()).collect()
        };
        let nobody = line("NOBODY SERVES", &names(&self.nobody));
        let on_fallback = line("ON FALLBACK", &names(&self.on_fallback));
        [nobody, on_fallback].into_iter().flatten().map(|line| (Tone::Bad, line)).collect()
    }

    /// A line for servers that are down, with the reasons.
    pub fn of_servers(&self) -> Option<(Tone, String)> {
        let named = self.down.iter().map(|(service, server)| {
            let why = server.reason.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
            format!("{} of {}{why}", server.name, service.name)
        });
        line("DOWN", &named.collect::<Vec<String>>()).map(|line| (Tone::Warning, line))
    }
}

fn line(head: &str, all: &[String]) -> Option<String> {
    let named: Vec<String> = all.iter().take(NAMED).map(|one| words::printable(one)).collect();
    let named = named.join(", ");
    match (all.len(), all.len().saturating_sub(NAMED)) {
        (0, _) => None,
        (_, 0) => Some(format!("{head}: {named}")),
        (_, more) => Some(format!("{head}: {named} and {} more", words::grouped(more as u64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn lines(status: &Status) -> Vec<String> {
        let troubles = status.troubles();
        troubles.of_services().into_iter().chain(troubles.of_servers()).map(|(_, line)| line).collect()
    }

    #[test]
    fn each_kind_is_a_line() {
        let one = samples::cluster().services.swap_remove(0);
        let services =
            (0..100).map(|number| ServiceStatus { name: format!("s{number}"), ..one.clone() }).collect();
        let mut status = Status { services, ..samples::cluster() };
        assert_eq!(lines(&status), Vec::<String>::new(), "all is well");
        let services = &mut status.services;
        let www2 = &mut services[50].servers[1];
        (www2.health, www2.reason) = (Health::Down, Some("connection refused".into()));
        services[51].servers[1].health = Health::Maintenance;
        (services[70].on_fallback, services[71].on_fallback) = (true, true);
        services[71].fallback_ready = false;
        // It is on its way out.
        (services[72].on_fallback, services[72].draining) = (true, true);
        let wanted = ["NOBODY SERVES: s71", "ON FALLBACK: s70", "DOWN: www2 of s50 (connection refused)"];
        assert_eq!(lines(&status), wanted);
        status.services.iter_mut().for_each(|service| service.on_fallback = true);
        assert_eq!(lines(&status)[1], "ON FALLBACK: s0, s1, s2, s3, s4, s5, s6, s7 and 90 more");
    }
}
