//! A condition in few bytes: type, status and reason are from closed sets.

use std::num::NonZeroU32;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as ApiCondition;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// The type of a condition.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray,
)]
pub enum ConditionType {
    /// Everything wanted is in ECR.
    Ready,
    /// The repository exists.
    RepositoryReady,
    /// Settings, policies and resource tags are as specified.
    ConfigurationSynced,
    /// All tags of the image are in sync.
    ImageSynced,
    /// All versions of the chart are in sync.
    ChartSynced,
    /// Work goes on.
    Reconciling,
    /// A person must act.
    Stalled,
}

/// The status of a condition.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray,
)]
pub enum Status {
    /// As the type says.
    True,
    /// Not as the type says.
    False,
    /// Not known.
    Unknown,
}

/// A time in whole seconds, from 1970 to 2106: 4 bytes in place of the 16 of a [`Timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Second(NonZeroU32);

impl Second {
    /// Returns the second of a time; the nearest one that can be represented.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        let second = time.as_second().clamp(1, u32::MAX.into());
        Self(u32::try_from(second).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX))
    }

    /// Returns the Unix time.
    pub(super) fn unix(self) -> u64 {
        self.0.get().into()
    }

    pub(super) fn timestamp(self) -> Timestamp {
        Timestamp::from_second(self.0.get().into()).unwrap_or(Timestamp::MAX)
    }
}

/// A condition of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub type_: ConditionType,
    /// Its status.
    pub status: Status,
    /// Its reason, from a closed set: users with write access to the status choose no label.
    pub reason: &'static str,
    /// The last change of the status.
    pub since: Second,
}

impl Condition {
    /// Returns a condition with a known reason; `None` if its type or its status is not ours.
    #[must_use]
    pub fn of(condition: &ApiCondition, reason: &'static str) -> Option<Self> {
        Some(Self {
            type_: condition.type_.parse().ok()?,
            status: condition.status.parse().ok()?,
            reason,
            since: Second::of(condition.last_transition_time.0),
        })
    }
}
