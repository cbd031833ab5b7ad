//! An API server with what mocks lack: lists in pages, watches with bookmarks, versions that are
//! too old, disconnects, verbs that are forbidden, writes that come too late.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::discovery::{self, kind, typed};

/// Items of a page of a list: few, so that lists have several.
const PAGE: usize = 2;

/// Resource, namespace and name.
type Key = (String, String, String);

/// What has happened, for watches.
struct Entry {
    version: u64,
    /// Empty: of all resources.
    resource: String,
    event: &'static str,
    object: Value,
}

#[derive(Default)]
struct Known {
    version: u64,
    objects: BTreeMap<Key, Value>,
    log: Vec<Entry>,
    /// What is before that is forgotten.
    oldest: u64,
    /// How often all watches have ended, and whether the last time in the middle of a word.
    cuts: u64,
    is_abrupt: bool,
    /// Whether a watch of something forgotten is refused before it begins.
    refuses_at_once: bool,
    has_gateway_api: bool,
    /// Routes are there in version v1, and no longer in v1alpha2.
    has_routes_in_v1: bool,
    forbidden: BTreeSet<(String, String)>,
    /// Names of objects whose changes are refused, as by a webhook.
    refused: BTreeSet<String>,
    /// Names of objects whose changes get no answer, as by a webhook that hangs.
    hanging: BTreeSet<String>,
    /// Verb, group and resource of all requests.
    asked: BTreeSet<(String, String, String)>,
    lists: BTreeMap<String, usize>,
    watches: BTreeMap<String, usize>,
}

#[derive(Clone)]
pub(crate) struct Api {
    known: Arc<Mutex<Known>>,
    tick: Arc<watch::Sender<u64>>,
    pub url: String,
}

/// What a path is about.
struct Target {
    group: String,
    version: String,
    resource: String,
    namespace: String,
    name: Option<String>,
    /// Such as `status`.
    part: Option<String>,
}

impl Target {
    fn of(path: &str) -> Option<Self> {
        let mut pieces = path.trim_matches('/').split('/');
        let group = match pieces.next()? {
            "api" => "",
            "apis" => pieces.next()?,
            _ => return None,
        };
        let version = pieces.next()?.to_owned();
        let rest: Vec<&str> = pieces.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let piece = |index: usize| rest.get(index).map(|piece| (*piece).to_owned());
        Some(Self {
            group: group.to_owned(),
            version,
            resource: piece(0)?,
            namespace: namespace.to_owned(),
            name: piece(1),
            part: piece(2),
        })
    }

    fn key(&self, name: &str) -> Key {
        (self.resource.clone(), self.namespace.clone(), name.to_owned())
    }

    /// As rules of RBAC call it.
    fn called(&self) -> String {
        match &self.part {
            Some(part) => format!("{}/{part}", self.resource),
            None => self.resource.clone(),
        }
    }
}

