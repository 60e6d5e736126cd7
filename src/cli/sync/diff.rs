//! A dry run as a diff.

use super::outcome::{Outcome, State};
use super::summary::{tags_in_words, warnings};
use crate::api::v1alpha1::Policy;
use crate::ecr::policy::Kind;
use crate::registry::Digest;
use crate::sync::{Action, ArtifactKind, Load, Preview};
use crate::units::size;

/// What a line says of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is new.
    Add,
    /// It changes.
    Change,
    /// It goes.
    Remove,
    /// It cannot be.
    Fail,
    /// For people.
    Note,
}

impl Mark {
    /// As the line begins.
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Change => "~",
            Self::Remove => "-",
            Self::Fail => "!",
            Self::Note => "?",
        }
    }

    /// The colour on a terminal.
    const fn color(self) -> &'static str {
        match self {
            Self::Add => "\u{1b}[32m",
            Self::Change => "\u{1b}[33m",
            Self::Remove | Self::Fail => "\u{1b}[31m",
            Self::Note => "\u{1b}[36m",
        }
    }
}

/// One line.
pub(super) type Line = (Mark, String);

/// What would become of a repository, line by line.
pub(super) fn lines(outcome: &Outcome) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    if let Some(preview) = &outcome.preview {
        lines.extend(preview.actions.iter().flat_map(|action| of_action(action, preview)));
    }
    for (what, failure) in outcome.failures() {
        let what = if what.is_empty() { what } else { format!("{what}: ") };
        lines.push((Mark::Fail, format!("{what}{failure}")));
    }
    lines.extend(warnings(outcome).into_iter().map(|warning| (Mark::Note, warning)));
    lines
}

fn of_action(action: &Action, preview: &Preview) -> Vec<Line> {
    match action {
        Action::CreateRepository { name, tags, settings } => {
            let mut lines = vec![(Mark::Add, format!("repository {name}"))];
            lines.extend(
                tags.iter().map(|(key, value)| (Mark::Add, format!("resourceTags {key}={value}"))),
            );
            lines.extend(
                settings
                    .mutability
                    .iter()
                    .map(|wanted| (Mark::Add, format!("imageTagMutability {wanted}"))),
            );
            lines.extend(
                settings
                    .scan_on_push
                    .iter()
                    .map(|wanted| (Mark::Add, format!("scanOnPush {wanted}"))),
            );
            lines.extend(
                settings
                    .encryption
                    .iter()
                    .map(|wanted| (Mark::Add, format!("encryption {wanted}"))),
            );
            lines
        }
        Action::TagRepository { tags } => {
            let line = |(key, value): (&String, &String)| match preview.resource_tags.get(key) {
                Some(old) => (Mark::Change, format!("resourceTags {key}: {old} -> {value}")),
                None => (Mark::Add, format!("resourceTags {key}={value}")),
            };
            tags.iter().map(line).collect()
        }
        Action::UntagRepository { keys } => {
            keys.iter().map(|key| (Mark::Remove, format!("resourceTags {key}"))).collect()
        }
        Action::SetMutability { wanted, replaces } => {
            vec![(Mark::Change, format!("imageTagMutability {replaces} -> {wanted}"))]
        }
        Action::SetScanOnPush { wanted } => {
            vec![(Mark::Change, format!("scanOnPush {} -> {wanted}", !wanted))]
        }
        Action::PutPolicy { kind, document, replaces: false } => {
            vec![(Mark::Add, format!("{}{}", kind.field(), size_of(*kind, document)))]
        }
        Action::PutPolicy { kind, replaces: true, .. } => {
            let changes =
                preview.policies.get(kind).map(|changes| changes.join("; ")).unwrap_or_default();
            vec![(Mark::Change, format!("{} ({changes})", kind.field()))]
        }
        Action::DeletePolicy { kind } => vec![(Mark::Remove, kind.field().to_owned())],
        Action::RestoreTag { kind, tag, digest } => {
            vec![(
                Mark::Change,
                format!("{} tag {tag} {} (back from the archive)", kind.noun(), short(digest)),
            )]
        }
        Action::PruneTag { kind, tag, digest, source, .. } => {
            vec![(
                Mark::Remove,
                format!("prune {} tag {tag} {} ({source} has it)", kind.noun(), short(digest)),
            )]
        }
        Action::CopyTag { kind, tag, source, digest, replaces } => {
            let load = preview.loads.get(&(*kind, tag.clone())).map(in_words).unwrap_or_default();
            let noun = kind.noun();
            vec![match (digest, replaces) {
                (Some(new), None) => {
                    (Mark::Add, format!("{noun} tag {tag} {}{load} from {source}", short(new)))
                }
                (Some(new), Some(old)) if new == old => (
                    Mark::Change,
                    format!(
                        "{noun} tag {tag} {} (images that it lacks){load} from {source}",
                        short(new)
                    ),
                ),
                (Some(new), Some(old)) => (
                    Mark::Change,
                    format!(
                        "{noun} tag {tag} {} -> {}{load} from {source}",
                        short(old),
                        short(new)
                    ),
                ),
                (None, None) => (Mark::Add, format!("{noun} tag {tag} from {source}")),
                (None, Some(old)) => (
                    Mark::Change,
                    format!("{noun} tag {tag} {}, to be compared with {source}", short(old)),
                ),
            }]
        }
    }
}

