//! Shards: parts of all resources, each of which one replica works on.
//!
//! A resource belongs to the shard of its repository's *name*, whatever its account and region. The
//! name cannot change and is always known, while an account or region that the spec leaves out is
//! known only later. So all resources of one repository are in one shard at any time, and no
//! repository has two writers.

mod assignment;

use std::num::NonZeroU16;

use sha2::{Digest, Sha256};

pub(crate) use assignment::Assignment;

/// The most shards. Each is a Lease that its holder renews every two seconds.
pub(crate) const MOST: u16 = 64;

/// The number of a shard, from 0.
pub(crate) type Shard = u16;

/// The division of all resources into a number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout(NonZeroU16);

impl Layout {
    /// Returns the layout with this number of shards, at least one.
    pub(crate) fn of(shards: u16) -> Self {
        Self(NonZeroU16::new(shards).unwrap_or(NonZeroU16::MIN))
    }

    /// The number of shards.
    pub(crate) const fn shards(self) -> u16 {
        self.0.get()
    }

    /// Returns the shard of a repository: the first 8 bytes of the SHA-256 of its name, as a
    /// big-endian number, modulo the number of shards. All versions of ecr-sync must agree on this
    /// while their replicas share a cluster.
    pub(crate) fn shard_of(self, repository: &str) -> Shard {
        let hash = Sha256::digest(repository.as_bytes());
        let number = hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        // Less than the number of shards, which is a u16.
        Shard::try_from(number % u64::from(self.shards())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_a_name_never_changes() {
        let shards = |name| [1, 2, 3, 8, 64].map(|shards| Layout::of(shards).shard_of(name));
        // The first 8 bytes of `printf app | sha256sum` are a172cedcae47474b.
        assert_eq!(shards("app"), [0, 1, 0, 3, 11]);
        assert_eq!(shards("team/web"), [0, 0, 0, 4, 44]);
        assert_eq!(shards("library/nginx"), [0, 0, 0, 0, 56]);
    }

    #[test]
    fn shards_have_about_the_same_number_of_names() {
        let layout = Layout::of(8);
        let mut counts = [0; 8];
        for number in 0..8_000 {
            counts[usize::from(layout.shard_of(&format!("team-{}/app-{number}", number % 7)))] += 1;
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }
}
