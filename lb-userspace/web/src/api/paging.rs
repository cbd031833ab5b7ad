//! Lists in parts.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use lb_api::http::Page;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::Refusal;
use crate::server::Site;

const DEFAULT: usize = 100;
const MOST: usize = 1000;

/// The query of a request; a wrong one is a [`Refusal`].
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Site> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Refusal> {
        let query = Query::from_request_parts(parts, site).await;
        let Query(query) = query.map_err(|error: QueryRejection| Refusal::bad(error.body_text()))?;
        Ok(Self(query))
    }
}

/// The limit that was asked for, or the default.
pub(crate) fn limit(asked: Option<usize>) -> Result<usize, Refusal> {
    match asked.unwrap_or(DEFAULT) {
        0 => Err(Refusal::bad("limit 0: expected a number from 1 to 1000")),
        asked => Ok(asked.min(MOST)),
    }
}

/// The part of `items` from `offset` on. `next` makes the query of the part at another offset.
pub(super) fn part<T, Q: Serialize>(
    items: Vec<T>,
    (asked_limit, offset): (Option<usize>, Option<usize>),
    path: &str,
    next: impl FnOnce(usize) -> Q,
) -> Result<Page<T>, Refusal> {
    let (limit, offset) = (limit(asked_limit)?, offset.unwrap_or(0));
    let total = items.len();
    let end = offset.saturating_add(limit);
    let next = (end < total).then(|| link(path, &next(end))).transpose()?;
    let items = items.into_iter().skip(offset).take(limit).collect();
    Ok(Page { items, total: total as u64, next })
}

/// `path` with a query.
pub(super) fn link(path: &str, query: &impl Serialize) -> Result<String, Refusal> {
    let query = serde_urlencoded::to_string(query)
        .map_err(|error| Refusal::bad(format!("a query that cannot be written: {error}")))?;
    Ok(format!("{path}?{query}"))
}
