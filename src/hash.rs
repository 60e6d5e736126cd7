//! Hashes of values in memory: a short one to tell values apart, and a fingerprint for security.

use std::hash::{DefaultHasher, Hash, Hasher};

use sha2::{Digest, Sha256};

/// Returns a hash to tell values apart. Stable within one version of ecr-sync. Not for security.
pub(crate) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The SHA-256 of a value. As a key it is as good as the value, but small, and holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(value: impl Hash) -> Self {
        struct Writer(Sha256);

        impl Hasher for Writer {
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }

            fn finish(&self) -> u64 {
                unreachable!("the hash is read as a whole")
            }
        }

        let mut writer = Writer(Sha256::new());
        value.hash(&mut writer);
        Self(writer.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_differ_where_values_do() {
        assert_eq!(Fingerprint::of(("a", "b")), Fingerprint::of(("a", "b")));
        for other in [("ab", ""), ("", "ab"), ("b", "a")] {
            assert_ne!(Fingerprint::of(("a", "b")), Fingerprint::of(other), "{other:?}");
        }
        assert_ne!(Fingerprint::of(Some(0_u8)), Fingerprint::of(None::<u8>));
    }
}
