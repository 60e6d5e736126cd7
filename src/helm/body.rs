//! The body of an index, plain or gzip, decompressed while it arrives and bounded in size.

use flate2::write::MultiGzDecoder;

use super::index::Reader;
use super::{Error, Index};

/// A body whose first bytes tell whether it is gzip: some stores serve a gzipped `index.yaml`
/// without `Content-Encoding`.
pub(super) enum Body {
    Unknown { first: Vec<u8>, reader: Option<Reader>, limit: usize },
    Plain(Reader),
    Gzip { decoder: Box<MultiGzDecoder<Sink>>, left: usize, limit: usize },
}

/// Passes decompressed bytes to the reader, and keeps the error that `io::Write` cannot return.
pub(super) struct Sink {
    reader: Reader,
    failed: Option<Error>,
}

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.reader.push(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(std::io::Error::other("the index was refused"))
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Body {
    pub(super) fn new(reader: Reader, limit: usize) -> Self {
        Self::Unknown { first: Vec::new(), reader: Some(reader), limit }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Unknown { first, reader, limit } => {
                first.extend_from_slice(bytes);
                if first.len() < 2 {
                    return Ok(());
                }

                let first = std::mem::take(first);
                let limit = *limit;
                let Some(reader) = reader.take() else { return Ok(()) };
                *self = if first.starts_with(&[0x1f, 0x8b]) {
                    let decoder = Box::new(MultiGzDecoder::new(Sink { reader, failed: None }));
                    Self::Gzip { decoder, left: limit, limit }
                } else {
                    Self::Plain(reader)
                };
                self.push(&first)
            }
            Self::Plain(reader) => reader.push(bytes),
            Self::Gzip { decoder, left, limit } => {
                let Some(rest) = left.checked_sub(bytes.len()) else {
                    return Err(decoder
                        .get_ref()
                        .reader
                        .refuse(format!("it has more than {limit} bytes")));
                };
                *left = rest;
                std::io::Write::write_all(decoder, bytes)
                    .map_err(|error| gzip_error(decoder.get_mut(), &error))
            }
        }
    }

    /// Ends the body. Returns the memory that [`Self::finish`] needs.
    ///
    /// # Errors
    /// When the gzip is damaged, and as [`Reader::push`].
    pub(super) fn end(&mut self) -> Result<usize, Error> {
        match self {
            Self::Unknown { first, reader: Some(reader), .. } => {
                reader.push(&std::mem::take(first))?;
                Ok(reader.end())
            }
            Self::Unknown { .. } => Ok(0),
            Self::Plain(reader) => Ok(reader.end()),
            Self::Gzip { decoder, .. } => {
                decoder.try_finish().map_err(|error| gzip_error(decoder.get_mut(), &error))?;
                Ok(decoder.get_mut().reader.end())
            }
        }
    }

    /// Builds the index, after [`Self::end`].
    ///
    /// # Errors
    /// As [`Reader::finish`].
    pub(super) fn finish(self) -> Result<Index, Error> {
        match self {
            Self::Unknown { reader: Some(reader), .. } => reader.finish(),
            Self::Unknown { .. } => Err(Error::Internal("an index without reader".into())),
            Self::Plain(reader) => reader.finish(),
            Self::Gzip { decoder, .. } => match decoder.finish() {
                Ok(sink) => sink.reader.finish(),
                Err(error) => Err(Error::Internal(error.to_string())),
            },
        }
    }
}

fn gzip_error(sink: &mut Sink, error: &std::io::Error) -> Error {
    match sink.failed.take() {
        Some(error) => error,
        None => sink.reader.refuse(format!("its gzip is truncated or damaged: {error}")),
    }
}
