//! Annotations that request a sync now: any new value of one of them.

use kube::ResourceExt;

use crate::api::v1alpha1::EcrRepositorySync;

/// The annotation of this project.
const REQUESTED_AT: &str = "ecr-sync.io/requestedAt";
/// The annotation that Flux's tools write.
const FLUX_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// With the same value as [`REQUESTED_AT`], asks for a full check.
const FORCE_AT: &str = "ecr-sync.io/forceAt";
/// The same for [`FLUX_REQUESTED_AT`], as Flux's HelmRelease has it.
const FLUX_FORCE_AT: &str = "reconcile.fluxcd.io/forceAt";

/// A request for a pass now. The pass asks the sources, and ECR for the tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The value of the annotation. The status repeats it when the pass has ended.
    pub(super) value: String,
    /// Whether the pass also compares settings, policies and resource tags, and is an inspection.
    pub(super) is_forced: bool,
}

impl Request {
    /// Returns a request that is answered by the same pass as an earlier one.
    pub(super) fn with(self, earlier: Option<&Self>) -> Self {
        let is_forced = self.is_forced || earlier.is_some_and(|earlier| earlier.is_forced);
        Self { is_forced, ..self }
    }
}

/// The values of the annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Requests {
    pub(super) own: Annotations,
    pub(super) flux: Annotations,
}

/// The values of a pair of annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Annotations {
    pub(super) requested_at: Option<String>,
    pub(super) force_at: Option<String>,
}

impl Annotations {
    fn is_forced(&self) -> bool {
        self.requested_at.is_some() && self.requested_at == self.force_at
    }

    /// Whether these values ask for something that the `last` ones did not ask for.
    fn differs(&self, last: &Self) -> bool {
        self.requested_at != last.requested_at || (self.is_forced() && !last.is_forced())
    }
}

impl Requests {
    pub(super) fn of(object: &EcrRepositorySync) -> Self {
        let value = |key| object.annotations().get(key).cloned();
        let pair = |requested_at, force_at| Annotations {
            requested_at: value(requested_at),
            force_at: value(force_at),
        };
        Self { own: pair(REQUESTED_AT, FORCE_AT), flux: pair(FLUX_REQUESTED_AT, FLUX_FORCE_AT) }
    }

    /// Returns the request to act on: the one that differs from the `last` values. After a start
    /// there are no last values: then any value, unless the status says that one was `handled`.
    pub(super) fn pending(&self, last: Option<&Self>, handled: Option<&str>) -> Option<Request> {
        let pairs = [&self.own, &self.flux];
        let is_new = |index: usize| match last {
            Some(last) => pairs[index].differs([&last.own, &last.flux][index]),
            None => !pairs.iter().any(|pair| is_handled(pair, handled)),
        };

        let new = (0..pairs.len()).filter(|index| is_new(*index)).map(|index| pairs[index]);
        let new: Vec<_> = new.filter(|pair| pair.requested_at.is_some()).collect();
        let value = new.first()?.requested_at.clone()?;
        Some(Request { value, is_forced: new.iter().any(|pair| pair.is_forced()) })
    }
}

#[cfg(test)]
impl Requests {
    /// The annotations of this project with this value, for tests.
    pub(super) fn of_test(value: &str, is_forced: bool) -> Self {
        let requested_at = Some(value.to_owned());
        let force_at = requested_at.clone().filter(|_| is_forced);
        Self { own: Annotations { requested_at, force_at }, flux: Annotations::default() }
    }
}

fn is_handled(pair: &Annotations, handled: Option<&str>) -> bool {
    pair.requested_at.is_some() && pair.requested_at.as_deref() == handled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(requested_at: Option<&str>, force_at: Option<&str>) -> Annotations {
        let owned = |value: Option<&str>| value.map(str::to_owned);
        Annotations { requested_at: owned(requested_at), force_at: owned(force_at) }
    }

    #[test]
    fn a_new_value_of_either_annotation_is_acted_on_once() {
        let requests = |own, flux| Requests { own: pair(own, None), flux: pair(flux, None) };
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
            let pending = now.pending(last, handled);
            assert_eq!(
                pending.map(|request| (request.value, request.is_forced)),
                wanted.map(|value| (value.to_owned(), false)),
                "{now:?} after {last:?}, handled {handled:?}"
            );
        }
    }

    #[test]
    fn a_request_is_forced_if_the_force_annotation_of_the_same_tool_has_the_same_value() {
        let own = |requested_at, force_at| Requests {
            own: pair(requested_at, force_at),
            flux: Annotations::default(),
        };
        let flux = |requested_at, force_at| Requests {
            own: Annotations::default(),
            flux: pair(requested_at, force_at),
        };
        let mixed = Requests { own: pair(Some("a"), None), flux: pair(None, Some("a")) };
        let (plain, forced) = (own(Some("a"), None), own(Some("a"), Some("a")));

        // now, last, handled by status -> whether forced, if there is a request
        let table = [
            (own(Some("a"), Some("a")), None, None, Some(true)),
            (flux(Some("a"), Some("a")), None, None, Some(true)),
            (own(Some("a"), Some("b")), None, None, Some(false)),
            (own(None, Some("a")), None, None, None),
            (mixed, None, None, Some(false)),
            // The status does not tell whether the answer was to a forced request.
            (own(Some("a"), Some("a")), None, Some("a"), None),
            (own(Some("a"), Some("a")), Some(&plain), Some("a"), Some(true)),
            (own(Some("a"), Some("a")), Some(&forced), Some("a"), None),
            (own(Some("b"), Some("a")), Some(&forced), Some("a"), Some(false)),
            (own(Some("a"), Some("b")), Some(&forced), Some("a"), None),
        ];

        for (now, last, handled, wanted) in table {
            let pending = now.pending(last, handled);
            assert_eq!(
                pending.map(|request| request.is_forced),
                wanted,
                "{now:?} after {last:?}, handled {handled:?}"
            );
        }
    }
}
