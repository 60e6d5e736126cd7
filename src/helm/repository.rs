//! A classic HTTP chart repository.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use reqwest::header::{
    ACCEPT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Response, StatusCode, Url};

use super::archive::MOST_BYTES;
use super::index::Reader;
use super::indexes::{Copy, Fetched, Key, Validators};
use super::{ChartVersions, Entry, Error, Index, Indexes};
use crate::registry::{
    AllowedHosts, Credential, Digest, Failure, Limits, Policy, Request, Transport,
    TransportOptions, asked_wait, authority, is_link_local, next_chunk, read_answer, read_body,
    retrying, same_origin,
};

/// Bitnami's index, one of the largest, has 26 MB.
const MOST_INDEX_BYTES: usize = 100 * 1024 * 1024;
/// A provenance file holds `Chart.yaml` and a signature.
const MOST_PROVENANCE_BYTES: usize = 1024 * 1024;
/// A server that sends one byte every now and then does not hold the others up for longer than
/// this.
const INDEX_WITHIN: Duration = Duration::from_secs(300);

/// How a repository is reached.
#[derive(Clone, Debug)]
pub struct Access {
    /// Name and password; they stay on the repository's host.
    pub credential: Credential,
    /// Connections.
    pub transport: Transport,
    /// What the transport was made with: resources share an index only if they trust and go the
    /// same way.
    pub trust: TransportOptions,
    /// The limits of the repository's host.
    pub limits: Arc<Limits>,
    /// Hosts that the index may point to besides the repository's own; all where it is not said.
    pub hosts: Option<Arc<AllowedHosts>>,
    /// How often requests are tried again.
    pub retry: Policy,
    /// The largest index that is read, before and after decompression.
    pub most_index_bytes: usize,
}

impl Access {
    /// Access with the usual bounds.
    #[must_use]
    pub fn new(transport: Transport, trust: TransportOptions, credential: Credential) -> Self {
        Self {
            credential,
            transport,
            trust,
            limits: Arc::default(),
            hosts: None,
            retry: Policy::default(),
            most_index_bytes: MOST_INDEX_BYTES,
        }
    }
}

/// A chart repository, as seen with one credential.
#[derive(Debug)]
pub struct Repository {
    /// With a slash at the end of its path.
    base: Url,
    index: Url,
    access: Access,
    indexes: Arc<Indexes>,
}

/// Where a chart's archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Download {
    /// It was fetched.
    Archive(Box<Archive>),
    /// The index points into an OCI registry, where the chart is an artifact already:
    /// `oci://host/repository:tag`.
    Oci(String),
}