/// ` (2 rules)`.
fn size_of(kind: Kind, document: &Policy) -> String {
    let (list, noun) = match kind {
        Kind::Lifecycle => ("rules", "rule"),
        Kind::Permission => ("Statement", "statement"),
    };
    // IAM takes a single statement for a list of one.
    let count = document.get(list).and_then(serde_json::Value::as_array).map_or(1, Vec::len);
    format!(" ({count} {noun}{})", if count == 1 { "" } else { "s" })
}

fn short(digest: &Digest) -> String {
    /// Of the 64 digits, as many as docker shows.
    const SHOWN: usize = 12;
    let text = digest.as_str();
    let end = text.find(':').map_or(0, |colon| colon + 1) + SHOWN;
    text.get(..end).map_or_else(|| text.to_owned(), |start| format!("{start}…"))
}

fn in_words(load: &Load) -> String {
    let Load { blobs, bytes } = *load;
    match blobs {
        0 => " (nothing to send but the manifest)".to_owned(),
        1 => format!(" (1 blob, {} to send)", size(bytes)),
        _ => format!(" ({blobs} blobs, {} to send)", size(bytes)),
    }
}

/// The lines as they are printed below the repository's name.
pub(super) fn text(outcome: &Outcome, color: bool) -> String {
    let lines = lines(outcome);
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n", outcome.entry.repository());
    for (mark, line) in lines {
        let sign = mark.sign();
        text.push_str(&if color {
            format!("  {}{sign} {line}\u{1b}[0m\n", mark.color())
        } else {
            format!("  {sign} {line}\n")
        });
    }
    text
}

/// What all repositories together come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Totals {
    /// Repositories to create.
    pub(super) create: usize,
    /// Repositories to change.
    pub(super) change: usize,
    /// Repositories that are as wanted.
    pub(super) unchanged: usize,
    /// Repositories of which something cannot be done.
    pub(super) failing: usize,
    /// Image tags to copy.
    pub(super) image_tags: usize,
    /// Chart versions to copy or to compare.
    pub(super) chart_tags: usize,
    /// Tags and versions to remove.
    pub(super) prune: usize,
    /// Policies to write or remove.
    pub(super) policies: usize,
    /// Blobs to send.
    pub(super) blobs: usize,
    /// Their bytes.
    pub(super) bytes: u64,
}

