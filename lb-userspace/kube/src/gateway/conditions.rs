//! Conditions as statuses of the Gateway API have them: pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// What a condition is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub type_: &'static str,
    pub is_true: bool,
    pub reason: &'static str,
    /// Empty where the reason says it all.
    pub message: String,
}

impl Wanted {
    pub(crate) fn well(type_: &'static str, reason: &'static str) -> Self {
        Self { type_, is_true: true, reason, message: String::new() }
    }

    pub(crate) fn ill(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, is_true: false, reason, message: message.into() }
    }
}

/// All conditions that there are to be: those of others, then ours. One whose status stays keeps
/// its time.
pub(crate) fn conditions(
    known: &[Condition],
    wanted: &[Wanted],
    generation: i64,
    now: &Timestamp,
) -> Vec<Condition> {
    let is_ours = |condition: &Condition| wanted.iter().any(|one| one.type_ == condition.type_);
    let others = known.iter().filter(|condition| !is_ours(condition)).cloned();
    let ours = wanted.iter().map(|one| {
        let status = if one.is_true { "True" } else { "False" };
        let same = known.iter().find(|condition| condition.type_ == one.type_ && condition.status == status);
        Condition {
            type_: one.type_.to_owned(),
            status: status.to_owned(),
            reason: one.reason.to_owned(),
            message: one.message.clone(),
            last_transition_time: same.map_or(Time(*now), |same| same.last_transition_time.clone()),
            observed_generation: Some(generation),
        }
    });
    others.chain(ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_as_long_as_its_status() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let other = Condition {
            type_: "example.org/Other".into(),
            status: "True".into(),
            reason: "Other".into(),
            message: String::new(),
            last_transition_time: Time(at(1)),
            observed_generation: None,
        };
        let wanted = [Wanted::ill("Accepted", "UnsupportedProtocol", "it is of HTTP")];
        let first = conditions(std::slice::from_ref(&other), &wanted, 1, &at(2));
        assert_eq!(first[0], other);
        assert_eq!((first[1].status.as_str(), first[1].observed_generation), ("False", Some(1)));
        let again = conditions(&first, &wanted, 2, &at(3));
        assert_eq!((&again[1].last_transition_time, again[1].observed_generation), (&Time(at(2)), Some(2)));
        assert_eq!(conditions(&again, &wanted, 2, &at(4)), again, "nothing is left to say");
        let well = conditions(&again, &[Wanted::well("Accepted", "Accepted")], 2, &at(5));
        assert_eq!(well[1].last_transition_time, Time(at(5)));
    }
}
