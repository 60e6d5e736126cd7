//! Tag lists, page by page: `tags/list` and the `Link` header.

use std::collections::HashSet;

use reqwest::header::LINK;
use reqwest::{Method, Response, Url};
use serde::Deserialize;

use super::addresses::authority;
use super::auth::Scope;
use super::bodies::read_body_within;
use super::cause::Cause;
use super::client::{Call, Client};
use super::error::Error;
use super::json::object;
use super::reference::Tag;
use super::retry::retrying;
use crate::place;

/// ECR's maximum (google/go-containerregistry#681).
const PAGE: u32 = 1000;
/// Enough for a million tags from a server that ignores `n` and sends a hundred at a time.
const MAX_PAGES: usize = 10_000;
/// The most tags of a list: some times more than the longest lists that are known.
const MAX_TAGS: usize = 250_000;
/// Enough for 100,000 tags of full length, from a server that does not page.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct Page {
    // Go writes an empty list as null.
    tags: Option<Vec<String>>,
}

impl Client {
    /// Lists all tags of a repository, in the registry's order, each once. Names that are not valid
    /// tags are left out: they cannot be requested. A list that cannot be read to its end is an
    /// error: pruning by half a list would delete wanted tags.
    ///
    /// # Errors
    /// [`Error::ReadTags`].
    pub(crate) async fn tags(&self, repository: &str) -> Result<Vec<Tag>, Error> {
        self.read_tags(repository).await.map_err(|failure| Error::ReadTags {
            subject: self.name(repository),
            source: Box::new(failure),
        })
    }

    async fn read_tags(&self, repository: &str) -> Result<Vec<Tag>, Cause> {
        let mut url = self.url(repository, "tags/list")?;
        url.query_pairs_mut().append_pair("n", &PAGE.to_string());
        let mut tags = Vec::new();
        let mut unique = HashSet::new();
        let mut pages = Pages::default();

        loop {
            let (body, next) = self.page(url, Scope::pull(repository), MAX_PAGE_BYTES).await?;
            let names = read_page(&body)?.into_iter().filter_map(|name| name.parse().ok());
            tags.extend(names.filter(|tag: &Tag| unique.insert(tag.clone())));
            if tags.len() > MAX_TAGS {
                return Err(Cause::Unreadable(format!("the list has more than {MAX_TAGS} tags")));
            }
            match next {
                Some(next) => url = pages.next(next)?,
                None => return Ok(tags),
            }
        }
    }

    /// Reads one page of a list, and the address of the next page.
    pub(crate) async fn page(
        &self,
        url: Url,
        scope: Scope,
        limit: usize,
    ) -> Result<(bytes::Bytes, Option<Url>), Cause> {
        let call = Call::new(Method::GET, url, scope);
        let read = retrying(&self.options().retry, || async {
            let response = self.attempt(&call).await?;
            let next = next_page(&call.url, &response)?;
            Ok((read_body_within(response, limit, self.options().stall_window).await?, next))
        });
        place::waiting(Some(self.host()), read).await
    }
}

/// Parses the tags of one page.
pub(super) fn read_page(body: &[u8]) -> Result<Vec<String>, Cause> {
    let page: Page =
        object(body).map_err(|e| Cause::Unreadable(format!("it is not a list of tags: {e}")))?;
    Ok(page.tags.unwrap_or_default())
}

/// The pages of a list read so far: a guard against lists without an end.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    seen: HashSet<String>,
}

impl Pages {
    pub(crate) fn next(&mut self, next: Url) -> Result<Url, Cause> {
        if !self.seen.insert(next.as_str().to_owned()) {
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