impl Api {
    /// Begins to serve.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let api = Self { known: Arc::default(), tick: Arc::new(watch::channel(0).0), url };
        let router = Router::new().fallback(answer).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        api
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and has the watches look.
    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let outcome = change(&mut self.known());
        self.tick.send_modify(|tick| *tick += 1);
        outcome
    }

    /// Makes an object, or puts another one in its place.
    pub(crate) fn put(&self, resource: &str, object: Value) {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let key = (resource.to_owned(), text("namespace"), text("name"));
        self.change(|known| known.set(key, object));
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.known().objects.get(&(resource.into(), namespace.into(), name.into())).cloned()
    }

    pub(crate) fn all(&self, resource: &str) -> Vec<Value> {
        let known = self.known();
        let all = known.objects.iter().filter(|((of, _, _), _)| of == resource);
        all.map(|(_, object)| object.clone()).collect()
    }

    /// As `kubectl delete` does: what has finalizers stays until they are gone.
    pub(crate) fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let (namespace, resource) = (namespace.to_owned(), resource.to_owned());
        let (group, version) = (String::new(), String::new());
        let target = Target { group, version, resource, namespace, name: None, part: None };
        self.change(|known| delete(known, &target, name));
    }

    /// From now on the kinds of the Gateway API are known.
    pub(crate) fn install_gateway_api(&self) {
        self.change(|known| known.has_gateway_api = true);
    }

    /// Tells all watches how far they are.
    pub(crate) fn bookmark(&self) {
        self.change(|known| {
            known.version += 1;
            let version = known.version;
            let object = json!({ "metadata": { "resourceVersion": version.to_string() } });
            known.log.push(Entry { version, resource: String::new(), event: "BOOKMARK", object });
        });
    }

    /// Ends all watches: abruptly, so that what is on its way is lost, or once all is told.
    pub(crate) fn end_watches(&self, is_abrupt: bool) {
        self.change(|known| {
            known.cuts += 1;
            known.is_abrupt = is_abrupt;
        });
    }

    /// Forgets what was until now, as a compacted etcd does. `at_once`: a watch from there is
    /// refused by its status, not by an event.
    pub(crate) fn forget(&self, at_once: bool) {
        self.change(|known| {
            known.oldest = known.version;
            known.refuses_at_once = at_once;
        });
    }

    pub(crate) fn forbid(&self, verb: &str, resource: &str, is_forbidden: bool) {
        let rule = (verb.to_owned(), resource.to_owned());
        self.change(|known| match is_forbidden {
            true => known.forbidden.insert(rule),
            false => known.forbidden.remove(&rule),
        });
    }

    pub(crate) fn refuse(&self, name: &str, is_refused: bool) {
        self.change(|known| put_in(&mut known.refused, name, is_refused));
    }

    pub(crate) fn hang(&self, name: &str, hangs: bool) {
        self.change(|known| put_in(&mut known.hanging, name, hangs));
    }

    /// A release of the Gateway API comes whose routes have another version.
    pub(crate) fn upgrade_routes(&self) {
        self.change(|known| known.has_routes_in_v1 = true);
    }

    /// How often this was listed from the beginning, and watched.
    pub(crate) fn looks(&self, resource: &str) -> (usize, usize) {
        let known = self.known();
        let of = |counts: &BTreeMap<String, usize>| counts.get(resource).copied().unwrap_or_default();
        (of(&known.lists), of(&known.watches))
    }

    pub(crate) fn asked(&self) -> BTreeSet<(String, String, String)> {
        self.known().asked.clone()
    }

    fn watch(&self, resource: String, from: u64) -> Response {
        let (to, lines) = mpsc::channel::<io::Result<Bytes>>(16);
        let api = self.clone();
        tokio::spawn(async move {
            let mut tick = api.tick.subscribe();
            let cuts = api.known().cuts;
            let mut seen = from;
            loop {
                let News { lines, is_over, is_abrupt } = api.known().news(&resource, &mut seen, cuts);
                if is_over && is_abrupt {
                    drop(to.send(Err(io::Error::other("cut off"))).await);
                    return;
                }
                for line in lines {
                    if to.send(Ok(line)).await.is_err() {
                        return;
                    }
                }
                if is_over {
                    return;
                }
                tokio::select! {
                    changed = tick.changed() => if changed.is_err() { return },
                    () = to.closed() => return,
                }
            }
        });
        let lines = futures::stream::unfold(lines, |mut lines| async move {
            lines.recv().await.map(|line| (line, lines))
        });
        ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
    }
}

fn put_in(names: &mut BTreeSet<String>, name: &str, is_in: bool) -> bool {
    if is_in { names.insert(name.to_owned()) } else { names.remove(name) }
}

struct News {
    lines: Vec<Bytes>,
    is_over: bool,
    is_abrupt: bool,
}

impl Known {
    /// Gives the object the next version; one that is to go and has no finalizer goes.
    fn set(&mut self, key: Key, mut object: Value) -> Value {
        self.version += 1;
        let version = self.version;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = version.to_string().into();
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("uid-{version}").into();
            metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        let keeps = metadata["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        let goes = !metadata["deletionTimestamp"].is_null() && !keeps;
        let resource = key.0.clone();
        let event = match (goes, self.objects.contains_key(&key)) {
            (true, _) => "DELETED",
            (false, true) => "MODIFIED",
            (false, false) => "ADDED",
        };
        if goes {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, object.clone());
        }
        self.log.push(Entry { version, resource, event, object: object.clone() });
        object
    }

