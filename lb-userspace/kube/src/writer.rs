//! Writes of the leader: finalizers, the status, and events.

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::decisions::{Verdict, What, Write};
use crate::words::{self, OngoingTrouble, in_one};

pub(crate) struct Writer {
    client: Client,
    recorder: Recorder,
    told: OngoingTrouble,
    told_of_events: OngoingTrouble,
}

impl Writer {
    /// `me` is what events are told as being from.
    pub(crate) fn new(client: Client, me: String) -> Self {
        let reporter = Reporter { controller: "lb-kube".to_owned(), instance: Some(me) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, recorder, told: OngoingTrouble::default(), told_of_events: OngoingTrouble::default() }
    }

    /// Returns whether all is written; what a Service that has changed meanwhile needs is decided
    /// anew when the watch tells of it.
    pub(crate) async fn write(&mut self, writes: Vec<Write>) -> bool {
        let mut refused = Vec::new();
        for write in writes {
            let doing = format!("writing to the Service {}", write.name);
            match self.write_one(&write).await {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                    tracing::debug!("{doing}: {}", status.message);
                    continue;
                }
                // This Service's own affair, such as a webhook that says no: others go on.
                Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                    refused.push(words::of(&doing, &kube::Error::Api(status)));
                    continue;
                }
                Err(error) => {
                    self.told.trouble(words::of(&doing, &error));
                    return false;
                }
            }
            if let What::Status { news: Some(verdict), .. } = &write.what {
                self.tell(&write, verdict).await;
            }
        }
        match refused.is_empty() {
            true => self.told.end("the API server takes what is written again"),
            false => self.told.trouble(in_one(&refused)),
        }
        refused.is_empty()
    }

    async fn write_one(&self, write: &Write) -> kube::Result<()> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &write.name.namespace);
        let patch = Patch::Merge(body(write));
        let (name, parameters) = (&write.name.name, PatchParams::default());
        match &write.what {
            What::Finalizers(_) => services.patch(name, &parameters, &patch).await?,
            What::Status { .. } => services.patch_status(name, &parameters, &patch).await?,
        };
        tracing::info!("Service {}: {}", write.name, shown(&write.what));
        Ok(())
    }

    /// An event that is lost is no reason to stop: the condition says the same.
    async fn tell(&mut self, write: &Write, verdict: &Verdict) {
        let event = Event {
            type_: if verdict.is_well { EventType::Normal } else { EventType::Warning },
            reason: verdict.reason.to_owned(),
            note: Some(lb_api::words::cut(&verdict.message, LONGEST_NOTE).to_owned()),
            action: "Balance".to_owned(),
            secondary: None,
        };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(write.name.namespace.clone()),
            name: Some(write.name.name.clone()),
            uid: Some(write.uid.clone()),
            ..ObjectReference::default()
        };
        match self.recorder.publish(&event, &about).await {
            Ok(()) => self.told_of_events.end("the API server takes events again"),
            Err(error) => self.told_of_events.trouble(words::of("telling an event", &error)),
        }
    }
}

/// The longest note of an event, and the longest message of a condition, in bytes.
const LONGEST_NOTE: usize = 1000;
const LONGEST_MESSAGE: usize = 32_000;

/// The merge patch. With a resource version the API server refuses it if the Service has changed.
fn body(write: &Write) -> Value {
    let version = &write.version;
    match &write.what {
        What::Finalizers(finalizers) => {
            json!({ "metadata": { "resourceVersion": version, "finalizers": finalizers } })
        }
        What::Status { addresses, conditions, news: _ } => {
            let ingress = addresses.iter().map(|address| json!({ "ip": address, "ipMode": "VIP" }));
            let ingress: Vec<Value> = ingress.collect();
            // Without an address there is no key, as in a Service that never had one.
            let ingress = if ingress.is_empty() { Value::Null } else { ingress.into() };
            let conditions = conditions.iter().cloned().map(|mut condition| {
                condition.message = lb_api::words::cut(&condition.message, LONGEST_MESSAGE).to_owned();
                condition
            });
            json!({
                "metadata": { "resourceVersion": version },
                "status": {
                    "loadBalancer": { "ingress": ingress },
                    "conditions": conditions.collect::<Vec<_>>(),
                }
            })
        }
    }
}

fn shown(what: &What) -> String {
    match what {
        What::Finalizers(finalizers) => format!("finalizers {finalizers:?}"),
        What::Status { addresses, news: None, .. } => format!("addresses {addresses:?}"),
        What::Status { news: Some(verdict), .. } => format!("{}: {}", verdict.reason, verdict.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::samples::{addresses, name};

    fn write(what: What) -> Write {
        Write { name: name("web"), uid: "u".into(), version: "7".into(), what }
    }

    #[test]
    fn patches_are_as_the_api_has_them() {
        let finalizers = write(What::Finalizers(vec!["lb-kube/cleanup".into()]));
        let wanted = json!({ "metadata": { "resourceVersion": "7", "finalizers": ["lb-kube/cleanup"] } });
        assert_eq!(body(&finalizers), wanted);
        let status = |has: &[&str]| {
            write(What::Status { addresses: addresses(has), conditions: Vec::new(), news: None })
        };
        let wanted =
            json!([{ "ip": "192.0.2.10", "ipMode": "VIP" }, { "ip": "2001:db8::10", "ipMode": "VIP" }]);
        assert_eq!(
            body(&status(&["192.0.2.10", "2001:db8::10"]))["status"]["loadBalancer"]["ingress"],
            wanted
        );
        assert_eq!(body(&status(&[]))["status"]["loadBalancer"]["ingress"], Value::Null);
    }
}
