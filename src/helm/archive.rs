//! Chart archives: a gzipped tar that is read only to find `Chart.yaml`.
//!
//! Nothing is unpacked and no path is followed. Archives that Helm refuses to load are refused here
//! too, since nobody could install them
//! (<https://github.com/helm/helm/blob/v3.22.0/pkg/chart/loader/archive.go>).

use std::io::{self, ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::metadata::Metadata;
use crate::memory_budget::{Need, Shortage};

/// The largest archive that is fetched. Charts are text; the largest public ones have about 2 MB.
pub const MAX_BYTES: usize = 20 * 1024 * 1024;
/// The largest size of an expanded archive, as in Helm.
const MAX_EXPANDED: u64 = 100 * 1024 * 1024;
/// The largest public charts have about a thousand files.
const MAX_ENTRIES: usize = 20_000;
/// `Chart.yaml` and `requirements.yaml` have a few kilobytes.
const MAX_FILE: u64 = 512 * 1024;
/// The memory to read the two files, by their size: their texts, and their values, whose number is
/// bounded.
pub(crate) const NEED: Need =
    Need { fixed: 128 * 1024, per_byte: 4, parsed: (120, 8 * 1024 * 1024) };
/// The longest path name; Linux allows 4 KiB.
const MAX_NAME: u64 = 8 * 1024;

/// The reason why an archive is not a chart, or not the wanted one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a gzipped archive.
    #[error("it is not a gzipped archive{}", if *.page { " but a web page" } else { "" })]
    NotGzip {
        /// Whether it begins like HTML or XML.
        page: bool,
    },
    /// The archive ends early.
    #[error("the archive is truncated")]
    Truncated,
    /// The archive is damaged.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// The archive is too large after decompression.
    #[error("the archive expands to more than {} MiB", MAX_EXPANDED / 1024 / 1024)]
    Expands,
    /// The archive has too many entries.
    #[error("the archive has more than {MAX_ENTRIES} entries")]
    Entries,
    /// A file that must be read is too large.
    #[error("{file} in the archive has more than {} KiB", MAX_FILE / 1024)]
    LargeFile {
        /// The file's name.
        file: &'static str,
    },
    /// An entry's path leads out of the chart. Helm refuses such a chart too.
    #[error("the archive has an entry {0:?}, which leads out of the chart")]
    UnsafeName(String),
    /// `Chart.yaml` is missing.
    #[error("the archive has no Chart.yaml in its top folder")]
    NoChartYaml,
    /// A file occurs twice.
    #[error("the archive has {0} twice")]
    Twice(&'static str),
    /// `Chart.yaml` or `requirements.yaml` cannot be used.
    #[error("{0}")]
    ChartYaml(String),
    /// The memory budget does not allow it.
    #[error("{0}")]
    Memory(#[from] Shortage),
    /// The archive is another chart than in the index.
    #[error("Chart.yaml says {actual_name} {actual_version}, but the index says {name} {version}")]
    OtherChart {
        /// The name in `Chart.yaml`.
        actual_name: String,
        /// The version in `Chart.yaml`.
        actual_version: String,
        /// The name in the index.
        name: String,
        /// The version in the index.
        version: String,
    },
}

/// Reserves bytes of memory, in all.
type Reserve<'a> = &'a mut dyn FnMut(usize) -> Result<(), Shortage>;

/// Reads the metadata of a chart. Up to 100 MiB are decompressed in half a second: run it on a
/// thread that may block.
///
/// # Errors
/// [`Error`].
pub fn read(archive: &[u8]) -> Result<Metadata, Error> {
    read_within(archive, &mut |_| Ok(()))
}

/// [`read`] with a function that reserves memory, in all, before it is used.
fn read_within(archive: &[u8], reserve: Reserve<'_>) -> Result<Metadata, Error> {
    if !archive.starts_with(&[0x1f, 0x8b]) {
        return Err(Error::NotGzip { page: archive.trim_ascii_start().starts_with(b"<") });
    }

    let mut content = MultiGzDecoder::new(archive).take(MAX_EXPANDED + 1);
    let files = files(&mut content, reserve).and_then(|files| {
        // The end of the tar is not the end of the gzip: its checksum follows.
        match io::copy(&mut content, &mut io::sink()) {
            // Other data follows the gzip. Helm ignores it too.
            Err(e) if e.to_string().contains("invalid gzip header") => Ok(files),
            Err(e) => Err(classify(&e)),
            Ok(_) => Ok(files),
        }
    });
    if content.limit() == 0 {
        return Err(Error::Expands);
    }

    let files = files?;
    let chart = utf8("Chart.yaml", files.chart.ok_or(Error::NoChartYaml)?)?;
    let requirements =
        files.requirements.map(|bytes| utf8("requirements.yaml", bytes)).transpose()?;
    Metadata::parse(&chart, requirements.as_deref()).map_err(Error::ChartYaml)
}

/// Reads the metadata like [`read`], and checks name and version against the index.
///
/// # Errors
/// [`Error`].
pub(crate) fn read_as(
    archive: &[u8],
    name: &str,
    version: &str,
    reserve: Reserve<'_>,
) -> Result<Metadata, Error> {
    let metadata = read_within(archive, reserve)?;
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

fn files(content: &mut impl Read, reserve: Reserve<'_>) -> Result<Files, Error> {
    let mut files = Files::default();
    let mut bytes = 0;
    let mut archive = tar::Archive::new(content);
    // In raw mode, long names are separate entries, which are bounded here.
    let entries = archive.entries().map_err(|e| classify(&e))?.raw(true);
    let mut long_name: Option<Vec<u8>> = None;

    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|e| classify(&e))?;
        if count >= MAX_ENTRIES {
            return Err(Error::Entries);
        }

        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => {
                let mut name = contents(&mut entry, MAX_NAME)?.ok_or_else(long)?;
                name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                long_name = Some(name);
                continue;
            }
            EntryType::XHeader => {
                let records = contents(&mut entry, MAX_NAME * 8)?.ok_or_else(long)?;
                if let Some(name) = pax_path(&records)? {
                    long_name = Some(name);
                }
                continue;
            }
            EntryType::XGlobalHeader | EntryType::GNULongLink => continue,
            EntryType::GNUSparse => return Err(Error::Damaged("it contains a sparse file".into())),
            _ => {}
        }

        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        let name = String::from_utf8_lossy(&name).into_owned();
        if kind.is_dir() || name.ends_with('/') {
            continue;
        }

        let (label, file) = match path_in_chart(&name)?.as_str() {
            "Chart.yaml" => ("Chart.yaml", &mut files.chart),
            "requirements.yaml" => ("requirements.yaml", &mut files.requirements),
            _ => continue,
        };
        // A link has no contents, and links are not followed.
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        if file.is_some() {
            return Err(Error::Twice(label));
        }
        if entry.size() <= MAX_FILE {
            bytes += entry.size() as usize;
            reserve(NEED.of(bytes))?;
        }
        *file = Some(contents(&mut entry, MAX_FILE)?.ok_or(Error::LargeFile { file: label })?);
    }

    Ok(files)
}

