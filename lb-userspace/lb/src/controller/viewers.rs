//! Operators who look at single packets and connections while these come and go.

use super::connections::Listings;
use super::tracer::Tracer;

#[derive(Default)]
pub(super) struct Viewers {
    pub tracer: Tracer,
    pub listings: Listings,
}
