//! Watches of the Gateway API's kinds, which are there only if somebody has installed them.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::News;
use super::resources::Kind;
use crate::watch::follow;
use crate::words::{self, OngoingTrouble};

/// What is not installed is looked for again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// Begins to watch all kinds. The others begin once there are GatewayClasses.
pub(crate) fn watching<M>(client: &Client, to: &mpsc::Sender<M>) -> Vec<JoinHandle<()>>
where
    M: From<News> + Send + 'static,
{
    let (begun, begins) = watch::channel(false);
    let (client, to) = (client.clone(), to.clone());
    vec![
        tokio::spawn(watch_classes(client.clone(), to.clone(), begun)),
        tokio::spawn(watch_kind(client.clone(), Kind::Gateway, to.clone(), begins.clone(), News::Gateway)),
        tokio::spawn(watch_kind(client.clone(), Kind::TcpRoute, to.clone(), begins.clone(), News::TcpRoute)),
        tokio::spawn(watch_kind(client.clone(), Kind::UdpRoute, to.clone(), begins.clone(), News::UdpRoute)),
        tokio::spawn(watch_kind(
            client.clone(),
            Kind::ReferenceGrant,
            to.clone(),
            begins.clone(),
            News::Grant,
        )),
        tokio::spawn(watch_namespaces(client, to, begins)),
    ]
}

async fn watch_classes<M>(client: Client, to: mpsc::Sender<M>, begun: watch::Sender<bool>)
where
    M: From<News> + Send + 'static,
{
    if let Some(version) = find(&client, Kind::GatewayClass, &to).await {
        begun.send_replace(true);
        watch_version(client, Kind::GatewayClass, version, to, News::Class).await;
    }
}

async fn watch_kind<K, M>(
    client: Client,
    kind: Kind,
    to: mpsc::Sender<M>,
    mut begins: watch::Receiver<bool>,
    news: fn(Box<Event<K>>) -> News,
) where
    K: Resource<DynamicType = ApiResource> + Clone + DeserializeOwned + Debug + Send + 'static,
    M: From<News> + Send + 'static,
{
    if has_begun(&mut begins).await
        && let Some(version) = find(&client, kind, &to).await
    {
        watch_version(client, kind, version, to, news).await;
    }
}

/// Their labels are asked for by listeners.
async fn watch_namespaces<M>(client: Client, to: mpsc::Sender<M>, mut begins: watch::Receiver<bool>)
where
    M: From<News> + Send + 'static,
{
    if has_begun(&mut begins).await {
        let namespaces = Api::<Namespace>::all(client);
        follow(namespaces, "Namespaces", to, |event| News::Namespace(Box::new(event)).into()).await;
    }
}

/// Waits until there are GatewayClasses. Returns `false` if nobody looks for them any more.
async fn has_begun(begins: &mut watch::Receiver<bool>) -> bool {
    begins.wait_for(|has_begun| *has_begun).await.is_ok()
}

async fn watch_version<K, M>(
    client: Client,
    kind: Kind,
    version: &str,
    to: mpsc::Sender<M>,
    news: fn(Box<Event<K>>) -> News,
) where
    K: Resource<DynamicType = ApiResource> + Clone + DeserializeOwned + Debug + Send + 'static,
    M: From<News> + Send + 'static,
{
    let api = Api::<K>::all_with(client, &kind.resource(version));
    follow(api, kind.all(), to, move |event| news(Box::new(event)).into()).await;
}

/// Looks for the kind until it is there, and tells its version. Returns `None` if nobody listens
/// any more.
async fn find<M: From<News>>(client: &Client, kind: Kind, to: &mpsc::Sender<M>) -> Option<&'static str> {
    let mut told = OngoingTrouble::default();
    let mut is_told = false;
    loop {
        match look(client, kind).await {
            Ok(found) => {
                told.end(&format!("looking for {}: well again", kind.all()));
                to.send(News::Installed(kind, found).into()).await.ok()?;
                if let Some(version) = found {
                    tracing::debug!("{} are there in version {version}", kind.all());
                    return found;
                }
                if !std::mem::replace(&mut is_told, true) {
                    tell_missing(kind);
                }
            }
            Err(error) => told.trouble(words::of(&format!("looking for {}", kind.all()), &error)),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = to.closed() => return None,
        }
    }
}

/// Which of its versions the API server has.
async fn look(client: &Client, kind: Kind) -> kube::Result<Option<&'static str>> {
    for version in kind.versions().iter().copied() {
        let api = Api::<DynamicObject>::all_with(client.clone(), &kind.resource(version));
        match api.list(&ListParams::default().limit(1)).await {
            Ok(_) => return Ok(Some(version)),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn tell_missing(kind: Kind) {
    let again = LOOK_AGAIN.as_secs();
    match kind {
        Kind::GatewayClass => {
            tracing::info!("the Gateway API is not installed, and looked for every {again} s");
        }
        _ => {
            let versions = kind.versions().join(" or ");
            tracing::info!(
                "{} of version {versions} are not installed, which some releases of the Gateway API lack; \
                 they are looked for every {again} s",
                kind.all()
            );
        }
    }
}
