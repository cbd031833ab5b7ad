//! By which names, from which pages and with which tokens somebody may ask.
//!
//! A page of another site must not read this one through the browser of whoever is on call: by DNS
//! rebinding its name would lead here (so names are checked), and by forms and scripts it could
//! send orders (so the origin is checked, and each order bears a token).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use lb_api::events::{Level, Record};
use lb_model::Web;

use crate::problem::Refusal;
use crate::server::Site;
use crate::tokens::Tokens;

/// A wrong token is worth an event at most this often.
const TOLD: Duration = Duration::from_secs(60);

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

#[derive(Debug)]
pub(crate) struct Access {
    hosts: Vec<String>,
    scheme: &'static str,
    tokens: Option<PathBuf>,
    /// When the last wrong token was told.
    told: Mutex<Option<Instant>>,
}

impl Access {
    pub(crate) fn new(web: &Web) -> Self {
        Self {
            hosts: web.hosts.clone(),
            scheme: if web.tls.is_some() { "https" } else { "http" },
            tokens: web.tokens.clone(),
            told: Mutex::new(None),
        }
    }

    /// Whether there are people who may give orders.
    pub(crate) const fn takes_orders(&self) -> bool {
        self.tokens.is_some()
    }

    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = asked_host(uri, headers)
            .ok_or_else(|| Refusal::bad("the request has no Host header, or more than one"))?;
        if !self.knows(&host) {
            let detail = format!(
                "this director is not asked by the name {host:?}: use its address, or add the name to `hosts` of `web` in \
                 its configuration"
            );
            return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, detail));
        }
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let own = format!("{}://{host}", self.scheme);
        if changes && !is_own_page(headers, &own) {
            let detail = "a page of another site must not give orders";
            return Err(Refusal::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(())
    }

    /// Addresses cannot be rebound: only names are checked.
    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => {
                let (address, _) = rest.split_once(']').unwrap_or((rest, ""));
                return address.parse::<Ipv6Addr>().is_ok();
            }
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name.parse::<IpAddr>().is_ok() || name == "localhost" || self.hosts.contains(&name)
    }

    /// Who has sent the request, by its token.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        self.owner(token)
    }

    /// Whose token it is.
    pub(crate) fn owner(&self, token: Option<&str>) -> Result<String, Refusal> {
        let Some(path) = &self.tokens else {
            let detail = "this director takes no orders by HTTP: its configuration has no `tokens` in `web`";
            return Err(Refusal::new(StatusCode::FORBIDDEN, detail));
        };
        let unauthorized = |detail| Refusal::new(StatusCode::UNAUTHORIZED, detail);
        let token =
            token.ok_or_else(|| unauthorized("an order needs a token: `Authorization: Bearer TOKEN`"))?;
        // Read each time: a token that was taken out of the file must not work any more.
        let tokens = Tokens::read(path).map_err(|error| {
            tracing::warn!("no orders by HTTP: {error}");
            Refusal::unavailable("the director cannot use its file of tokens; its log says why")
        })?;
        match tokens.owner(token) {
            Some(owner) => Ok(owner.to_owned()),
            None => Err(unauthorized("nobody has this token")),
        }
    }

    /// The event of a wrong token, unless there was one just now.
    pub(crate) fn intruder(&self, peer: Peer) -> Option<Record> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < TOLD) {
            return None;
        }
        *told = Some(Instant::now());
        let text = format!("an order by HTTP from {} was refused: nobody has its token", peer.0.ip());
        Some(Record::new(Level::Warning, "http_token_refused", text))
    }
}

/// The host that is asked for, with its port if it has one.
fn asked_host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut given = headers.get_all(header::HOST).iter();
    let only = given.next()?;
    if given.next().is_some() {
        return None;
    }
    // The authority of an absolute URI takes precedence (RFC 9112, section 3.2.2).
    let host = uri.authority().map_or_else(|| only.to_str().ok(), |authority| Some(authority.as_str()))?;
    Some(host.to_owned())
}

/// Programs send neither header; browsers send both.
fn is_own_page(headers: &HeaderMap, own: &str) -> bool {
    let of_own = |name: HeaderName, fits: &dyn Fn(&str) -> bool| {
        headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(fits))
    };
    of_own(header::ORIGIN, &|origin| origin.eq_ignore_ascii_case(own))
        && of_own(HeaderName::from_static("sec-fetch-site"), &|site| matches!(site, "same-origin" | "none"))
}

/// No outside resource, no inline script or style, no frame around it, nothing sent elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    // With `no-referrer` a browser would not tell the origin of a form either.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// Checks every request, and gives every answer the headers that bind a browser.
pub(crate) async fn guard(State(site): State<Site>, request: Request, next: Next) -> Response {
    let checked = site.access.check(request.method(), request.uri(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access::new(&Web {
            listen: ([127, 0, 0, 1], 9106).into(),
            tls: None,
            tokens: None,
            hosts: vec!["lb1.example.net".to_owned()],
        })
    }

    fn checked(method: Method, headers: &[(&str, &str)]) -> Result<(), u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        access().check(&method, &Uri::from_static("/"), &map).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn names_that_nobody_configured_are_refused() {
        for host in [
            "127.0.0.1:9106",
            "192.0.2.1",
            "[::1]:9106",
            "[2001:db8::1]",
            "localhost:9106",
            "LB1.example.net",
            "lb1.example.net.:9106",
        ] {
            assert_eq!(checked(Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "lb1.example.net.evil.example", "[evil]", "127.0.0.1.evil.example:80", ""]
        {
            assert_eq!(checked(Method::GET, &[("host", host)]), Err(421), "{host}");
        }
        assert_eq!(checked(Method::GET, &[]), Err(400));
        assert_eq!(checked(Method::GET, &[("host", "localhost"), ("host", "evil.example")]), Err(400));
    }

    #[test]
    fn pages_of_other_sites_give_no_orders() {
        let host = ("host", "localhost:9106");
        for (headers, wanted) in [
            (vec![host], Ok(())),
            (vec![host, ("origin", "http://localhost:9106"), ("sec-fetch-site", "same-origin")], Ok(())),
            (vec![host, ("origin", "http://evil.example")], Err(403)),
            (vec![host, ("origin", "null")], Err(403)),
            (vec![host, ("origin", "https://localhost:9106")], Err(403)),
            (vec![host, ("sec-fetch-site", "cross-site")], Err(403)),
            (vec![host, ("sec-fetch-site", "same-site")], Err(403)),
        ] {
            assert_eq!(checked(Method::POST, &headers), wanted, "{headers:?}");
            assert_eq!(checked(Method::GET, &headers), Ok(()), "reading: {headers:?}");
        }
    }
}
