//! The tags of a list, collected page by page within the memory budget.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::cause::Cause;
use super::json;
use super::reference::Tag;
use crate::memory_budget::{Budget, Results};

/// The most tags of a list: some times more than the longest lists that are known.
const MAX_TAGS: usize = 250_000;
/// Memory of a tag besides its text, while it is collected and while tags are selected: in the list,
/// in the set of known tags, in the list of candidates, in the map of what the source offers.
pub(super) const TAG_BYTES: usize = 144;
/// Tags for which memory is reserved at once.
const STEP: usize = 16;

/// All tags of a repository.
#[derive(Clone, Debug)]
pub(crate) struct TagList {
    /// The tags, in the registry's order, each once.
    pub(crate) tags: Vec<Tag>,
    /// The memory of the tags, which whoever takes them keeps as long as them.
    pub(crate) memory: Arc<Results>,
}

impl Deref for TagList {
    type Target = [Tag];

    fn deref(&self) -> &[Tag] {
        &self.tags
    }
}

/// Collects tags, each once.
#[derive(Debug)]
pub(super) struct Collector {
    tags: Vec<Tag>,
    known: HashSet<Tag>,
    memory: Results,
    /// Bytes that are used of the reserved ones.
    used: usize,
    failure: Option<Cause>,
}

impl Collector {
    pub(super) fn new(budget: &Budget) -> Self {
        let memory = budget.results();
        Self { tags: Vec::new(), known: HashSet::new(), memory, used: 0, failure: None }
    }

    /// Reads one page, tag by tag. Names that are not valid tags are left out.
    pub(super) fn read(&mut self, body: &[u8]) -> Result<(), Cause> {
        let read = json::checked(body).and_then(|()| {
            let mut document = serde_json::Deserializer::from_slice(body);
            let read = document.deserialize_map(Page(self)).and_then(|()| document.end());
            read.map_err(|error| json::position(&error))
        });
        match (self.failure.take(), read) {
            (Some(failure), _) => Err(failure),
            (None, Ok(())) => Ok(()),
            (None, Err(why)) => Err(Cause::Unreadable(format!("it is not a list of tags: {why}"))),
        }
    }

    fn add(&mut self, name: &str) -> Result<(), Cause> {
        let Ok(tag) = name.parse::<Tag>() else { return Ok(()) };
        if self.known.contains(&tag) {
            return Ok(());
        }
        if self.tags.len() == MAX_TAGS {
            return Err(Cause::Unreadable(format!("the list has more than {MAX_TAGS} tags")));
        }

        self.used += TAG_BYTES + name.len();
        if self.used > self.memory.bytes() {
            self.memory.add(self.used - self.memory.bytes() + STEP * TAG_BYTES)?;
        }
        self.known.insert(tag.clone());
        self.tags.push(tag);
        Ok(())
    }

    pub(super) fn finish(self) -> TagList {
        TagList { tags: self.tags, memory: Arc::new(self.memory) }
    }
}

/// The document of a page: `{"tags": ["1.27", …]}`.
struct Page<'a>(&'a mut Collector);

impl<'de> Visitor<'de> for Page<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `tags`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut has_tags = false;
        while let Some(key) = map.next_key::<String>()? {
            if key != "tags" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if std::mem::replace(&mut has_tags, true) {
                return Err(de::Error::duplicate_field("tags"));
            }
            map.next_value_seed(Tags(self.0))?;
        }
        Ok(())
    }
}

/// The list of names. Go writes an empty list as null.
struct Tags<'a>(&'a mut Collector);

impl<'de> DeserializeSeed<'de> for Tags<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tags<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Name(self.0))?.is_some() {}
        Ok(())
    }
}

struct Name<'a>(&'a mut Collector);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<(), E> {
        self.0.add(name).map_err(|failure| {
            let error = E::custom(&failure);
            self.0.failure = Some(failure);
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_budget::{SMALL, Shortage};

    const MIB: usize = 1024 * 1024;

    fn page(tags: impl Iterator<Item = String>) -> String {
        let tags: Vec<_> = tags.map(|tag| format!("\"{tag}\"")).collect();
        format!("{{\"name\":\"a\",\"tags\":[{}]}}", tags.join(","))
    }

    #[test]
    fn a_list_takes_no_more_memory_than_it_has_reserved() {
        let short = page((0..100_000).map(|n| format!("{n:x}")));
        let long = page((0..60_000).map(|n| format!("{n:0>128}")));
        let few = page((0..20).map(|n| n.to_string()));
        for body in [short, long, few] {
            let budget = Budget::new(256 * MIB);
            let mut reserved = 0;
            let measured = allocation_counter::measure(|| {
                let mut collector = Collector::new(&budget);
                collector.read(body.as_bytes()).unwrap();
                let list = collector.finish();
                reserved = list.memory.bytes();
                // As in a pass: the selection, and the map of what the source offers.
                let names: Vec<_> = list.tags.iter().map(Tag::as_str).collect();
                drop(names);
                let offered = list.tags.into_iter().map(|tag| (tag, None::<Box<str>>));
                drop(offered.collect::<std::collections::BTreeMap<_, _>>());
            });
            assert!(measured.bytes_max as usize <= reserved, "{measured:?} {reserved}");
            assert_eq!(budget.results_in_use().0, 0);
        }
    }

    /// 16 MiB of names that are all the same, or not valid, or in another field.
    #[test]
    fn a_page_without_new_tags_takes_no_memory() {
        let names = |name: &str| page(std::iter::repeat_n(name.to_owned(), 16 * MIB / 8));
        for body in [names("1"), names("-x"), names("1").replace("tags", "other")] {
            let mut collector = Collector::new(&Budget::default());
            let measured = allocation_counter::measure(|| collector.read(body.as_bytes()).unwrap());
            assert!(measured.bytes_max < 64 * 1024, "{measured:?}");
        }
    }

    #[test]
    fn a_list_that_the_budget_does_not_allow_is_an_error() {
        let budget = Budget::new(0);
        let mut collector = Collector::new(&budget);
        let body = page((0..100_000).map(|n| n.to_string()));
        let failure = collector.read(body.as_bytes()).unwrap_err();
        assert!(matches!(failure, Cause::Memory(Shortage::TooLarge { .. })), "{failure}");
        drop(collector);

        let mut other = budget.results();
        other.add(8 * MIB).unwrap();
        let mut third = budget.results();
        third.add(4 * MIB).unwrap();
        let mut collector = Collector::new(&budget);
        let failure = collector.read(body.as_bytes()).unwrap_err();
        assert!(matches!(failure, Cause::Memory(Shortage::Busy { .. })), "{failure}");
        let small = page((0..SMALL / 200).map(|n| n.to_string()));
        Collector::new(&budget).read(small.as_bytes()).unwrap();
    }
}
