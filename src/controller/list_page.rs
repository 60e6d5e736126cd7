//! Pages of a list, decoded object by object while they arrive.
//!
//! kube reads a whole page as one text before it decodes it. A page of 500 objects may have 750 MiB:
//! etcd accepts objects of 1.5 MiB.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::marker::PhantomData;

use futures::{AsyncBufRead, AsyncBufReadExt};
use kube::api::ListParams;
use kube::core::{ListMeta, Request};
use kube::{Api, Resource};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess};
use serde::de::{SeqAccess, Visitor};
use tokio::sync::mpsc;

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
    let body = client.request_stream(request).await?;

    let (chunks, receiver) = mpsc::channel(4);
    let decoding = tokio::task::spawn_blocking(move || decode(Chunks::new(receiver)));
    let sent = send(body, chunks).await;
    let page = decoding.await.map_err(|error| kube::Error::ReadEvents(io::Error::other(error)))?;
    sent.map_err(kube::Error::ReadEvents)?;
    page.map_err(kube::Error::SerdeError)
}

async fn send(body: impl AsyncBufRead, chunks: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut body = std::pin::pin!(body);
    loop {
        let chunk = body.fill_buf().await?.to_vec();
        body.as_mut().consume(chunk.len());
        // An error of the decoder, which has dropped the receiver, is the result.
        if chunk.is_empty() || chunks.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}

/// The chunks of a body as they arrive, for a thread that may block.
struct Chunks {
    receiver: mpsc::Receiver<Vec<u8>>,
    chunk: io::Cursor<Vec<u8>>,
    bytes: usize,
}

impl Chunks {
    fn new(receiver: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { receiver, chunk: io::Cursor::default(), bytes: 0 }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = self.chunk.read(buffer)?;
        while length == 0 && !buffer.is_empty() {
            let Some(chunk) = self.receiver.blocking_recv() else { break };
            self.chunk = io::Cursor::new(chunk);
            length = self.chunk.read(buffer)?;
        }
        self.bytes += length;
        Ok(length)
    }
}

fn decode<K: DeserializeOwned>(mut chunks: Chunks) -> serde_json::Result<Page<K>> {
    let mut document = serde_json::Deserializer::from_reader(BufReader::new(&mut chunks));
    let (metadata, objects) = document.deserialize_map(List(PhantomData))?;
    document.end()?;
    drop(document);
    Ok(Page { metadata, objects, bytes: chunks.bytes })
}

/// The document of a list.
struct List<K>(PhantomData<K>);

impl<'de, K: DeserializeOwned> Visitor<'de> for List<K> {
    type Value = (ListMeta, Vec<K>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut metadata = ListMeta::default();
        let mut objects = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => metadata = map.next_value()?,
                "items" => map.next_value_seed(Items(&mut objects))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok((metadata, objects))
    }
}

/// The objects of a list; `null` for none.
struct Items<'a, K>(&'a mut Vec<K>);

impl<'de, K: DeserializeOwned> DeserializeSeed<'de> for Items<'_, K> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, K: DeserializeOwned> Visitor<'de> for Items<'_, K> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(object) = seq.next_element()? {
            self.0.push(object);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use serde_json::json;

    use super::super::guarded::Guarded;
    use super::*;

    fn decoded<K: DeserializeOwned>(chunks: &[&str]) -> serde_json::Result<Page<K>> {
        let (sender, receiver) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender.try_send(chunk.as_bytes().to_vec()).expect("room");
        }
        drop(sender);
        decode(Chunks::new(receiver))
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
            let page: Page<ConfigMap> = decoded(&[&text[..at], &text[at..]]).unwrap();
            let names: Vec<_> = page.objects.iter().map(ConfigMap::name_any).collect();
            assert_eq!((names, page.bytes), (vec!["a".to_owned(), "b".to_owned()], text.len()));
            assert_eq!(page.metadata.continue_.as_deref(), Some("next"));
        }
        for cut in [0, 1, text.len() / 2, text.len() - 1] {
            assert!(decoded::<ConfigMap>(&[&text[..cut]]).is_err(), "{cut}");
        }
        assert!(decoded::<ConfigMap>(&[r#"{"items": null}"#]).unwrap().objects.is_empty());
    }

    /// 500 objects of 100 kB: of the page, one object is in memory as text.
    #[test]
    fn a_page_is_dropped_object_by_object() {
        let object = json!({"metadata": {"name": "a"}, "unknown": "x".repeat(100_000)});
        let page = json!({"metadata": {}, "items": vec![object; 500]}).to_string();
        let (sender, receiver) = mpsc::channel(10_000);
        for chunk in page.as_bytes().chunks(8192) {
            sender.try_send(chunk.to_vec()).expect("room");
        }
        drop((sender, page));
        let mut count = 0;
        let measured = allocation_counter::measure(|| {
            count = decode::<Guarded<ConfigMap>>(Chunks::new(receiver)).unwrap().objects.len();
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
