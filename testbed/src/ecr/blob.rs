//! Layers: hashed while received, kept in memory up to 8 MiB and in an unnamed file beyond.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::quantities::hex;

/// Larger blobs are kept in a file: a test that copies gigabytes must not keep them in memory.
const IN_MEMORY: usize = 8 << 20;

/// Bytes to read from a file at once.
const PIECE: usize = 256 << 10;

/// A stored layer or config. Clones share the bytes.
#[derive(Debug, Clone)]
pub(crate) enum Blob {
    Memory(Bytes),
    File {
        path: Arc<TempPath>,
        size: u64,
    },
    /// Hashed and not kept; see [`Config::keep_blobs`](super::Config::keep_blobs).
    Discarded {
        size: u64,
    },
}

impl Blob {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } | Self::Discarded { size } => *size,
        }
    }

    /// Returns the bytes `start..end`; `end` is at most the size.
    ///
    /// Files are read on the runtime's own threads: the pages were just written and are in memory;
    /// a switch to the blocking pool for each piece would cost more.
    pub(crate) fn body(&self, start: u64, end: u64) -> io::Result<Body> {
        match self {
            Self::Memory(bytes) => {
                let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Body::from(bytes.slice(clamp(start)..clamp(end))))
            }
            Self::File { path, .. } => {
                let mut file = File::open(&**path)?;
                file.seek(SeekFrom::Start(start))?;
                // The path is kept with the reader, so that the file exists until the last reader
                // is done.
                let state = (file.take(end - start), Arc::clone(path));
                Ok(Body::from_stream(stream::try_unfold(state, |(mut file, path)| async move {
                    let mut piece = vec![0; PIECE];
                    let read = file.read(&mut piece)?;
                    piece.truncate(read);
                    Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(piece), (file, path))))
                })))
            }
            Self::Discarded { .. } => Err(discarded()),
        }
    }

    /// Returns the blob's content, for tests.
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File { path, .. } => std::fs::read(&**path).map(Bytes::from),
            Self::Discarded { .. } => Err(discarded()),
        }
    }
}

fn discarded() -> io::Error {
    io::Error::other("this stand-in keeps no blobs")
}

/// Receives a blob; the bytes of a broken chunk can be removed again.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    hasher: Sha256,
    discards: bool,
    memory: Vec<u8>,
    file: Option<(File, TempPath)>,
    size: u64,
    committed: (Sha256, u64),
}

impl Sink {
    /// Returns a sink that only hashes and counts its bytes.
    pub(crate) fn discarding() -> Self {
        Self { discards: true, ..Self::default() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        if self.discards {
            return Ok(());
        }
        if self.file.is_none() && self.memory.len() + bytes.len() > IN_MEMORY {
            let (mut file, path) = tempfile::NamedTempFile::new()?.into_parts();
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some((file, path));
        }
        match &mut self.file {
            Some((file, _)) => file.write_all(bytes),
            None => {
                self.memory.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Keeps the bytes written so far.
    pub(crate) fn commit(&mut self) {
        self.committed = (self.hasher.clone(), self.size);
    }

    /// Removes the bytes written since the last commit.
    pub(crate) fn roll_back(&mut self) -> io::Result<()> {
        if self.size == self.committed.1 {
            return Ok(());
        }
        (self.hasher, self.size) = self.committed.clone();
        match &mut self.file {
            Some((file, _)) => {
                file.set_len(self.size)?;
                file.seek(SeekFrom::Start(self.size)).map(drop)
            }
            None => {
                self.memory.truncate(usize::try_from(self.size).unwrap_or(usize::MAX));
                Ok(())
            }
        }
    }

    /// Returns the digest of all bytes, and the blob.
    pub(crate) fn finish(self) -> (String, Blob) {
        let digest = format!("sha256:{}", hex(&self.hasher.finalize()));
        let blob = match self.file {
            _ if self.discards => Blob::Discarded { size: self.size },
            Some((_, path)) => Blob::File { path: Arc::new(path), size: self.size },
            None => Blob::Memory(self.memory.into()),
        };
        (digest, blob)
    }
}
