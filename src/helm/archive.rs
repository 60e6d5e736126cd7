//! Chart archives: a gzipped tar that is read only to find `Chart.yaml`.
//!
//! Nothing is unpacked and no path is followed. What Helm would refuse to load is refused here,
//! since nobody could install it
//! (<https://github.com/helm/helm/blob/v3.22.0/pkg/chart/loader/archive.go>).

use std::io::{self, ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::metadata::Metadata;

/// The largest archive that is fetched. Charts hold text; the largest public ones have about 2 MB.
pub const MOST_BYTES: usize = 20 * 1024 * 1024;
/// What an archive may expand to, as in Helm.
const MOST_EXPANDED: u64 = 100 * 1024 * 1024;
/// The largest public charts have about a thousand files.
const MOST_ENTRIES: usize = 20_000;
/// `Chart.yaml` and `requirements.yaml` have some kilobytes.
const MOST_FILE: u64 = 1024 * 1024;
/// A path name; Linux ends at 4 KiB.
const MOST_NAME: u64 = 64 * 1024;

/// Why an archive is no chart, or not the one that was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is something else.
    #[error("it is not a gzipped archive{}", if *.page { " but a web page" } else { "" })]
    NotGzip {
        /// It begins like HTML or XML.
        page: bool,
    },
    /// It ends early.
    #[error("the archive is truncated")]
    Truncated,
    /// It is damaged.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// It expands to too much.
    #[error("the archive expands to more than {} MiB", MOST_EXPANDED / 1024 / 1024)]
    Expands,
    /// It has too many entries.
    #[error("the archive has more than {MOST_ENTRIES} entries")]
    Entries,
    /// One of the files that are read is too large.
    #[error("{file} in the archive has more than {} MiB", MOST_FILE / 1024 / 1024)]
    LargeFile {
        /// Which one.
        file: &'static str,
    },
    /// A name that points elsewhere. Helm refuses the chart too.
    #[error("the archive has an entry {0:?}, which leads out of the chart")]
    UnsafeName(String),
    /// There is no `Chart.yaml`.
    #[error("the archive has no Chart.yaml in its top folder")]
    NoChartYaml,
    /// There are two.
    #[error("the archive has {0} twice")]
    Twice(&'static str),
    /// It cannot be used.
    #[error("{0}")]
    ChartYaml(String),
    /// It is another chart than the index says.
    #[error("Chart.yaml says {actual_name} {actual_version}, the index says {name} {version}")]
    OtherChart {
        /// In `Chart.yaml`.
        actual_name: String,
        /// In `Chart.yaml`.
        actual_version: String,
        /// In the index.
        name: String,
        /// In the index.
        version: String,
    },
}

/// Reads the metadata of a chart. Up to 100 MiB are inflated: half a second; on a thread that may
/// block.
///
/// # Errors
/// [`Error`].
pub fn read(archive: &[u8]) -> Result<Metadata, Error> {
    if !archive.starts_with(&[0x1f, 0x8b]) {
        return Err(Error::NotGzip { page: archive.trim_ascii_start().starts_with(b"<") });
    }
    let mut text = Bounded { inner: MultiGzDecoder::new(archive), left: MOST_EXPANDED };
    let files = files(&mut text)?;
    // The end of the archive is not the end of the file: the checksum follows.
    match io::copy(&mut text, &mut io::sink()) {
        // Something that is no gzip follows. It does not matter to Helm either.
        Err(e) if e.to_string().contains("invalid gzip header") => {}
        Err(e) => return Err(sort(&e)),
        Ok(_) => {}
    }
    let chart = utf8("Chart.yaml", files.chart.ok_or(Error::NoChartYaml)?)?;
    let requirements =
        files.requirements.map(|bytes| utf8("requirements.yaml", bytes)).transpose()?;
    Metadata::parse(&chart, requirements.as_deref()).map_err(Error::ChartYaml)
}

/// As [`read`], for the chart that an index lists under this name and version.
///
/// # Errors
/// [`Error`].
pub fn read_as(archive: &[u8], name: &str, version: &str) -> Result<Metadata, Error> {
    let metadata = read(archive)?;
    if metadata.name != name || metadata.version != version {
        return Err(Error::OtherChart {
            actual_name: metadata.name,
            actual_version: metadata.version,
            name: name.to_owned(),
            version: version.to_owned(),
        });
    }
    Ok(metadata)
}

fn utf8(file: &str, bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::ChartYaml(format!("{file} is not UTF-8")))
}

#[derive(Default)]
struct Files {
    chart: Option<Vec<u8>>,
    requirements: Option<Vec<u8>>,
}

