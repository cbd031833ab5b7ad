//! `lb probe`: the checks of a server made at once, because somebody wants to see them.

use lb_api::status::ProbeReport;
use lb_api::words::list;
use lb_health::Checker;
use lb_health::probe::{Advice, Report, Subject, micros};
use lb_model::{Check, Config, Server, Service, Via};
use tokio::sync::oneshot;

use crate::observe::requests::{ProbeOrder, Probing};

/// Starts the checks. The error says what cannot be found, and what there is.
pub(super) fn start(checker: &Checker, order: &ProbeOrder, config: &Config) -> Result<Probing, String> {
    let (service, server) = find(config, order)?;
    if server.checks.is_empty() {
        return Err(format!("{} of {} has no check: it is taken to be healthy", server.name, service.name));
    }
    let subject = Subject { service: service.key, server: server.address, port: server.port };
    let checks = server.checks.clone();
    let reports = checker.probe(subject, checks.clone());
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        if let Ok(reports) = reports.await {
            let each = checks.iter().zip(reports);
            let described = each.map(|(check, report)| describe(check, subject, report)).collect();
            // Whoever asked may have gone.
            let _ = sender.send(described);
        }
    });
    Ok(receiver)
}

fn find<'c>(config: &'c Config, order: &ProbeOrder) -> Result<(&'c Service, &'c Server), String> {
    let ProbeOrder { service, server } = order;
    let found = config.services.iter().find(|one| one.is_called(service));
    let found = found.ok_or_else(|| {
        let names = config.services.iter().map(|service| service.name.as_str());
        format!("there is no service {service:?}, there are {}", list(names))
    })?;
    let server = found.servers.iter().find(|one| one.is_called(server)).ok_or_else(|| {
        let names = found.servers.iter().map(|server| server.name.as_str());
        format!("{} has no server {server:?}, it has {}", found.name, list(names))
    })?;
    Ok((found, server))
}

fn describe(check: &Check, subject: Subject, report: Report) -> ProbeReport {
    let Report { took, steps, warning, result } = report;
    let (advice, failure) = match result {
        Ok(answer) => (answer.advice, None),
        Err(failure) => (None, Some(failure.to_string())),
    };
    ProbeReport {
        check: check.probe.name().to_owned(),
        target: check.target(subject.service.vip, subject.server, subject.port),
        via_vip: check.via == Via::Vip,
        took_us: micros(took),
        steps,
        warning,
        advice: advice.map(|advice| match advice {
            Advice::Weight(weight) => format!("weight {weight}"),
            Advice::Percent(percent) => format!("{percent} % of its weight"),
        }),
        failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
interface: eth0
services:
  - { name: web, vip: '192.0.2.10:80', servers: [{ name: www1, address: 192.0.2.21 }] }
  - { vip: '192.0.2.10:53', protocol: udp, servers: [{ address: 192.0.2.31 }] }
";

    fn found(service: &str, server: &str) -> Result<(String, String), String> {
        let config = lb_config::parse(CONFIG, "test.yaml").expect("a configuration");
        let order = ProbeOrder { service: service.to_owned(), server: server.to_owned() };
        find(&config, &order).map(|(service, server)| (service.name.clone(), server.name.clone()))
    }

    #[test]
    fn services_and_servers_go_by_name_or_address() {
        for (service, server) in [("web", "www1"), ("192.0.2.10:80", "192.0.2.21:80")] {
            assert_eq!(found(service, server), Ok(("web".to_owned(), "www1".to_owned())));
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let wrong = "there is no service \"wep\", there are web, udp/192.0.2.10:53";
        assert_eq!(found("wep", "www1"), Err(wrong.to_owned()));
        assert_eq!(found("web", "www2"), Err("web has no server \"www2\", it has www1".to_owned()));
    }
}
