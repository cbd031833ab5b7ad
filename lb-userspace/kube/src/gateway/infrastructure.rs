//! `spec.infrastructure` of a Gateway: pure. Labels and annotations that whatever is made for the
//! Gateway bears, and parameters, of which `lb-kube` takes none.
//!
//! Others may put labels and annotations of their own there. So each object bears a note, an
//! annotation that names those of the Gateway, and only these are changed back or taken away.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Gateway;
use super::resources::Infrastructure;
use crate::cluster::{MANAGED_BY, OF_SERVICE, POOL, SCHEDULER, SLICE_MANAGED_BY};

/// The annotation with the note.
const NOTE: &str = "lb-kube/from-gateway";
/// What annotations of `lb-kube` begin with. It alone gives them to what it makes.
const OWN: &str = "lb-kube/";
/// Labels that say what an object is for.
const OWN_LABELS: [&str; 3] = [MANAGED_BY, OF_SERVICE, SLICE_MANAGED_BY];

/// Labels and annotations of an object that it has from its Gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extras {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// The names of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    labels: Vec<String>,
    annotations: Vec<String>,
}

impl Extras {
    /// Those that a Gateway wants.
    pub(crate) fn wanted(gateway: &Gateway) -> Self {
        let Some(Infrastructure { labels, annotations, .. }) = &gateway.spec.infrastructure else {
            return Self::default();
        };
        let labels = labels.iter().filter(|(key, _)| !OWN_LABELS.contains(&key.as_str()));
        let annotations = annotations.iter().filter(|(key, _)| !key.starts_with(OWN));
        let cloned = |(key, value): (&String, &String)| (key.clone(), value.clone());
        Self { labels: labels.map(cloned).collect(), annotations: annotations.map(cloned).collect() }
    }

    /// Those that an object has by its note.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        type Values = BTreeMap<String, String>;
        let note = metadata.annotations.as_ref().and_then(|all| all.get(NOTE));
        let note: Option<Note> = note.and_then(|note| serde_json::from_str(note).ok());
        let Note { labels, annotations } = note.unwrap_or_default();
        let found = |names: Vec<String>, all: &Option<Values>| -> Values {
            let value = |name: String| all.as_ref()?.get(&name).cloned().map(|value| (name, value));
            names.into_iter().filter_map(value).collect()
        };
        Self {
            labels: found(labels, &metadata.labels),
            annotations: found(annotations, &metadata.annotations),
        }
    }

    /// Labels for an object that has `found` from before; what is to go is null.
    pub(crate) fn labels(&self, found: Option<&Self>) -> Map<String, Value> {
        patch(&self.labels, found.map(|found| &found.labels))
    }

    /// The same of annotations, with the note.
    pub(crate) fn annotations(&self, found: Option<&Self>) -> Map<String, Value> {
        let mut all = patch(&self.annotations, found.map(|found| &found.annotations));
        let note = Note {
            labels: self.labels.keys().cloned().collect(),
            annotations: self.annotations.keys().cloned().collect(),
        };
        let is_empty = *self == Self::default();
        if !is_empty || found.is_some() {
            let note = serde_json::to_string(&note).ok().filter(|_| !is_empty);
            all.insert(NOTE.to_owned(), note.into());
        }
        all
    }
}

fn patch(wanted: &BTreeMap<String, String>, found: Option<&BTreeMap<String, String>>) -> Map<String, Value> {
    let gone = found.into_iter().flat_map(BTreeMap::keys).filter(|key| !wanted.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Value::Null));
    gone.chain(wanted.iter().map(|(key, value)| (key.clone(), value.as_str().into()))).collect()
}

/// The Gateway's own annotation, or that of what is made for it.
pub(crate) fn pool(gateway: &Gateway) -> Option<String> {
    gateway.pool.clone().or_else(|| annotation(gateway, POOL))
}

pub(crate) fn scheduler(gateway: &Gateway) -> Option<String> {
    gateway.scheduler.clone().or_else(|| annotation(gateway, SCHEDULER))
}

fn annotation(gateway: &Gateway, key: &str) -> Option<String> {
    gateway.spec.infrastructure.as_ref()?.annotations.get(key).cloned()
}

/// Parameters would want something that nobody here knows. Such a Gateway keeps what it has.
pub(crate) fn has_parameters(gateway: &Gateway) -> bool {
    gateway.spec.infrastructure.as_ref().is_some_and(|wanted| wanted.parameters_ref.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::{gateway, wanting};
    use super::*;

    fn metadata(labels: &Value, annotations: &Value) -> ObjectMeta {
        let metadata = json!({ "labels": labels, "annotations": annotations });
        serde_json::from_value(metadata).expect("metadata")
    }

    #[test]
    fn an_object_has_what_its_note_names() {
        let of_team = wanting(
            gateway(&[("web", 80)]),
            json!({ "labels": { "team": "web" }, "annotations": { "example.org/cost": "7" } }),
        );
        let wanted = Extras::wanted(&of_team);
        let (labels, mut annotations) = (wanted.labels(None), wanted.annotations(None));
        assert_eq!(labels, *json!({ "team": "web" }).as_object().expect("labels"));
        annotations.insert("other".into(), "stays".into());
        let as_made = metadata(&json!(labels), &json!(annotations));
        assert_eq!(Extras::of(&as_made), wanted);
        let changed = metadata(&json!({ "team": "mail" }), &json!(annotations));
        assert_ne!(Extras::of(&changed), wanted);
        // The Gateway does not want them any more.
        let none = Extras::default();
        let found = Extras::of(&as_made);
        assert_eq!(json!(none.labels(Some(&found))), json!({ "team": null }));
        let annotations = none.annotations(Some(&found));
        assert_eq!(json!(annotations), json!({ "example.org/cost": null, NOTE: null }));
        assert!(none.annotations(None).is_empty(), "an object that is new");
        let unread = metadata(&json!({ "team": "web" }), &json!({ NOTE: "what is this" }));
        assert_eq!(Extras::of(&unread), none);
    }

    #[test]
    fn what_lb_kube_says_itself_is_not_for_a_gateway_to_say() {
        let infrastructure = json!({
            "labels": { MANAGED_BY: "helm", OF_SERVICE: "web", "team": "web" },
            "annotations": { "lb-kube/addresses": "192.0.2.9", "lb-kube/pool": "dear" }
        });
        let asking = wanting(gateway(&[("web", 80)]), infrastructure);
        let wanted = Extras::wanted(&asking);
        assert_eq!(wanted.labels, BTreeMap::from([("team".to_owned(), "web".to_owned())]));
        assert_eq!(wanted.annotations, BTreeMap::new());
        assert_eq!((pool(&asking).as_deref(), scheduler(&asking)), (Some("dear"), None));
        let own = Gateway { pool: Some("public".into()), ..asking };
        assert_eq!(pool(&own).as_deref(), Some("public"));
        assert!(!has_parameters(&own));
    }
}