fn long() -> Error {
    Error::Damaged("it has a name of more than 8 KiB".into())
}

/// Reads a whole entry; `None` if it is larger than `limit`.
fn contents(entry: &mut tar::Entry<'_, impl Read>, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    if entry.size() > limit {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let expected = entry.size();
    entry.take(limit).read_to_end(&mut bytes).map_err(|e| classify(&e))?;
    if (bytes.len() as u64) < expected { Err(Error::Truncated) } else { Ok(Some(bytes)) }
}

/// Finds the `path` in pax records, `<length> <key>=<value>\n`.
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
            // Only files of more than 8 GiB need it, and programs read it differently.
            b"size" => return Err(Error::Damaged("it sets a size in a pax header".into())),
            _ => {}
        }
        rest = &rest[length..];
    }

    Ok(path)
}

/// The path below the top folder, as Helm computes it.
fn path_in_chart(name: &str) -> Result<String, Error> {
    let refuse = || Error::UnsafeName(name.chars().take(200).collect());
    // Archives from Windows have backslashes.
    let delimiter = if name.contains('\\') { '\\' } else { '/' };
    let Some((top, rest)) = name.split_once(delimiter) else {
        // A file beside the top folder. Helm refuses the chart.
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

fn classify(error: &io::Error) -> Error {
    let text = error.to_string();
    // The text is tar's message for an archive that ends inside an entry.
    if error.kind() == ErrorKind::UnexpectedEof || text.contains("unexpected EOF") {
        Error::Truncated
    } else {
        Error::Damaged(text)
    }
}

#[cfg(test)]
mod tests;