impl Totals {
    /// Counts the plans.
    pub(super) fn new(outcomes: &[Outcome]) -> Self {
        let of = |state| outcomes.iter().filter(|outcome| outcome.state == state).count();
        let previews = || outcomes.iter().filter_map(|outcome| outcome.preview.as_ref());
        let actions = |wanted: &dyn Fn(&Action) -> bool| {
            previews().flat_map(|preview| &preview.actions).filter(|action| wanted(action)).count()
        };
        let copies = |kind: ArtifactKind| {
            actions(&|action| matches!(action, Action::CopyTag { kind: of, .. } if *of == kind))
        };
        let loads = || previews().flat_map(|preview| preview.loads.values());
        Self {
            create: of(State::Created),
            change: of(State::Updated),
            unchanged: of(State::Unchanged),
            failing: outcomes.iter().filter(|outcome| outcome.is_failure()).count(),
            image_tags: copies(ArtifactKind::Image),
            chart_tags: copies(ArtifactKind::Chart),
            prune: actions(&|action| matches!(action, Action::PruneTag { .. })),
            policies: actions(&|action| {
                matches!(action, Action::PutPolicy { .. } | Action::DeletePolicy { .. })
            }),
            blobs: loads().map(|load| load.blobs).sum(),
            bytes: loads().map(|load| load.bytes).sum(),
        }
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            create,
            change,
            unchanged,
            failing,
            image_tags,
            chart_tags,
            prune,
            policies,
            blobs,
            bytes,
        } = *self;
        write!(f, "Repositories: {create} to create, {change} to change, {unchanged} in sync")?;
        if failing > 0 {
            write!(f, ", {failing} with failures")?;
        }
        let tags = tags_in_words(image_tags, chart_tags);
        write!(f, "\nTo copy: {tags} ({blobs} blobs, {})", size(bytes))?;
        if prune > 0 {
            write!(f, "\nTags to prune: {prune}")?;
        }
        write!(f, "\nPolicies to apply: {policies}\nDry run: nothing was written.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview() -> Preview {
        let changes = vec!["rule 2 countNumber 10 -> 20".to_owned(), "+ rule 3".to_owned()];
        Preview {
            policies: [(Kind::Lifecycle, changes)].into(),
            resource_tags: [("team".to_owned(), "a".to_owned())].into(),
            loads: [((ArtifactKind::Image, tag("1.27")), Load { blobs: 6, bytes: 41_000_000 })]
                .into(),
            ..Preview::default()
        }
    }

    fn tag(text: &str) -> crate::registry::Tag {
        text.parse().expect("a tag")
    }

    fn digest(letter: &str) -> Digest {
        format!("sha256:{}", letter.repeat(64)).parse().expect("a digest")
    }

    #[test]
    fn each_action_is_a_line_that_says_what_was_and_what_will_be() {
        let copy = |name: &str, digest: Option<Digest>, replaces: Option<Digest>| Action::CopyTag {
            kind: ArtifactKind::Image,
            tag: tag(name),
            source: format!("q.io/nginx:{name}"),
            digest,
            replaces,
        };
        let document = Policy::from_iter([("rules".to_owned(), serde_json::json!([{}, {}]))]);
        let put = |kind, replaces| Action::PutPolicy { kind, document: document.clone(), replaces };
        let tags = [("team", "b"), ("cost", "42")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let table = [
            (put(Kind::Lifecycle, false), "+ lifecyclePolicy (2 rules)"),
            (
                put(Kind::Lifecycle, true),
                "~ lifecyclePolicy (rule 2 countNumber 10 -> 20; + rule 3)",
            ),
            (Action::DeletePolicy { kind: Kind::Permission }, "- permissionPolicy"),
            (
                Action::TagRepository { tags: tags.into() },
                "+ resourceTags cost=42 | ~ resourceTags team: a -> b",
            ),
            (Action::UntagRepository { keys: vec!["old".to_owned()] }, "- resourceTags old"),
            (Action::SetScanOnPush { wanted: true }, "~ scanOnPush false -> true"),
            (
                copy("1.27", Some(digest("a")), None),
                "+ image tag 1.27 sha256:aaaaaaaaaaaa… (6 blobs, 41 MB to send) from q.io/nginx:1.27",
            ),
            (
                copy("1.26", Some(digest("a")), Some(digest("b"))),
                "~ image tag 1.26 sha256:bbbbbbbbbbbb… -> sha256:aaaaaaaaaaaa… from q.io/nginx:1.26",
            ),
            (copy("1.25", None, None), "+ image tag 1.25 from q.io/nginx:1.25"),
            (
                Action::PruneTag {
                    kind: ArtifactKind::Image,
                    tag: tag("1.20"),
                    digest: digest("a"),
                    is_index: false,
                    source: "q.io/nginx:1.20".to_owned(),
                },
                "- prune image tag 1.20 sha256:aaaaaaaaaaaa… (q.io/nginx:1.20 has it)",
            ),
        ];
        for (action, expected) in table {
            let lines = of_action(&action, &preview());
            let text: Vec<_> =
                lines.iter().map(|(mark, line)| format!("{} {line}", mark.sign())).collect();
            assert_eq!(text.join(" | "), expected);
        }
    }
}