    /// What there is for a watch that has seen so much.
    fn news(&self, resource: &str, seen: &mut u64, cuts: u64) -> News {
        let news = self.log.iter().filter(|entry| entry.version > *seen);
        let news = news.filter(|entry| entry.resource.is_empty() || entry.resource == resource);
        let lines = news.map(|entry| line(entry.event, &typed(resource, entry.object.clone())));
        let lines = lines.collect();
        *seen = self.version.max(*seen);
        News { lines, is_over: self.cuts != cuts, is_abrupt: self.is_abrupt }
    }

    fn list(&mut self, target: &Target, from: usize) -> Value {
        if from == 0 {
            *self.lists.entry(target.resource.clone()).or_default() += 1;
        }
        let meant = |key: &Key| {
            key.0 == target.resource && (target.namespace.is_empty() || key.1 == target.namespace)
        };
        let all: Vec<&Value> =
            self.objects.iter().filter(|(key, _)| meant(key)).map(|(_, object)| object).collect();
        let items = &all[from.min(all.len())..(from + PAGE).min(all.len())];
        let next = (from + PAGE < all.len()).then(|| (from + PAGE).to_string());
        let (api_version, kind) = kind(&target.resource);
        json!({
            "apiVersion": api_version,
            "kind": format!("{kind}List"),
            "metadata": { "resourceVersion": self.version.to_string(), "continue": next.unwrap_or_default() },
            "items": items,
        })
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({ "type": event, "object": object })).into()
}

fn status(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    })
}

fn refusal(code: StatusCode, reason: &str, message: &str) -> Response {
    (code, axum::Json(status(code, reason, message))).into_response()
}

/// Of `a=b&c=d`; what stands there needs no decoding.
fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