fn files(text: &mut impl Read) -> Result<Files, Error> {
    let mut files = Files::default();
    let mut archive = tar::Archive::new(text);
    // Raw: long names are entries of their own, and bounded here.
    let entries = archive.entries().map_err(|e| sort(&e))?.raw(true);
    let mut long_name: Option<Vec<u8>> = None;
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|e| sort(&e))?;
        if count >= MOST_ENTRIES {
            return Err(Error::Entries);
        }
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => {
                let mut name = contents(&mut entry, MOST_NAME)?.ok_or_else(long)?;
                name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                long_name = Some(name);
                continue;
            }
            EntryType::XHeader => {
                let records = contents(&mut entry, MOST_NAME * 16)?.ok_or_else(long)?;
                if let Some(name) = pax_path(&records)? {
                    long_name = Some(name);
                }
                continue;
            }
            EntryType::XGlobalHeader | EntryType::GNULongLink => continue,
            EntryType::GNUSparse => return Err(Error::Damaged("it holds a sparse file".into())),
            _ => {}
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let name = String::from_utf8_lossy(&name).into_owned();
        if kind.is_dir() || name.ends_with('/') {
            continue;
        }
        let (label, file) = match inside(&name)?.as_str() {
            "Chart.yaml" => ("Chart.yaml", &mut files.chart),
            "requirements.yaml" => ("requirements.yaml", &mut files.requirements),
            _ => continue,
        };
        // A link has no contents, and what it points to is not looked at.
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        if file.is_some() {
            return Err(Error::Twice(label));
        }
        *file = Some(contents(&mut entry, MOST_FILE)?.ok_or(Error::LargeFile { file: label })?);
    }
    Ok(files)
}

fn long() -> Error {
    Error::Damaged("it has a name of more than 64 KiB".into())
}

/// All of an entry, unless it is larger than `most`.
fn contents(entry: &mut tar::Entry<'_, impl Read>, most: u64) -> Result<Option<Vec<u8>>, Error> {
    if entry.size() > most {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let expected = entry.size();
    entry.take(most).read_to_end(&mut bytes).map_err(|e| sort(&e))?;
    if (bytes.len() as u64) < expected { Err(Error::Truncated) } else { Ok(Some(bytes)) }
}

/// The `path` of pax records, `<length> <key>=<value>\n`.
fn pax_path(records: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let mut path = None;
    let mut rest = records;
    while !rest.is_empty() && rest[0] != 0 {
        let record = rest.iter().position(|byte| *byte == b' ').and_then(|space| {
            let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
            let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            Some((length, &record[..equals], &record[equals + 1..]))
        });
        let Some((length, key, value)) = record else {
            return Err(Error::Damaged("its pax header is malformed".into()));
        };
        match key {
            b"path" => path = Some(value.to_vec()),
            // Only files of more than 8 GiB need it, and readers disagree on it.
            b"size" => return Err(Error::Damaged("it sets a size in a pax header".into())),
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(path)
}

/// The name without the top folder, as Helm computes it.
fn inside(name: &str) -> Result<String, Error> {
    let refuse = || Error::UnsafeName(name.chars().take(200).collect());
    // Archives made on Windows.
    let delimiter = if name.contains('\\') { '\\' } else { '/' };
    let Some((top, rest)) = name.split_once(delimiter) else {
        // A file beside the folder. Helm refuses the chart.
        return Err(refuse());
    };
    let rest = rest.replace(delimiter, "/");
    let drive =
        rest.as_bytes().get(1..3) == Some(b":/") && rest.as_bytes()[0].is_ascii_alphabetic();
    let mut clean: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if clean.pop().is_none() {
                    return Err(refuse());
                }
            }
            part => clean.push(part),
        }
    }
    if top == "Chart.yaml"
        || rest.starts_with('/')
        || drive
        || clean.is_empty()
        || clean[0].starts_with("..")
    {
        return Err(refuse());
    }
    Ok(clean.join("/"))
}

/// Ends with an error where an archive expands to too much.
struct Bounded<R> {
    inner: R,
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("too much")]
struct TooMuch;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(TooMuch))?;
        Ok(read)
    }
}

fn sort(error: &io::Error) -> Error {
    // tar wraps what it gets.
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<TooMuch>() {
            return Error::Expands;
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::Truncated,
        _ => {
            let text = error.to_string();
            // tar's own words where an archive ends inside an entry.
            if text.contains("unexpected EOF") { Error::Truncated } else { Error::Damaged(text) }
        }
    }
}

#[cfg(test)]
mod tests;
