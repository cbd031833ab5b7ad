//! Writes of the leader for Gateways: carriers, their slices, and statuses.

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::decisions::{What, Write};
use crate::patience::Patience;
use crate::words::{self, OngoingTrouble, in_one};

pub(crate) struct Writer {
    client: Client,
    told: OngoingTrouble,
    patience: Patience,
}

impl Writer {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, told: OngoingTrouble::default(), patience: Patience::default() }
    }

    /// Returns whether all is written; what has changed meanwhile is decided anew when the watch
    /// tells of it.
    pub(crate) async fn write(&mut self, writes: Vec<Write>) -> bool {
        let mut refused = Vec::new();
        let subject = |write: &Write| format!("{} {}", write.resource.kind, write.name);
        for write in self.patience.round(writes, subject) {
            let subject = subject(&write);
            let doing = format!("writing to the {subject}");
            let done = write_one(self.client.clone(), write);
            let Some(done) = self.patience.wait(&subject, done).await else { continue };
            match done {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    tracing::debug!("{doing}: {}", status.message);
                }
                // This object's own affair, such as a webhook that says no: others go on.
                Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                    refused.push(words::of(&doing, &kube::Error::Api(status)));
                }
                Err(error) => {
                    self.told.trouble(words::of(&doing, &error));
                    return false;
                }
            }
        }
        refused.extend(self.patience.troubles());
        match refused.is_empty() {
            true => self.told.end("the API server takes what is written for Gateways again"),
            false => self.told.trouble(in_one(&refused)),
        }
        refused.is_empty()
    }
}

async fn write_one(client: Client, Write { resource, name, what }: Write) -> kube::Result<()> {
    let objects: Api<DynamicObject> = match name.namespace.is_empty() {
        true => Api::all_with(client, &resource),
        false => Api::namespaced_with(client, &name.namespace, &resource),
    };
    let parameters = PatchParams::default();
    let done = match what {
        What::Create(body) => {
            let object = serde_json::from_value(body).map_err(kube::Error::SerdeError)?;
            objects.create(&PostParams::default(), &object).await?;
            "made"
        }
        What::Patch(body) => {
            objects.patch(&name.name, &parameters, &Patch::Merge(body)).await?;
            "changed"
        }
        What::Status(body) => {
            objects.patch_status(&name.name, &parameters, &Patch::Merge(body)).await?;
            "told its status"
        }
        What::Delete(uid) => {
            let preconditions = Some(Preconditions { uid, ..Preconditions::default() });
            let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
            objects.delete(&name.name, &parameters).await?;
            "deleted"
        }
    };
    tracing::info!("{} {name}: {done}", resource.kind);
    Ok(())
}
