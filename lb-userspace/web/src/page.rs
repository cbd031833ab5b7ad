//! The page for people: HTML that is rendered here, complete without scripts.
//!
//! - `overview`: all on one page; `service`: one service with all that is known of it
//! - `connections`: where a client's connections go
//! - `head`, `cluster`, `services`, `events`: its parts; `charts`: what is drawn
//! - `orders`: what needs a token, in two steps

mod charts;
mod cluster;
mod connections;
mod events;
mod head;
mod orders;
mod overview;
mod services;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lb_api::status::Tone;
use maud::{DOCTYPE, Markup, html};
use serde::de::DeserializeOwned;

use crate::assets;
use crate::problem::Refusal;
use crate::server::Site;
use crate::snapshot::Snapshot;

/// Renderings of one snapshot that are kept: viewers who look at the same get the same bytes.
const MOST_RENDERED: usize = 64;

pub(crate) fn routes() -> Router<Site> {
    Router::new()
        .route("/", get(overview::overview))
        .route("/service", get(overview::service))
        .route("/events", get(overview::events))
        .route("/connections", get(connections::connections))
        .route("/order", get(orders::ask).post(orders::give))
        .merge(assets::routes())
        .fallback(|| async { Trouble(Refusal::not_found("there is no such page")) })
}

/// Pages of the latest snapshot, by path and query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rendered(Arc<Mutex<(u64, HashMap<String, Bytes>)>>);

impl Rendered {
    /// The page of this snapshot, rendered once.
    fn page(&self, snapshot: &Snapshot, key: String, render: impl FnOnce() -> Markup) -> Bytes {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != snapshot.number {
            *kept = (snapshot.number, HashMap::new());
        }
        if let Some(page) = kept.1.get(&key) {
            return page.clone();
        }
        let page = Bytes::from(render().into_string());
        if kept.1.len() < MOST_RENDERED {
            kept.1.insert(key, page.clone());
        }
        page
    }
}

/// A refusal, as a page.
pub(crate) struct Trouble(pub Refusal);

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let Self(refusal) = self;
        let body = html! {
            h1 { (refusal.title()) }
            div class="notice bad" role="alert" { p { (refusal.detail) } }
            p { a href="/" { "Back to the overview" } }
        };
        // A director that starts will have a page soon.
        let live = (refusal.status == StatusCode::SERVICE_UNAVAILABLE).then_some(Live { search: "" });
        let page = layout(refusal.title(), live, &body).into_string();
        (refusal.status, html_of(page)).into_response()
    }
}

/// The query of a page; a wrong one is a page, too.
pub(crate) struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Site> for Asked<T> {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Trouble> {
        let query = Query::from_request_parts(parts, site).await;
        let wrong = |error: QueryRejection| Trouble(Refusal::bad(error.body_text()));
        query.map(|Query(query)| Self(query)).map_err(wrong)
    }
}

fn html_of(page: impl Into<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.into()).into_response()
}

/// A page that refreshes itself, and what is searched for.
struct Live<'a> {
    search: &'a str,
}

fn layout(title: &str, live: Option<Live<'_>>, body: &Markup) -> Markup {
    let search = live.as_ref().map_or("", |live| live.search);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – lb" }
                link rel="stylesheet" href=(assets::STYLE.path);
                link rel="icon" href="data:,";
                @if live.is_some() {
                    noscript { meta http-equiv="refresh" content="5"; }
                    script defer src=(assets::MORPH.path) {}
                    script defer src=(assets::PAGE.path) {}
                }
            }
            body data-live=[live.is_some().then_some("yes")] {
                a class="skip" href="#main" { "Skip to the content" }
                header {
                    p class="name" { a href="/" { "lb" } }
                    nav aria-label="Pages" {
                        ul {
                            li { a href="/" { "Overview" } }
                            li { a href="/connections" { "Connections" } }
                            li { a href="/events" { "Events" } }
                            li { a href="/api/v1/openapi.json" { "API" } }
                        }
                    }
                    p id="live" role="status" hidden {}
                    form action="/" method="get" role="search" {
                        label for="search" { "Find" }
                        input id="search" name="search" type="search" value=(search)
                            placeholder="service, server, address, down" autocomplete="off";
                        button type="submit" { "Find" }
                    }
                }
                main id="main" tabindex="-1" { (body) }
            }
        }
    }
}

/// The class by which a state stands out; what it says stands in words.
const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Warning => "warning",
        Tone::Bad => "bad",
    }
}

/// A sign besides the colour, for those who see no colours.
const fn sign(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "·",
        Tone::Good => "✓",
        Tone::Warning => "▲",
        Tone::Bad => "✗",
    }
}

/// A state in words, with its sign.
fn state(tone: Tone, text: &str) -> Markup {
    html! {
        span class={ "state " (class(tone)) } { span aria-hidden="true" { (sign(tone)) } " " (text) }
    }
}
