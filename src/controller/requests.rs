//! Annotations that request a sync now: any new value of one of them.

use kube::ResourceExt;

use crate::api::v1alpha1::EcrRepositorySync;

/// The annotation of this project.
const REQUESTED_AT: &str = "ecr-sync.io/requestedAt";
/// The annotation that Flux's tools write.
const FLUX_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";

/// The values of the annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Requests {
    pub(super) own: Option<String>,
    pub(super) flux: Option<String>,
}

impl Requests {
    pub(super) fn of(object: &EcrRepositorySync) -> Self {
        let value = |key| object.annotations().get(key).cloned();
        Self { own: value(REQUESTED_AT), flux: value(FLUX_REQUESTED_AT) }
    }

    /// Returns the value to act on: the one that differs from the `last` values. After a start
    /// there are no last values: then any value, unless the status says that one was `handled`.
    pub(super) fn pending(&self, last: Option<&Self>, handled: Option<&str>) -> Option<String> {
        let Some(last) = last else {
            let mut values = [&self.own, &self.flux].into_iter().flatten();
            let is_handled = values.clone().any(|value| Some(value.as_str()) == handled);
            return if is_handled { None } else { values.next().cloned() };
        };
        let changed =
            |now: &Option<String>, before: &Option<String>| now.clone().filter(|_| now != before);
        changed(&self.own, &last.own).or_else(|| changed(&self.flux, &last.flux))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_value_of_either_annotation_is_acted_on_once() {
        let requests = |own: Option<&str>, flux: Option<&str>| Requests {
            own: own.map(str::to_owned),
            flux: flux.map(str::to_owned),
        };
        let none = requests(None, None);
        let last = requests(Some("a"), Some("f"));

        // now, last, handled by status -> to act on
        let table = [
            (none.clone(), None, None, None),
            (requests(Some("a"), None), None, None, Some("a")),
            (requests(Some("a"), None), None, Some("a"), None),
            (requests(Some("a"), Some("f")), None, Some("f"), None),
            (requests(None, Some("f")), None, Some("old"), Some("f")),
            (requests(Some("a"), Some("f")), Some(&last), None, None),
            (requests(Some("b"), Some("f")), Some(&last), Some("f"), Some("b")),
            (requests(Some("a"), Some("g")), Some(&last), Some("a"), Some("g")),
            (none, Some(&last), Some("f"), None),
        ];

        for (now, last, handled, wanted) in table {
            assert_eq!(
                now.pending(last, handled).as_deref(),
                wanted,
                "{now:?} after {last:?}, handled {handled:?}"
            );
        }
    }
}