async fn answer(State(api): State<Api>, method: Method, uri: Uri, body: Bytes) -> Response {
    let has_gateway_api = api.known().has_gateway_api;
    if let Some(found) = discovery::answer(uri.path(), has_gateway_api) {
        return axum::Json(found).into_response();
    }
    let Some(target) = Target::of(uri.path()) else {
        return refusal(StatusCode::NOT_FOUND, "NotFound", "no such path");
    };
    let in_v1 = api.known().has_routes_in_v1;
    let version = discovery::version_of(&target.resource, &target.version, in_v1);
    if !discovery::knows(&target.group, version, &target.resource, has_gateway_api) {
        // As real ones do, without a status.
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    let is_watch = parameter(&uri, "watch") == Some("true");
    let verb = match method {
        Method::GET if is_watch => "watch",
        Method::GET if target.name.is_some() => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        _ => "delete",
    };
    let called = target.called();
    api.known().asked.insert((verb.to_owned(), target.group.clone(), called.clone()));
    if api.known().forbidden.contains(&(verb.to_owned(), called.clone())) {
        let message = format!("{called} is forbidden: User \"test\" cannot {verb} resource \"{called}\"");
        return refusal(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    let refused = target.name.as_ref().filter(|name| api.known().refused.contains(*name));
    if let Some(name) = refused.filter(|_| verb == "patch") {
        let message = format!("admission webhook \"test\" denied the request for {name}");
        return refusal(StatusCode::BAD_REQUEST, "BadRequest", &message);
    }
    let hangs = target.name.as_ref().is_some_and(|name| api.known().hanging.contains(name));
    if hangs && verb == "patch" {
        return futures::future::pending().await;
    }
    match (verb, &target.name) {
        ("watch", _) => begin_watch(&api, target.resource.clone(), &uri),
        ("list", _) => {
            let from = parameter(&uri, "continue").and_then(|from| from.parse().ok()).unwrap_or(0);
            axum::Json(api.known().list(&target, from)).into_response()
        }
        ("get", Some(name)) => match api.known().objects.get(&target.key(name)) {
            Some(object) => axum::Json(typed(&target.resource, object.clone())).into_response(),
            None => refusal(StatusCode::NOT_FOUND, "NotFound", "there is none"),
        },
        ("delete", Some(name)) => api.change(|known| delete(known, &target, name)),
        _ => match serde_json::from_slice(&body) {
            Ok(body) => api.change(|known| write(known, &target, verb, &body)),
            Err(error) => refusal(StatusCode::BAD_REQUEST, "BadRequest", &error.to_string()),
        },
    }
}

fn begin_watch(api: &Api, resource: String, uri: &Uri) -> Response {
    let from = parameter(uri, "resourceVersion").and_then(|from| from.parse().ok()).unwrap_or(0);
    let mut known = api.known();
    *known.watches.entry(resource.clone()).or_default() += 1;
    let (oldest, at_once) = (known.oldest, known.refuses_at_once);
    drop(known);
    if from >= oldest {
        return api.watch(resource, from);
    }
    let message = format!("too old resource version: {from} ({oldest})");
    match at_once {
        true => refusal(StatusCode::GONE, "Expired", &message),
        false => {
            let event = line("ERROR", &status(StatusCode::GONE, "Expired", &message));
            ([(header::CONTENT_TYPE, "application/json")], event).into_response()
        }
    }
}

/// What has finalizers stays until they are gone.
fn delete(known: &mut Known, target: &Target, name: &str) -> Response {
    let key = target.key(name);
    let Some(mut object) = known.objects.get(&key).cloned() else {
        return refusal(StatusCode::NOT_FOUND, "NotFound", "there is none");
    };
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    axum::Json(typed(&target.resource, known.set(key, object))).into_response()
}

/// What the server itself says of an object that is new.
fn defaulted(resource: &str, mut object: Value) -> Value {
    if resource == "services" && object["spec"]["ipFamilies"].is_null() {
        object["spec"]["ipFamilies"] = json!(["IPv4"]);
        object["spec"]["healthCheckNodePort"] = json!(30100);
    }
    object
}

fn write(known: &mut Known, target: &Target, verb: &str, body: &Value) -> Response {
    let name = target.name.clone().or_else(|| body["metadata"]["name"].as_str().map(str::to_owned));
    let key = target.key(&name.unwrap_or_default());
    let there = known.objects.get(&key).cloned();
    let new = match (verb, there) {
        ("create", None) => {
            let mut new = body.clone();
            new["metadata"]["namespace"] = target.namespace.clone().into();
            defaulted(&target.resource, new)
        }
        ("create", Some(_)) => return refusal(StatusCode::CONFLICT, "AlreadyExists", "there is one already"),
        (_, None) => return refusal(StatusCode::NOT_FOUND, "NotFound", "there is none"),
        (_, Some(there)) => {
            let version = &body["metadata"]["resourceVersion"];
            if !version.is_null() && *version != there["metadata"]["resourceVersion"] {
                return refusal(StatusCode::CONFLICT, "Conflict", "the object has been modified");
            }
            match (verb, target.part.as_deref()) {
                ("update", _) => replaced(&there, body),
                (_, Some("status")) => merged(there, &json!({ "status": body["status"] })),
                _ => merged(there, body),
            }
        }
    };
    axum::Json(typed(&target.resource, known.set(key, new))).into_response()
}

/// What the server keeps of an object that is replaced.
fn replaced(there: &Value, body: &Value) -> Value {
    let mut new = body.clone();
    for key in ["uid", "namespace", "creationTimestamp"] {
        new["metadata"][key] = there["metadata"][key].clone();
    }
    new
}

/// RFC 7396.
fn merged(mut into: Value, patch: &Value) -> Value {
    let Some(patch) = patch.as_object() else { return patch.clone() };
    if !into.is_object() {
        into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().expect("it is one").remove(key);
        } else {
            into[key] = merged(into[key].take(), value);
        }
    }
    into
}
