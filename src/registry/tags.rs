//! Tag lists, page by page: `tags/list` and the `Link` header.

use std::collections::HashSet;

use bytes::Bytes;
use reqwest::header::LINK;
use reqwest::{Method, Response, Url};

use super::addresses::authority;
use super::auth::Scope;
use super::bodies::{BODY_PER_BYTE, Bound};
use super::cause::Cause;
use super::client::{Call, Client};
use super::error::Error;
use super::retry::retrying;
use super::tag_list::{Collector, TagList};
use crate::hash::hash;
use crate::memory_budget::{Document, Need};
use crate::place;

/// ECR's maximum (google/go-containerregistry#681).
const PAGE: u32 = 1000;
/// Enough for a million tags from a server that ignores `n` and sends a hundred at a time.
const MAX_PAGES: usize = 10_000;
/// Enough for 100,000 tags of full length, from a server that does not page.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;
/// The memory of a page: its tags are reserved one by one (see [`Collector`]).
const PAGE_NEED: Need = Need { fixed: 64 * 1024, per_byte: BODY_PER_BYTE, parsed: (0, 0) };

impl Client {
    /// Lists all tags of a repository, in the registry's order, each once. Names that are not valid
    /// tags are left out: they cannot be requested. A list that cannot be read to its end is an
    /// error: pruning by half a list would delete wanted tags.
    ///
    /// # Errors
    /// [`Error::ReadTags`].
    pub(crate) async fn tags(&self, repository: &str) -> Result<TagList, Error> {
        self.read_tags(repository).await.map_err(|failure| Error::ReadTags {
            subject: self.name(repository),
            source: Box::new(failure),
        })
    }

    async fn read_tags(&self, repository: &str) -> Result<TagList, Cause> {
        let mut url = self.url(repository, "tags/list")?;
        url.query_pairs_mut().append_pair("n", &PAGE.to_string());
        let mut tags = Collector::new(self.budget());
        let mut pages = Pages::default();

        loop {
            let scope = Scope::pull(repository);
            let Page { body, memory, next } =
                self.page(url, scope, PAGE_NEED, MAX_PAGE_BYTES).await?;
            tags.read(&body)?;
            // Before the next page is waited for.
            drop((body, memory));

            match next {
                Some(next) => url = pages.next(next)?,
                None => return Ok(tags.finish()),
            }
        }
    }

    /// Reads one page of a list.
    pub(super) async fn page(
        &self,
        url: Url,
        scope: Scope,
        need: Need,
        limit: usize,
    ) -> Result<Page, Cause> {
        let call = Call::new(Method::GET, url, scope);
        let read = retrying(&self.options().retry, || async {
            let response = self.attempt(&call).await?;
            let next = next_page(&call.url, &response)?;
            let bound = Bound::new(self.budget(), need, limit);
            let bound = Bound { silence: self.options().stall_window, ..bound };
            let (body, memory) = bound.read(response).await?;
            Ok(Page { body, memory, next })
        });
        place::waiting(Some(self.host()), read).await
    }
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) body: Bytes,
    /// The memory for the page while it is parsed.
    pub(super) memory: Document,
    /// The address of the next page.
    pub(super) next: Option<Url>,
}

/// The pages of a list read so far: a guard against lists without an end.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Hashes of their addresses, which may be long.
    seen: HashSet<u64>,
}

impl Pages {
    pub(super) fn next(&mut self, next: Url) -> Result<Url, Cause> {
        if !self.seen.insert(hash(next.as_str())) {
            return Err(Cause::Unexpected(
                "the list links back to a page that was already read".into(),
            ));
        }
        if self.seen.len() >= MAX_PAGES {
            return Err(Cause::Unexpected(format!("the list has more than {MAX_PAGES} pages")));
        }
        Ok(next)
    }
}

fn next_page(asked: &Url, response: &Response) -> Result<Option<Url>, Cause> {
    let headers = response.headers().get_all(LINK);
    let Some(link) = headers.iter().filter_map(|value| value.to_str().ok()).find_map(next_link)
    else {
        return Ok(None);
    };
    resolve(asked, link).map(Some)
}

/// Resolves the link to the next page. It stays on the registry that was asked, with its scheme and
/// port: a proxy in front of the registry may have written others.
pub(super) fn resolve(asked: &Url, link: &str) -> Result<Url, Cause> {
    let Ok(target) = asked.join(link) else {
        return Err(Cause::Unexpected("the link to the next page is not a URL".into()));
    };
    if target.host_str() != asked.host_str() {
        let host = authority(&target);
        return Err(Cause::Unexpected(format!(
            "the link to the next page leads to another host, {host}"
        )));
    }

    let mut next = asked.clone();
    next.set_path(target.path());
    next.set_query(target.query());
    next.set_fragment(None);
    Ok(next)
}

/// Finds the target of `rel=next` in a `Link` header: `<…>; rel="next"`, with or without quotes,
/// and among other links.
pub(crate) fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let start = rest.find('<')? + 1;
        let end = start + rest[start..].find('>')?;
        let target = &rest[start..end];
        rest = &rest[end + 1..];

        let params = &rest[..rest.find('<').unwrap_or(rest.len())];
        let is_next = params.split([';', ',']).any(|param| {
            param.split_once('=').is_some_and(|(key, value)| {
                let value = value.trim().trim_matches(['"', '\'']);
                key.trim().eq_ignore_ascii_case("rel")
                    && value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_all_shapes_are_read() {
        for (header, target) in [
            (r#"</v2/a/tags/list?last=b&n=1>; rel="next""#, Some("/v2/a/tags/list?last=b&n=1")),
            ("</x>;rel=next", Some("/x")),
            ("</x> ; REL='Next'", Some("/x")),
            (r#"</p>; rel="prev", </n>; rel="next""#, Some("/n")),
            (r#"</n>; title="a"; rel="last next""#, Some("/n")),
            (r#"</p>; rel="prev""#, None),
            ("</x>", None),
            ("", None),
            ("<", None),
            ("rel=next", None),
        ] {
            assert_eq!(next_link(header), target, "{header}");
        }
    }

    #[test]
    fn next_pages_stay_on_the_registry() {
        let asked: Url = "https://r.example:444/v2/a/tags/list?n=1000".parse().unwrap();
        for (link, next) in [
            ("/v2/a/tags/list?last=x", Some("https://r.example:444/v2/a/tags/list?last=x")),
            ("list?last=x", Some("https://r.example:444/v2/a/tags/list?last=x")),
            ("?last=x", Some("https://r.example:444/v2/a/tags/list?last=x")),
            ("https://r.example:444/v2/b", Some("https://r.example:444/v2/b")),
            ("http://r.example/v2/b", Some("https://r.example:444/v2/b")),
            ("https://evil.example/v2/b", None),
            ("//evil.example/v2/b", None),
        ] {
            assert_eq!(resolve(&asked, link).ok().as_ref().map(Url::as_str), next, "{link}");
        }
    }
}
