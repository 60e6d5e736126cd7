//! Plan of a dry run as a diff: `+ image tag 1.27 …`, and its totals.

use super::outcome::{Outcome, State};
use super::summary::warnings;
use crate::api::v1alpha1::Policy;
use crate::ecr::policy::Kind;
use crate::registry::Digest;
use crate::sync::{Action, ArtifactKind, Preview, TransferSize};
use crate::units::{counted, size};

/// Kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Something is created.
    Add,
    /// Something is changed.
    Change,
    /// Something is removed.
    Remove,
    /// Something cannot be done.
    Fail,
    /// A warning.
    Note,
}

impl Mark {
    /// Returns the first character of the line.
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Change => "~",
            Self::Remove => "-",
            Self::Fail => "!",
            Self::Note => "?",
        }
    }

    /// Returns the colour on a terminal.
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

/// Returns the lines of a repository.
pub(super) fn lines(outcome: &Outcome) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    if let Some(preview) = &outcome.preview {
        lines.extend(preview.actions.iter().flat_map(|action| of_action(action, preview)));
    }
    for (subject, failure) in outcome.failures() {
        let colon = if subject.is_empty() { "" } else { ": " };
        lines.push((Mark::Fail, format!("{subject}{colon}{failure}")));
    }
    lines.extend(warnings(outcome).into_iter().map(|warning| (Mark::Note, warning)));
    lines
}

fn of_action(action: &Action, preview: &Preview) -> Vec<Line> {
    match action {
        Action::CreateRepository { name, tags, settings } => {
            let mut lines = vec![format!("repository {name}")];
            lines.extend(tags.iter().map(|(key, value)| format!("resourceTags {key}={value}")));
            let mutability = settings.mutability.iter();
            lines.extend(mutability.map(|wanted| format!("imageTagMutability {wanted}")));
            let scan_on_push = settings.scan_on_push.iter();
            lines.extend(scan_on_push.map(|wanted| format!("scanOnPush {wanted}")));
            let encryption = settings.encryption.iter();
            lines.extend(encryption.map(|wanted| format!("encryption {wanted}")));
            lines.into_iter().map(|line| (Mark::Add, line)).collect()
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
            let changes = preview.policies.get(kind).map(|changes| changes.join("; "));
            let changes = changes.unwrap_or_default();
            vec![(Mark::Change, format!("{} ({changes})", kind.field()))]
        }
        Action::DeletePolicy { kind } => vec![(Mark::Remove, kind.field().to_owned())],
        Action::RestoreTag { kind, tag, digest } => {
            vec![(
                Mark::Change,
                format!("{} tag {tag} {} (restore from the archive)", kind.noun(), short(digest)),
            )]
        }
        Action::PruneTag { kind, tag, digest, source, .. } => {
            vec![(
                Mark::Remove,
                format!("prune {} tag {tag} {} ({source} has it)", kind.noun(), short(digest)),
            )]
        }
        Action::CopyTag { kind, tag, source, digest, replaces } => {
            let load =
                preview.transfer_sizes.get(&(*kind, tag.clone())).map(in_words).unwrap_or_default();
            let noun = kind.noun();
            vec![match (digest, replaces) {
                (Some(new), None) => {
                    (Mark::Add, format!("{noun} tag {tag} {}{load} from {source}", short(new)))
                }
                (Some(new), Some(old)) if new == old => (
                    Mark::Change,
                    format!(
                        "{noun} tag {tag} {} (images missing in ECR){load} from {source}",
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
                    format!("{noun} tag {tag} {}, compare with {source}", short(old)),
                ),
            }]
        }
    }
}

/// Returns the number of rules or statements: ` (2 rules)`.
fn size_of(kind: Kind, document: &Policy) -> String {
    let (list, noun) = match kind {
        Kind::Lifecycle => ("rules", "rule"),
        Kind::Permission => ("Statement", "statement"),
    };
    // IAM accepts a single statement in place of a list.
    let count = document.get(list).and_then(serde_json::Value::as_array).map_or(1, Vec::len);
    format!(" ({})", counted(count, noun))
}

fn short(digest: &Digest) -> String {
    /// Digits of a short digest, as docker shows them.
    const SHOWN: usize = 12;
    let text = digest.as_str();
    let end = text.find(':').map_or(0, |colon| colon + 1) + SHOWN;
    text.get(..end).map_or_else(|| text.to_owned(), |start| format!("{start}…"))
}

fn in_words(load: &TransferSize) -> String {
    match *load {
        TransferSize { blobs: 0, .. } => " (only the manifest to send)".to_owned(),
        TransferSize { blobs, bytes } => {
            format!(" ({}, {} to send)", counted(blobs, "blob"), size(bytes))
        }
    }
}

/// Returns the lines as printed, below the repository's name.
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

/// Totals of all repositories in a dry run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Totals {
    /// Repositories to create.
    pub(super) create: usize,
    /// Repositories to change.
    pub(super) change: usize,
    /// Repositories in sync.
    pub(super) unchanged: usize,
    /// Repositories with failures.
    pub(super) failing: usize,
    /// Image tags to copy.
    pub(super) image_tags: usize,
    /// Chart versions to copy or to compare.
    pub(super) chart_tags: usize,
    /// Tags and versions to remove.
    pub(super) prune: usize,
    /// Policies to put or delete.
    pub(super) policies: usize,
    /// Blobs to send.
    pub(super) blobs: usize,
    /// Bytes of these blobs.
    pub(super) bytes: u64,
}

impl Totals {
    /// Counts the planned actions.
    pub(super) fn new(outcomes: &[Outcome]) -> Self {
        let previews = || outcomes.iter().filter_map(|outcome| outcome.preview.as_ref());
        let actions = |wanted: &dyn Fn(&Action) -> bool| {
            previews().flat_map(|preview| &preview.actions).filter(|action| wanted(action)).count()
        };
        let copies = |kind: ArtifactKind| {
            actions(&|action| matches!(action, Action::CopyTag { kind: of, .. } if *of == kind))
        };
        let loads = || previews().flat_map(|preview| preview.transfer_sizes.values());

        Self {
            create: State::Created.count(outcomes),
            change: State::Updated.count(outcomes),
            unchanged: State::Unchanged.count(outcomes),
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
        write!(f, "Repositories: {} to create", self.create)?;
        write!(f, ", {} to change, {} in sync", self.change, self.unchanged)?;
        if self.failing > 0 {
            write!(f, ", {} with failures", self.failing)?;
        }

        let images = counted(self.image_tags, "image tag");
        let charts = counted(self.chart_tags, "chart version");
        let blobs = counted(self.blobs, "blob");
        write!(f, "\nTo copy: {images} and {charts} ({blobs}, {})", size(self.bytes))?;
        if self.prune > 0 {
            write!(f, "\nTags to prune: {}", self.prune)?;
        }
        write!(f, "\nPolicies to apply: {}\nDry run: nothing was written.", self.policies)
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
            transfer_sizes: [(
                (ArtifactKind::Image, tag("1.27")),
                TransferSize { blobs: 6, bytes: 41_000_000 },
            )]
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
    fn each_action_is_a_line_with_the_old_and_the_new_value() {
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
                "+ image tag 1.27 sha256:aaaaaaaaaaaa… (6 blobs, 41 MB to send) from \
                 q.io/nginx:1.27",
            ),
            (
                copy("1.26", Some(digest("a")), Some(digest("b"))),
                "~ image tag 1.26 sha256:bbbbbbbbbbbb… -> sha256:aaaaaaaaaaaa… from \
                 q.io/nginx:1.26",
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
