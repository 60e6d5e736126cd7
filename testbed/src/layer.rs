//! Layers with the same bytes on every machine and in every run, and so the same digests.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

const BLOCK: usize = 512;

/// Writes a tar archive (ustar) with these files, all dated 1970 and owned by root.
///
/// # Errors
/// When the output fails. A path must be shorter than 100 bytes.
pub(crate) fn write_tar(out: &mut impl Write, files: &[(&str, &[u8])]) -> io::Result<()> {
    for (path, content) in files {
        out.write_all(&header(path, content.len())?)?;
        out.write_all(content)?;
        out.write_all(&[0; BLOCK][..content.len().next_multiple_of(BLOCK) - content.len()])?;
    }
    out.write_all(&[0; 2 * BLOCK])
}

fn header(path: &str, size: usize) -> io::Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, length: usize, value: &str| {
        if value.len() > length {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{value} does not fit in a tar header"),
            ));
        }
        header[at..at + value.len()].copy_from_slice(value.as_bytes());
        Ok(())
    };
    put(0, 99, path)?;
    put(100, 8, "0000755")?; // mode
    put(108, 8, "0000000")?; // uid
    put(116, 8, "0000000")?; // gid
    put(124, 12, &format!("{size:011o}"))?;
    put(136, 12, "00000000000")?; // mtime
    put(148, 8, "        ")?; // the checksum counts itself as spaces
    put(156, 1, "0")?; // a regular file
    put(257, 8, "ustar\u{0}00")?;
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\u{0} ").as_bytes());
    Ok(header)
}

/// Returns a layer of one file, of `size` bytes that do not compress and depend on its name.
///
/// # Errors
/// When the name has 100 bytes or more.
pub fn unique(name: &str, size: usize) -> io::Result<Vec<u8>> {
    let hash = Sha256::digest(name);
    let seed = hash.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let mut out = Vec::new();
    write_tar(&mut out, &[(name, &noise(seed, size))])?;
    Ok(out)
}

/// Returns bytes that do not compress, the same for the same seed (SplitMix64).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
