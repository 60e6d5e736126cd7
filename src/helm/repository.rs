//! Requests to a classic HTTP chart repository: its index, archives and provenance files, and the
//! hosts that the index may point to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use reqwest::header::{
    ACCEPT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Response, StatusCode, Url};

use super::archive::MAX_BYTES;
use super::body::Body;
use super::index::Reader;
use super::indexes::{CachedIndex, Fetched, Validators};
use super::{ChartVersions, Entry, Error, Index, Indexes};
use crate::class::Class;
use crate::hash::Fingerprint;
use crate::memory_budget::{Budget, Need, Shortage};
use crate::place;
use crate::registry::{
    AllowedHosts, BODY_PER_BYTE, Bound, Cause, Credential, Digest, Limits, Request, RetryPolicy,
    Transport, TransportOptions, asked_wait, authority, foreign_answer, is_link_local, next_chunk,
    read_answer, retrying, same_origin,
};

/// Bitnami's index, one of the largest, has 26 MB.
const MAX_INDEX_BYTES: usize = 100 * 1024 * 1024;
/// A provenance file contains `Chart.yaml` and a signature.
const MAX_PROVENANCE_BYTES: usize = 1024 * 1024;
/// The memory to cut an index into charts: its longest line, and the states of the codecs.
const READER_BYTES: usize = 256 * 1024;
/// The memory to parse a few versions of a chart.
const CHART_BYTES: usize = 64 * 1024;
/// The memory of a body that is not parsed.
const BODY_NEED: Need = Need { fixed: 64 * 1024, per_byte: BODY_PER_BYTE, parsed: (0, 0) };
/// The longest time for an index: a server that sends a byte now and then must not block the
/// others.
const INDEX_TIMEOUT: Duration = Duration::from_secs(300);

/// The login, connections and bounds for a repository.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Name and password; sent to the repository's host only.
    pub credential: Credential,
    /// Connections.
    pub transport: Transport,
    /// The options of the transport: resources share an index only if these are equal.
    pub trust: TransportOptions,
    /// The limits of the repository's host.
    pub limits: Arc<Limits>,
    /// Hosts that the index may point to besides the repository's own; all hosts if `None`.
    pub hosts: Option<Arc<AllowedHosts>>,
    /// Retries of requests.
    pub retry: RetryPolicy,
    /// The largest index that is read, before and after decompression.
    pub max_index_bytes: usize,
}

impl Connection {
    /// Creates a connection with the default bounds.
    #[must_use]
    pub fn new(transport: Transport, trust: TransportOptions, credential: Credential) -> Self {
        Self {
            credential,
            transport,
            trust,
            limits: Arc::default(),
            hosts: None,
            retry: RetryPolicy::default(),
            max_index_bytes: MAX_INDEX_BYTES,
        }
    }
}

/// A chart repository with one credential.
#[derive(Debug)]
pub struct Repository {
    /// With a slash at the end of its path.
    base: Url,
    index: Url,
    access: Connection,
    indexes: Arc<Indexes>,
}

/// A chart archive. Its digest is that of the index, if the index has one.
#[derive(Clone, PartialEq, Eq)]
pub struct Archive {
    /// The bytes, unchanged.
    pub bytes: Bytes,
    /// The digest of the bytes.
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
    /// The URL of the archive, without query.
    #[must_use]
    pub fn url(&self) -> String {
        redacted(&self.url)
    }

    /// The error for an archive that the memory budget does not allow to read.
    pub(crate) fn no_memory(&self, source: Shortage) -> Error {
        Error::Memory { subject: self.url(), source }
    }

    /// The error for an archive that cannot be used.
    #[must_use]
    pub fn rejected(&self, why: &super::archive::Error) -> Error {
        if let super::archive::Error::Memory(shortage) = why {
            return self.no_memory(*shortage);
        }
        unusable(&self.entry, &self.url, Class::SourceInvalid, format!("cannot be used: {why}"))
    }
}

