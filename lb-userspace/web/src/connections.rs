//! Connections of the table that are asked for, for the API and for the page.

use lb_api::connections::{Bounds, Connection, Filter};
use serde::{Deserialize, Serialize};

use crate::api::limit;
use crate::director::NoListing;
use crate::problem::Refusal;
use crate::server::Site;

/// Which ones; all conditions hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

/// A part of them, and the query of the next one.
pub(crate) struct Found {
    pub connections: Vec<Connection>,
    pub next: Option<Wanted>,
}

impl Wanted {
    /// Nothing is asked for: a form that was not filled in has empty fields.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { client, service, server, state, protocol, limit: _, from: _ } = self;
        [client, service, server, state, protocol].into_iter().all(|one| given(one.as_deref()).is_none())
    }

    fn filter(&self) -> Filter {
        let own = |one: &Option<String>| given(one.as_deref()).map(str::to_owned);
        Filter {
            client: own(&self.client),
            service: own(&self.service),
            server: own(&self.server),
            states: own(&self.state).map(|state| state.to_uppercase()).into_iter().collect(),
            protocol: own(&self.protocol).map(|protocol| protocol.to_lowercase()),
            ..Filter::default()
        }
    }

    /// Walks over the table. That costs the director half a core while it lasts, so it is done for
    /// one asker at a time.
    pub(crate) async fn find(&self, site: &Site) -> Result<Found, Refusal> {
        let limit = limit(self.limit)?;
        let Ok(_alone) = site.listing.try_acquire() else {
            let text = "a listing of connections is under way here, and there is one at a time: try again";
            return Err(Refusal::unavailable(text));
        };
        let bounds = Bounds { from: self.from.unwrap_or(0), limit: Some(limit as u64) };
        let listed = site.director.list(self.filter(), bounds).await;
        let listed = listed.map_err(|error| Refusal::unavailable(format!("{error:#}")))?;
        let (connections, end) = listed.map_err(|none| match none {
            NoListing::Wrong(why) => Refusal::bad(why),
            NoListing::Busy(why) => Refusal::unavailable(why),
        })?;
        let next = end.next.map(|from| Self { from: Some(from), ..self.clone() });
        Ok(Found { connections, next })
    }
}

fn given(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}
