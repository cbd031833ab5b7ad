//! Writes of the leader for Gateways: carriers, their slices, and statuses.

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::decisions::{What, Write};
use crate::words::{self, OngoingTrouble, in_one};

pub(crate) struct Writer {
    client: Client,
    told: OngoingTrouble,
}

impl Writer {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, told: OngoingTrouble::default() }
    }

    /// Returns whether all is written; what has changed meanwhile is decided anew when the watch
    /// tells of it.
    pub(crate) async fn write(&mut self, writes: Vec<Write>) -> bool {
        let mut refused = Vec::new();
        for write in writes {
            let doing = format!("writing to the {} {}", write.resource.kind, write.name);
            match self.write_one(write).await {
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
        match refused.is_empty() {
            true => self.told.end("the API server takes what is written for Gateways again"),
            false => self.told.trouble(in_one(&refused)),
        }
        refused.is_empty()
    }

    async fn write_one(&self, Write { resource, name, what }: Write) -> kube::Result<()> {
        let client = self.client.clone();
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
}
