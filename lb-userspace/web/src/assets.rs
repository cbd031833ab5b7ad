//! Files that the page loads: part of the binary, under names that change with their content, so
//! that browsers may keep them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::LazyLock;

use axum::Router;
use axum::http::header;
use axum::routing::get;

use crate::server::Site;

/// A file, and the path that it is loaded by.
pub(crate) struct Asset {
    pub path: String,
    kind: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(name: &str, ending: &str, kind: &'static str, content: &'static str) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self { path: format!("/assets/{name}-{:016x}.{ending}", hasher.finish()), kind, content }
    }
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(crate) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("style", "css", "text/css; charset=utf-8", include_str!("../assets/style.css"))
});

/// <https://github.com/bigskysoftware/idiomorph>, see `assets/README.md`.
pub(crate) static MORPH: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("idiomorph", "js", SCRIPT, include_str!("../assets/idiomorph.min.js")));

pub(crate) static PAGE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("page", "js", SCRIPT, include_str!("../assets/page.js")));

pub(crate) fn routes() -> Router<Site> {
    [&*STYLE, &*MORPH, &*PAGE].into_iter().fold(Router::new(), |router, asset| {
        let headers = [
            (header::CONTENT_TYPE, asset.kind),
            (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        ];
        router.route(&asset.path, get(move || async move { (headers, asset.content) }))
    })
}
