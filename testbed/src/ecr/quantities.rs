//! Small values: digests, random names, timestamps, shuffles.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `sha256:…` of a body.
pub(crate) fn digest(body: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(body)))
}

/// `count` random bytes in hex.
pub(crate) fn random_hex(count: usize) -> String {
    let mut bytes = vec![0; count];
    // Fails only if the system has no source of randomness; then names repeat and uploads are
    // refused.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    hex(&bytes)
}

/// A random version 4 UUID.
pub(crate) fn uuid() -> String {
    let hex = random_hex(16);
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// Seconds since 1970 with a fraction, as AWS JSON writes times.
pub(crate) fn epoch(time: SystemTime) -> f64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    (seconds * 1000.0).round() / 1000.0
}

/// Whether `text` matches `pattern`, in which `*` matches any characters.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    (0..=text.len()).filter(|&at| text.is_char_boundary(at)).any(|at| wildcard(rest, &text[at..]))
}

/// Sorts in a stable order that is not alphabetical: ECR promises no order for its lists.
pub(crate) fn shuffle_key(text: &str) -> (u64, &str) {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash, text)
}
