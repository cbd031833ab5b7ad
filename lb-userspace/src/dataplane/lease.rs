use std::time::Duration;
#[derive(Clone)]
pub struct Leases;
impl Leases {
    pub fn renew(&self, _: u8, _: Duration) {}
    pub fn end(&self, _: u8) {}
    pub fn grace(&self, _: u8, _: Duration) {}
    pub fn relay(&self, _: u8, _: Option<([u8; 6], Duration)>) {}
}