/// A chart archive. Its digest is the index's, where the index has one.
#[derive(Clone, PartialEq, Eq)]
pub struct Archive {
    /// The bytes, untouched.
    pub bytes: Bytes,
    /// Their digest.
    pub digest: Digest,
    url: Url,
    entry: Entry,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("url", &self.url())
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Archive {
    /// Where it came from, without query.
    #[must_use]
    pub fn url(&self) -> String {
        shown(&self.url)
    }

    /// An error that says what is wrong with this archive.
    #[must_use]
    pub fn rejected(&self, source: super::archive::Error) -> Error {
        let Entry { chart, version, .. } = self.entry.clone();
        Error::Archive { url: self.url(), chart, version, source: Box::new(source) }
    }
}

impl Repository {
    /// The repository at `url`.
    ///
    /// # Errors
    /// Class `InvalidSpec` for what is not the address of one.
    pub fn new(url: &str, access: Access, indexes: Arc<Indexes>) -> Result<Self, Error> {
        let mut base: Url = url
            .parse()
            .map_err(|_| Error::Address("the chart repository's address is not a URL".into()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(Error::Address(format!(
                "{} is not the http:// or https:// address of a chart repository",
                shown(&base)
            )));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(Error::Address(format!(
                "{} holds a credential; put it into a Secret",
                shown(&base)
            )));
        }
        if matches!(access.credential, Credential::IdentityToken(_)) {
            return Err(Error::Address(format!(
                "{} needs a name and a password, not an identity token",
                shown(&base)
            )));
        }
        base.set_fragment(None);
        // As Helm's ResolveReferenceURL: what is given is a folder, and its query goes along.
        let folder = format!("{}/", base.path().trim_end_matches('/'));
        base.set_path(&folder);
        let index = resolve(&base, "index.yaml").ok_or_else(|| {
            Error::Address(format!("{} is not the address of a chart repository", shown(&base)))
        })?;
        Ok(Self { base, index, access, indexes })
    }

    /// The address of the index, without query, for messages and status.
    #[must_use]
    pub fn index_url(&self) -> String {
        shown(&self.index)
    }

    /// The index; a copy that was confirmed within `max_age` serves. With an age of zero it is
    /// confirmed by a request that is sent after this call, which all callers of that time share.
    ///
    /// # Errors
    /// [`Error::ReadIndex`], [`Error::WebPage`], [`Error::NotAnIndex`]; a failed fetch fails all
    /// who waited for it.
    pub async fn index(&self, max_age: Duration) -> Result<Arc<Index>, Error> {
        let key = Key {
            url: self.index.to_string(),
            credential: self.access.credential.clone(),
            trust: self.access.trust.clone(),
        };
        self.indexes.get(key, max_age, |copy| self.fetch_index(copy)).await
    }

    /// The versions of one chart.
    ///
    /// # Errors
    /// As [`Self::index`] and [`Index::chart`].
    pub async fn versions(&self, chart: &str, max_age: Duration) -> Result<ChartVersions, Error> {
        let (index, chart) = (self.index(max_age).await?, chart.to_owned());
        blocking(move || index.chart(&chart)).await
    }

    /// The archive of a version. Its URLs are tried in their order.
    ///
    /// # Errors
    /// That of the first URL, if none works.
    pub async fn download(&self, entry: &Entry) -> Result<Download, Error> {
        let mut first = None;
        for url in &entry.urls {
            if url.starts_with("oci://") {
                return Ok(Download::Oci(url.clone()));
            }
            match self.download_from(entry, url).await {
                Ok(archive) => return Ok(Download::Archive(Box::new(archive))),
                Err(error) => {
                    tracing::debug!(%error, "chart cannot be had from this URL");
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or_else(|| {
            let failure = Failure::Unreadable("the index names no URL".into());
            download_error(entry, self.index_url(), failure)
        }))
    }

    /// The provenance file beside an archive; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Download`], also for an answer that is no provenance file.
    pub async fn provenance(&self, archive: &Archive) -> Result<Option<Bytes>, Error> {
        let mut url = archive.url.clone();
        url.set_path(&format!("{}.prov", url.path()));
        match self.read(&url, MOST_PROVENANCE_BYTES).await {
            // helm package --sign writes a clear-signed message.
            Ok(bytes)
                if bytes.trim_ascii_start().starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----") =>
            {
                Ok(Some(bytes))
            }
            Ok(_) => {
                let failure = Failure::Unreadable("it is not a provenance file".into());
                Err(download_error(&archive.entry, shown(&url), failure))
            }
            Err(Failure::Answer(answer)) if matches!(answer.status.as_u16(), 404 | 410) => Ok(None),
            Err(failure) => Err(download_error(&archive.entry, shown(&url), failure)),
        }
    }

    async fn download_from(&self, entry: &Entry, url: &str) -> Result<Archive, Error> {
        let failed =
            |url: String, why: &str| download_error(entry, url, Failure::Unreadable(why.into()));
        let Some(url) = resolve(&self.base, url) else {
            return Err(failed(url.to_owned(), "it is not a URL"));
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(failed(shown(&url), "only http, https and oci URLs can be read"));
        }
        if is_link_local(&url) && !is_link_local(&self.base) {
            return Err(failed(shown(&url), "link-local addresses are not read"));
        }
        let hosts = self.access.hosts.as_ref().filter(|_| !same_origin(&self.base, &url));
        if let Some(hosts) = hosts.filter(|hosts| !hosts.contains(&authority(&url))) {
            return Err(Error::HostNotAllowed {
                url: shown(&url),
                chart: entry.chart.clone(),
                version: entry.version.clone(),
                written_in: hosts.written_in.clone(),
            });
        }
        if self.base.scheme() == "https" && url.scheme() == "http" && entry.digest.is_none() {
            return Err(failed(
                shown(&url),
                "it is http, the repository is https, and the index has no digest",
            ));
        }
        let bytes = self
            .read(&url, MOST_BYTES)
            .await
            .map_err(|failure| download_error(entry, shown(&url), failure))?;
        let (digest, bytes) = blocking(move || Ok((Digest::sha256_of(&bytes), bytes))).await?;
        match &entry.digest {
            Some(expected) if *expected != digest => Err(Error::Digest {
                url: shown(&url),
                chart: entry.chart.clone(),
                version: entry.version.clone(),
                expected: Box::new(expected.clone()),
                actual: Box::new(digest),
            }),
            _ => Ok(Archive { bytes, digest, url, entry: entry.clone() }),
        }
    }

    /// A whole body.
    async fn read(&self, url: &Url, most: usize) -> Result<Bytes, Failure> {
        retrying(&self.access.retry, || async {
            let _slot = self.access.limits.download().await?;
            let mut headers = HeaderMap::new();
            // Archives are gzip already, and their bytes must arrive as they are.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            match self.ask(url, headers).await? {
                response if response.status() == StatusCode::OK => read_body(response, most).await,
                response => Err(unexpected(url, &response)),
            }
        })
        .await
    }

    async fn fetch_index(&self, copy: Option<Copy>) -> Result<Fetched, Error> {
        let fetch = retrying(&self.access.retry, || self.try_index(copy.as_ref()));
        let fetched = match tokio::time::timeout(INDEX_WITHIN, fetch).await {
            Ok(fetched) => fetched,
            Err(_) => Err(Failure::NoAnswer { host: authority(&self.index), after: INDEX_WITHIN }),
        };
        fetched.unwrap_or_else(|failure| {
            let url = self.index_url();
            Err(Error::ReadIndex { source: Box::new(failure.read_blob(url.clone())), url })
        })
    }

    /// The inner error is one that another try would not change.
    async fn try_index(&self, copy: Option<&Copy>) -> Result<Result<Fetched, Error>, Failure> {
        let _slot = self.access.limits.download().await?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if let Some(Validators { etag, last_modified }) = copy.map(|copy| &copy.validators) {
            let values = [(IF_NONE_MATCH, etag), (IF_MODIFIED_SINCE, last_modified)];
            headers.extend(
                values.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))),
            );
        }
        let response = self.ask(&self.index, headers).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if copy.is_some() => return Ok(Ok(Fetched::Unchanged)),
            _ => return Err(unexpected(&self.index, &response)),
        }
        let header = |name| response.headers().get(name).cloned();
        let validators = Validators { etag: header(ETAG), last_modified: header(LAST_MODIFIED) };
        let index = self.read_index(response).await?;
        Ok(index.map(|index| Fetched::New(index, validators)))
    }

    /// Reads the body while it arrives: the network on this task, inflating and cutting on a thread
    /// that may block.
    async fn read_index(&self, mut response: Response) -> Result<Result<Index, Error>, Failure> {
        let (url, limit) = (self.index_url(), self.access.most_index_bytes);
        let (chunks, mut arriving) = tokio::sync::mpsc::channel::<Option<Bytes>>(4);
        let reading = blocking(move || {
            let mut body = Body::new(Reader::new(&url, limit), limit);
            while let Some(chunk) = arriving.blocking_recv() {
                match chunk {
                    Some(chunk) => body.push(&chunk)?,
                    None => return body.finish(),
                }
            }
            Err(Error::Internal("the index was given up".into()))
        });
        let sending = async {
            while let Some(chunk) = next_chunk(&mut response).await? {
                if chunks.send(Some(chunk)).await.is_err() {
                    // The reader has seen enough: its error is the answer.
                    return Ok(());
                }
            }
            let _ = chunks.send(None).await;
            drop(chunks);
            Ok(())
        };
        let (sent, read): (Result<(), Failure>, _) = tokio::join!(sending, reading);
        sent.map(|()| read)
    }

    /// One request. Error answers are failures; 2xx and 304 are not.
    async fn ask(&self, url: &Url, headers: HeaderMap) -> Result<Response, Failure> {
        let host = authority(&self.base);
        let at_home = same_origin(&self.base, url);
        let slot = self.access.limits.request(&host, self.access.retry.longest).await?;
        let authorization = self.access.credential.basic_header().filter(|_| at_home);
        let anonymous = authorization.is_none();
        let request = Request { headers, authorization, ..Request::get(url.clone()) };
        let response = self.access.transport.send(request).await?;
        drop(slot);
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        if status == StatusCode::TOO_MANY_REQUESTS
            && at_home
            && let Some(wait) = asked_wait(response.headers())
        {
            self.access.limits.pause_for(wait);
        }
        let (answer, _) = read_answer(response, anonymous).await;
        Err(Failure::Answer(Box::new(answer)))
    }
}

