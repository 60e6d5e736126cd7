//! The check of size and digest of a stream, before its last chunk is released.

use bytes::Bytes;

use super::cause::Cause;
use super::digest::{Digest, Hasher};

/// Hashes and counts chunks, and holds back the last one until size and digest match.
///
/// A consumer that announced the full length (an upload with `Content-Length`) can therefore never
/// complete wrong content.
#[derive(Debug)]
pub(crate) struct Verifier {
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    received: u64,
    held: Option<Bytes>,
}

impl Verifier {
    pub(crate) fn new(digest: Digest, size: u64) -> Self {
        Self {
            hasher: Some(Hasher::new(digest.algorithm())),
            digest,
            size,
            received: 0,
            held: None,
        }
    }

    /// Takes a chunk and returns the one before it. Fails at the first byte too many.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Result<Option<Bytes>, Cause> {
        if chunk.is_empty() {
            return Ok(None);
        }
        self.received += chunk.len() as u64;
        if self.received > self.size {
            self.held = None;
            return Err(Cause::Size { expected: self.size, actual: self.received });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        Ok(self.held.replace(chunk))
    }

    /// Returns the last chunk if size and digest match.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>, Cause> {
        let held = self.held.take();
        let Some(hasher) = self.hasher.take() else { return Ok(None) };
        if self.received != self.size {
            return Err(Cause::Truncated { received: self.received, expected: self.size });
        }
        let actual = hasher.finish();
        if actual != self.digest {
            return Err(Cause::Digest { expected: self.digest.clone(), actual });
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::digest::Algorithm;

    /// The released content of the chunks, and whether the end is accepted.
    fn run(digest: Digest, size: u64, chunks: &[&'static str]) -> (String, bool) {
        let mut verifier = Verifier::new(digest, size);
        let mut out = Vec::new();
        for chunk in chunks {
            match verifier.push(Bytes::from_static(chunk.as_bytes())) {
                Ok(before) => out.extend(before.into_iter().flatten()),
                Err(_) => return (String::from_utf8(out).unwrap(), false),
            }
        }
        let end = verifier.finish();
        let good = end.is_ok();
        out.extend(end.ok().flatten().into_iter().flatten());
        (String::from_utf8(out).unwrap(), good)
    }

    #[test]
    fn last_chunk_is_withheld_until_size_and_digest_match() {
        let abc = Digest::sha256_of(b"abc");
        let abc512 = Digest::of(Algorithm::Sha512, b"abc");
        for (digest, size, chunks, out, good) in [
            (&abc, 3, &["a", "b", "c"][..], "abc", true),
            (&abc512, 3, &["abc"], "abc", true),
            (&abc, 3, &["", "abc", ""], "abc", true),
            (&abc, 3, &["ab", "x"], "ab", false),
            (&abc, 3, &["abx"], "", false),
            (&abc, 3, &["ab"], "", false),
            (&abc, 3, &[], "", false),
            (&abc, 3, &["abc", "d"], "", false),
            (&abc, 4, &["abc"], "", false),
            (&abc, 2, &["abc"], "", false),
            (&Digest::sha256_of(b""), 0, &[], "", true),
            (&abc, 0, &[], "", false),
        ] {
            assert_eq!(
                run(digest.clone(), size, chunks),
                (out.to_owned(), good),
                "{size} {chunks:?}"
            );
        }
    }
}
