//! Pages of a list, decoded object by object while they arrive.
//!
//! kube reads a whole page as one text before it decodes it. A page of 500 objects may have 750 MiB:
//! etcd accepts objects of 1.5 MiB.

mod splitter;

use futures::{AsyncBufRead, AsyncBufReadExt};
use kube::api::ListParams;
use kube::core::{ListMeta, Request};
use kube::{Api, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use splitter::Splitter;

/// The most objects of a page, as in client-go.
const MOST: u32 = 500;
/// The objects of the first page, whose size is not known.
const FIRST: u32 = 32;
/// The size of a page that the number of objects aims at.
const AIM: usize = 8 * 1024 * 1024;

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page<K> {
    pub(super) metadata: ListMeta,
    pub(super) objects: Vec<K>,
    /// The length of its text.
    pub(super) bytes: usize,
}

/// The number of objects to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSize(u32);

impl Default for PageSize {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl PageSize {
    pub(super) const fn get(self) -> u32 {
        self.0
    }

    /// Returns the size of the next page: fewer objects if those of the last page were large, and
    /// at most sixteen times as many as in the last page.
    pub(super) fn after<K>(self, page: &Page<K>) -> Self {
        let average = (page.bytes / page.objects.len().max(1)).max(1);
        let fitting = u32::try_from(AIM / average).unwrap_or(MOST);
        Self(fitting.clamp(1, MOST.min(self.0.saturating_mul(16))))
    }
}

/// Reads a page.
///
/// # Errors
/// As the API server answers, and for a page that breaks off or is not a list.
pub(super) async fn read<K>(api: &Api<K>, params: &ListParams) -> kube::Result<Page<K>>
where
    K: Clone + Resource<DynamicType: Default> + DeserializeOwned + Send + 'static,
{
    let request = Request::new(api.resource_url());
    let request =
        if K::metadata_api() { request.list_metadata(params) } else { request.list(params) };
    let request = request.map_err(kube::Error::BuildRequest)?;
    let client = api.clone().into_client();
    decoded(client.request_stream(request).await?).await
}

/// Decodes the text of a page.
async fn decoded<K: DeserializeOwned>(body: impl AsyncBufRead) -> kube::Result<Page<K>> {
    let mut body = std::pin::pin!(body);
    let mut splitter = Splitter::default();
    let mut objects = Vec::new();
    let mut bytes = 0;

    loop {
        let chunk = body.fill_buf().await.map_err(kube::Error::ReadEvents)?;
        let length = chunk.len();
        if length == 0 {
            break;
        }
        bytes += length;
        let mut chunk = chunk;
        while let Some(object) = splitter.next(&mut chunk) {
            objects.push(serde_json::from_slice(&object).map_err(kube::Error::SerdeError)?);
        }
        body.as_mut().consume(length);
    }

    let rest: Rest = serde_json::from_slice(&splitter.rest()).map_err(kube::Error::SerdeError)?;
    Ok(Page { metadata: rest.metadata, objects, bytes })
}

/// The text of a page without its objects.
#[derive(Deserialize)]
struct Rest {
    #[serde(default)]
    metadata: ListMeta,
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, TryStreamExt, stream};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use serde_json::json;

    use super::super::guarded::Guarded;
    use super::*;

    /// Decodes a page that arrives in these chunks.
    fn in_chunks<K: DeserializeOwned>(chunks: Vec<Vec<u8>>) -> kube::Result<Page<K>> {
        let chunks = stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        decoded(chunks.into_async_read()).now_or_never().expect("all has arrived")
    }

    fn in_parts<K: DeserializeOwned>(parts: &[&str]) -> kube::Result<Page<K>> {
        let parts = parts.iter().filter(|part| !part.is_empty());
        in_chunks(parts.map(|part| part.as_bytes().to_vec()).collect())
    }

    #[test]
    fn a_page_is_read_from_any_chunks() {
        let text = json!({
            "kind": "ConfigMapList",
            "metadata": {"resourceVersion": "7", "continue": "next"},
            "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}, "data": {"c": "d"}}],
            "other": [[1]],
        });
        let text = text.to_string();
        for at in 0..text.len() {
            let page: Page<ConfigMap> = in_parts(&[&text[..at], &text[at..]]).unwrap();
            let names: Vec<_> = page.objects.iter().map(ConfigMap::name_any).collect();
            assert_eq!((names, page.bytes), (vec!["a".to_owned(), "b".to_owned()], text.len()));
            assert_eq!(page.metadata.continue_.as_deref(), Some("next"));
        }
        for cut in [0, 1, text.len() / 2, text.len() - 1] {
            assert!(in_parts::<ConfigMap>(&[&text[..cut]]).is_err(), "{cut}");
        }
        assert!(in_parts::<ConfigMap>(&[r#"{"items": null}"#]).unwrap().objects.is_empty());
        for (text, is_list) in [
            (r#"{"items" : [ ] }"#, true),
            (r#"{"other": {"items": [1]}, "items": [{"metadata": {"name": "]}\\\""}}]}"#, true),
            (r#"{"items": [{"metadata": {"name": "a"}}]"#, false),
            (r#"{"items": [{"metadata": }]}"#, false),
            (r#"{"items": ["a"]}"#, false),
            (r#"{"items": [{}]} {}"#, false),
            (r#"{"items": [{}]}}"#, false),
        ] {
            let page = in_parts::<ConfigMap>(&[text]);
            assert_eq!(page.is_ok(), is_list, "{text} {page:?}");
        }
    }

    /// 500 objects of 100 kB: of the page, one object is in memory as text.
    #[test]
    fn a_page_is_dropped_object_by_object() {
        let object = json!({"metadata": {"name": "a"}, "unknown": "x".repeat(100_000)});
        let page = json!({"metadata": {}, "items": vec![object; 500]}).to_string();
        let chunks = page.as_bytes().chunks(8192).map(<[u8]>::to_vec).collect::<Vec<_>>();
        drop(page);
        let mut count = 0;
        let measured = allocation_counter::measure(|| {
            count = in_chunks::<Guarded<ConfigMap>>(chunks).unwrap().objects.len();
        });
        assert_eq!(count, 500);
        assert!(measured.bytes_max < 2_000_000, "{measured:?}");
    }

    #[test]
    fn the_next_page_has_fewer_objects_if_they_are_large() {
        let page = |objects: usize, bytes: usize| {
            let objects = vec![(); objects];
            Page { metadata: ListMeta::default(), objects, bytes }
        };
        for (size, page, next) in [
            (FIRST, page(32, 32 * 3000), 500),
            (FIRST, page(32, 32 * 1_500_000), 5),
            (5, page(5, 5 * 1_500_000), 5),
            (5, page(5, 5 * 3000), 80),
            (80, page(80, 80 * 3000), 500),
            (FIRST, page(0, 100), 500),
            (FIRST, page(1, 100_000_000), 1),
        ] {
            assert_eq!(PageSize(size).after(&page).get(), next, "{size} {}", page.bytes);
        }
    }
}