/// An index's body: gzip or not, whatever the headers say. Some stores serve `index.yaml` gzipped
/// without saying so.
enum Body {
    Unknown { first: Vec<u8>, reader: Option<Reader>, limit: usize },
    Plain(Reader),
    Gzip { decoder: Box<MultiGzDecoder<Sink>>, left: usize, limit: usize },
}

/// Takes what the decoder gives, and keeps the error that `io::Write` cannot carry.
struct Sink {
    reader: Reader,
    failed: Option<Error>,
}

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.reader.push(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(std::io::Error::other("the index is refused"))
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Body {
    fn new(reader: Reader, limit: usize) -> Self {
        Self::Unknown { first: Vec::new(), reader: Some(reader), limit }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Unknown { first, reader, limit } => {
                first.extend_from_slice(bytes);
                if first.len() < 2 {
                    return Ok(());
                }
                let (first, limit) = (std::mem::take(first), *limit);
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

    fn finish(self) -> Result<Index, Error> {
        match self {
            Self::Unknown { first, reader: Some(mut reader), .. } => {
                reader.push(&first)?;
                reader.finish()
            }
            Self::Unknown { .. } => Err(Error::Internal("an index without reader".into())),
            Self::Plain(reader) => reader.finish(),
            Self::Gzip { mut decoder, .. } => {
                decoder.try_finish().map_err(|error| gzip_error(decoder.get_mut(), &error))?;
                match decoder.finish() {
                    Ok(sink) => sink.reader.finish(),
                    Err(error) => Err(Error::Internal(error.to_string())),
                }
            }
        }
    }
}

fn gzip_error(sink: &mut Sink, error: &std::io::Error) -> Error {
    match sink.failed.take() {
        Some(error) => error,
        None => sink.reader.refuse(format!("its gzip is truncated or damaged: {error}")),
    }
}

/// Work that takes the processor, away from the tasks that wait for the network.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("work on a chart was given up: {error}"))),
    }
}

/// Helm's `ResolveReferenceURL`: absolute as it is; relative to the repository's folder, whose
/// query goes along.
fn resolve(base: &Url, reference: &str) -> Option<Url> {
    if let Ok(mut url) = reference.parse::<Url>() {
        // A credential in an index is everybody's; the request would not carry it anyway.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        return Some(url);
    }
    let mut url = base.join(reference).ok()?;
    let query = match (base.query(), url.query()) {
        (Some(base), Some(own)) if base != own => Some(format!("{own}&{base}")),
        (Some(base), _) => Some(base.to_owned()),
        (None, own) => own.map(str::to_owned),
    };
    url.set_query(query.as_deref());
    Some(url)
}

fn unexpected(url: &Url, response: &Response) -> Failure {
    Failure::Unexpected(format!("{} answers {} to a plain GET", authority(url), response.status()))
}

fn download_error(entry: &Entry, url: String, failure: Failure) -> Error {
    let Entry { chart, version, .. } = entry.clone();
    Error::Download { source: Box::new(failure.read_blob(url.clone())), url, chart, version }
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests;