impl Repository {
    /// Creates a repository at `url`, without sending a request.
    ///
    /// # Errors
    /// Class `InvalidSpec` if `url` is not the address of a chart repository.
    pub fn new(url: &str, access: Connection, indexes: Arc<Indexes>) -> Result<Self, Error> {
        let mut base: Url = url.parse().map_err(|_| {
            Error::Address("the address of the chart repository is not a URL".into())
        })?;
        let wrong = |base: &Url, why: &str| Error::Address(format!("{} {why}", redacted(base)));
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            let why = "is not the http:// or https:// address of a chart repository";
            return Err(wrong(&base, why));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong(&base, "contains a credential; put it into a Secret"));
        }
        if matches!(access.credential, Credential::IdentityToken(_)) {
            return Err(wrong(&base, "needs a name and a password, not an identity token"));
        }

        base.set_fragment(None);
        // Like Helm's ResolveReferenceURL: the address is a folder, and its query is kept.
        let folder = format!("{}/", base.path().trim_end_matches('/'));
        base.set_path(&folder);
        let index = resolve(&base, "index.yaml")
            .ok_or_else(|| wrong(&base, "is not the address of a chart repository"))?;
        Ok(Self { base, index, access, indexes })
    }

    /// The URL of the index, without query, for messages and status.
    #[must_use]
    pub fn index_url(&self) -> String {
        redacted(&self.index)
    }

    /// Returns the index, or a cached copy that was confirmed within `max_age`. With an age of zero
    /// it is confirmed by a request that is sent after this call; callers at the same time share
    /// it.
    ///
    /// # Errors
    /// [`Error::ReadIndex`], [`Error::WebPage`], [`Error::NotAnIndex`]; a failed fetch is an error
    /// for all callers that waited for it.
    pub async fn index(&self, max_age: Duration) -> Result<Arc<Index>, Error> {
        let Connection { credential, trust, .. } = &self.access;
        let key = Fingerprint::of((self.index.as_str(), credential, trust));
        let index = self.indexes.get(key, max_age, |copy| self.fetch_index(copy));
        place::waiting(Some(&authority(&self.base)), index).await
    }

    /// Reads the versions of one chart.
    ///
    /// # Errors
    /// As [`Self::index`] and [`Index::chart`].
    pub async fn versions(&self, chart: &str, max_age: Duration) -> Result<ChartVersions, Error> {
        let index = self.index(max_age).await?;
        let memory = self.budget().document(CHART_BYTES).await;
        let mut memory = memory.map_err(|source| Error::Memory {
            subject: format!("the versions of chart {chart} in {}", self.index_url()),
            source,
        })?;

        let chart = chart.to_owned();
        blocking(move || index.chart_within(&chart, &mut |bytes| memory.grow_blocking(bytes))).await
    }

    /// The memory budget for documents of the repository.
    pub(crate) fn budget(&self) -> &Budget {
        self.access.transport.budget()
    }

    /// Downloads the archive of a version. Its URLs are tried in order.
    ///
    /// # Errors
    /// That of the first URL, if none works.
    pub async fn download(&self, entry: &Entry) -> Result<Archive, Error> {
        let mut first_error = None;
        for url in &entry.urls {
            if url.starts_with("oci://") {
                let Entry { chart, version, .. } = entry.clone();
                return Err(Error::Oci { url: url.clone(), chart, version });
            }
            match self.download_from(entry, url).await {
                Ok(archive) => return Ok(archive),
                Err(error) => {
                    tracing::debug!(%error, "cannot download the chart from this URL");
                    first_error.get_or_insert(error);
                }
            }
        }

        Err(first_error.unwrap_or_else(|| {
            let failure = Cause::Unreadable("the index has no URL for it".into());
            download_error(entry, self.index_url(), failure)
        }))
    }

    /// Reads the provenance file of an archive; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Download`], also for an answer that is not a provenance file.
    pub async fn provenance(&self, archive: &Archive) -> Result<Option<Bytes>, Error> {
        let mut url = archive.url.clone();
        url.set_path(&format!("{}.prov", url.path()));
        let read = self.read(&url, MAX_PROVENANCE_BYTES).await;
        match read.and_then(|bytes| Ok(self.budget().keep(bytes)?)) {
            // helm package --sign writes a clear-signed message.
            Ok(bytes)
                if bytes.trim_ascii_start().starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----") =>
            {
                Ok(Some(bytes))
            }
            Ok(_) => {
                let failure = Cause::Unreadable("it is not a provenance file".into());
                Err(download_error(&archive.entry, redacted(&url), failure))
            }
            Err(Cause::Answer(answer)) if matches!(answer.status.as_u16(), 404 | 410) => Ok(None),
            Err(failure) => Err(download_error(&archive.entry, redacted(&url), failure)),
        }
    }

    async fn download_from(&self, entry: &Entry, url: &str) -> Result<Archive, Error> {
        let failed =
            |url: String, why: &str| download_error(entry, url, Cause::Unreadable(why.into()));
        let Some(url) = resolve(&self.base, url) else {
            return Err(failed(url.to_owned(), "it is not a URL"));
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(failed(redacted(&url), "only http, https and oci URLs are supported"));
        }
        if is_link_local(&url) && !is_link_local(&self.base) {
            return Err(failed(redacted(&url), "link-local addresses are not allowed"));
        }
        let hosts = self.access.hosts.as_ref().filter(|_| !same_origin(&self.base, &url));

        if let Some(hosts) = hosts.filter(|hosts| !hosts.contains(&authority(&url))) {
            let why = format!(
                "is on another host, which is not allowed: allow it in {}",
                hosts.written_in
            );
            return Err(unusable(entry, &url, Class::AccessDenied, why));
        }

        if self.base.scheme() == "https" && url.scheme() == "http" && entry.digest.is_none() {
            return Err(failed(
                redacted(&url),
                "the URL is http, the repository is https, and the index has no digest to check",
            ));
        }

        let bytes = self
            .read(&url, MAX_BYTES)
            .await
            .and_then(|bytes| Ok(self.budget().keep(bytes)?))
            .map_err(|failure| download_error(entry, redacted(&url), failure))?;

        let (digest, bytes) = blocking(move || Ok((Digest::sha256_of(&bytes), bytes))).await?;
        match &entry.digest {
            Some(expected) if *expected != digest => {
                // The digest of what any server sent is not for a tenant: it would confirm a guess.
                let why = format!("does not have the digest {expected} of the index");
                Err(unusable(entry, &url, Class::SourceInvalid, why))
            }
            _ => Ok(Archive { bytes, digest, url, entry: entry.clone() }),
        }
    }

    /// Reads a whole body of at most `limit` bytes.
    async fn read(&self, url: &Url, limit: usize) -> Result<Bytes, Cause> {
        let read = retrying(&self.access.retry, || async {
            let _slot = self.access.limits.download().await?;
            let mut headers = HeaderMap::new();
            // Archives are already gzip, and their bytes must not change.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            match self.ask(url, headers).await? {
                response if response.status() == StatusCode::OK => {
                    let bound = Bound::new(self.budget(), BODY_NEED, limit);
                    let (bytes, _memory) = bound.read(response).await?;
                    Ok(bytes)
                }
                response => Err(unexpected(url, &response)),
            }
        });
        place::waiting(Some(&authority(&self.base)), read).await
    }

    async fn fetch_index(&self, copy: Option<CachedIndex>) -> Result<Fetched, Error> {
        let fetch = retrying(&self.access.retry, || self.try_index(copy.as_ref()));
        let fetched = match tokio::time::timeout(INDEX_TIMEOUT, fetch).await {
            Ok(fetched) => fetched,
            Err(_) => Err(Cause::NoAnswer { host: authority(&self.index), after: INDEX_TIMEOUT }),
        };
        fetched.unwrap_or_else(|failure| {
            let url = self.index_url();
            Err(Error::ReadIndex { source: Box::new(failure.read_blob(url.clone())), url })
        })
    }

    /// Makes one try. A retry would not change the inner error.
    async fn try_index(&self, copy: Option<&CachedIndex>) -> Result<Result<Fetched, Error>, Cause> {
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

    /// Reads the body while it arrives: the network on this task, decompressing and cutting on a
    /// thread that may block.
    async fn read_index(&self, mut response: Response) -> Result<Result<Index, Error>, Cause> {
        let url = self.index_url();
        let limit = self.access.max_index_bytes;
        let mut memory = self.budget().document(READER_BYTES).await?;
        let results = self.budget().results();
        let (chunks, mut receiver) = tokio::sync::mpsc::channel::<Option<Bytes>>(4);
        let reading = blocking(move || {
            let mut body = Body::new(Reader::new(&url, limit, results), limit);
            while let Some(chunk) = receiver.blocking_recv() {
                match chunk {
                    Some(chunk) => body.push(&chunk)?,
                    None => return body.end().map(|need| (body, need)),
                }
            }
            Err(Error::Internal("reading the index was cancelled".into()))
        });

        let sending = async {
            while let Some(chunk) = next_chunk(&mut response).await? {
                if chunks.send(Some(chunk)).await.is_err() {
                    // The reader stopped with an error, which is the result.
                    return Ok(());
                }
            }
            let _ = chunks.send(None).await;
            drop(chunks);
            Ok(())
        };
        let (sent, read): (Result<(), Cause>, _) = tokio::join!(sending, reading);
        sent?;

        let (body, need) = match read {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        memory.grow(need).await?;
        let index = blocking(move || body.finish()).await;
        drop(memory);
        Ok(index)
    }

    /// Sends one request. Error answers are failures; 2xx and 304 are not.
    async fn ask(&self, url: &Url, headers: HeaderMap) -> Result<Response, Cause> {
        let host = authority(&self.base);
        let is_own_host = same_origin(&self.base, url);
        let slot = self.access.limits.request(&host, self.access.retry.longest).await?;
        let authorization = self.access.credential.basic_header().filter(|_| is_own_host);
        let anonymous = authorization.is_none();
        let request = Request { headers, authorization, ..Request::get(url.clone()) };

        let attempt = self.access.limits.admit()?;
        let sent = self.access.transport.send(request).await;
        let response = attempt.settle(&host, sent)?;
        drop(attempt);
        drop(slot);

        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        if status == StatusCode::TOO_MANY_REQUESTS
            && is_own_host
            && let Some(wait) = asked_wait(response.headers())
        {
            self.access.limits.pause_for(wait);
        }
        if !same_origin(&self.base, response.url()) {
            let host = Some(authority(response.url()));
            return Err(Cause::Answer(Box::new(foreign_answer(&response, host))));
        }
        let (answer, _) = read_answer(response, anonymous).await;
        Err(Cause::Answer(Box::new(answer)))
    }
}

/// Runs CPU-bound work on a thread that may block, away from the tasks that wait for the network.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("work on a chart was cancelled: {error}"))),
    }
}

/// Helm's `ResolveReferenceURL`: an absolute URL is kept; a relative one is resolved in the
/// repository's folder and gets the repository's query.
fn resolve(base: &Url, reference: &str) -> Option<Url> {
    if let Ok(mut url) = reference.parse::<Url>() {
        // A credential in an index is public, and the request would not send it.
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

fn unexpected(url: &Url, response: &Response) -> Cause {
    Cause::Unexpected(format!("{} answered {} to a plain GET", authority(url), response.status()))
}

fn unusable(entry: &Entry, url: &Url, class: Class, why: String) -> Error {
    let Entry { chart, version, .. } = entry.clone();
    Error::Unusable { url: redacted(url), chart, version, why, class }
}

fn download_error(entry: &Entry, url: String, failure: Cause) -> Error {
    let Entry { chart, version, .. } = entry.clone();
    Error::Download { source: Box::new(failure.read_blob(url.clone())), url, chart, version }
}

/// Removes the parts of a URL that may be secret.
fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests;
