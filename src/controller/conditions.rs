//! The list of conditions, built from the old list.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::reason::Reason;

/// Longest message of a condition; kubectl shows one line.
const MAX_MESSAGE: usize = 1024;
/// Longest message of a failure in the status, and longest line of plan and history.
pub(super) const MAX_LINE: usize = 300;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    True,
    False,
    Unknown,
}

impl Is {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// New conditions. `lastTransitionTime` changes only when a status changes.
pub(super) struct Conditions<'a> {
    old: &'a [Condition],
    new: Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

impl<'a> Conditions<'a> {
    /// Starts from the old conditions. A condition that is neither set nor kept is removed.
    pub(super) const fn from(old: &'a [Condition], generation: i64, now: Timestamp) -> Self {
        Self { old, new: Vec::new(), generation, now }
    }

    pub(super) fn set(&mut self, type_: &str, is: Is, reason: Reason, message: &str) {
        let since = find(self.old, type_)
            .filter(|old| old.status == is.as_str())
            .map_or(Time(self.now), |old| old.last_transition_time.clone());
        self.new.push(Condition {
            type_: type_.to_owned(),
            status: is.as_str().to_owned(),
            reason: reason.as_str().to_owned(),
            message: truncated(message, MAX_MESSAGE),
            observed_generation: Some(self.generation),
            last_transition_time: since,
        });
    }

    /// Keeps the old condition, if there is one.
    pub(super) fn keep(&mut self, type_: &str) {
        self.new.extend(find(self.old, type_).cloned());
    }

    pub(super) fn finish(self) -> Vec<Condition> {
        self.new
    }
}

pub(super) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Returns at most `max` bytes of a text, cut between characters.
pub(super) fn truncated(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    const ELLIPSIS: &str = "…";
    let end = (0..=max - ELLIPSIS.len()).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_is_a_change_of_status_only() {
        let first = Timestamp::UNIX_EPOCH;
        let mut conditions = Conditions::from(&[], 1, first);
        conditions.set("Ready", Is::False, Reason::Progressing, "a");
        let old = conditions.finish();

        let later = Timestamp::from_second(60).expect("in range");
        let mut conditions = Conditions::from(&old, 2, later);
        conditions.set("Ready", Is::False, Reason::DryRun, "b");
        let same = conditions.finish();
        assert_eq!(same[0].last_transition_time.0, first);
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("DryRun", Some(2)));

        let mut conditions = Conditions::from(&same, 2, later);
        conditions.set("Ready", Is::True, Reason::Succeeded, "c");
        assert_eq!(conditions.finish()[0].last_transition_time.0, later);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        assert_eq!(truncated("short", 10), "short");
        let cut = truncated(&"ä".repeat(600), 1024);
        assert!(cut.len() <= 1024 && cut.ends_with('…'));
    }
}
