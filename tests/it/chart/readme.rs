//! charts/ecr-sync/README.md is generated from values.yaml: `make docs` writes it, a test compares it.

use super::{chart, read};

/// The text above the table of values.
const HEAD: &str = "\
# ecr-sync

Installs the operator that manages Amazon ECR repositories and copies container images and Helm charts into them.

```sh
helm install ecr-sync charts/ecr-sync --namespace ecr-sync-system --create-namespace
```

The chart installs and upgrades the CustomResourceDefinition (`crds.enabled`). `helm uninstall`
keeps it (`crds.keep`). See [docs/install.md](../../docs/install.md) for AWS roles, other ways to
install and upgrades, and [docs/observability.md](../../docs/observability.md) for alerts and the
dashboard.

## Values

`make docs` generates this table from [values.yaml](values.yaml). Invalid values are refused by name
([values.schema.json](values.schema.json)).

| key | default | description |
|---|---|---|
";

/// One row for each key with a plain value, and for each described map.
fn table(values: &str) -> String {
    let (mut rows, mut comment) = (String::new(), String::new());
    let mut parents: Vec<(usize, &str)> = Vec::new();
    // Lines with more indentation belong to a value that has its row.
    let mut skipped: Option<usize> = None;
    for line in values.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.is_empty() {
            comment.clear();
        } else if let Some(words) = text.strip_prefix("# ") {
            comment = format!("{comment} {words}");
        } else if let Some((key, value)) =
            text.split_once(':').filter(|_| skipped.is_none_or(|deep| indent <= deep))
        {
            skipped = None;
            parents.retain(|(deep, _)| *deep < indent);
            let value = value.trim();
            let path =
                parents.iter().map(|(_, key)| *key).chain([key]).collect::<Vec<_>>().join(".");
            if value.is_empty() && comment.is_empty() {
                parents.push((indent, key));
                continue;
            }
            let shown =
                if value.is_empty() { "see values.yaml".to_owned() } else { format!("`{value}`") };
            rows.push_str(&format!(
                "| `{path}` | {shown} | {} |\n",
                comment.trim().replace('|', "\\|")
            ));
            comment.clear();
            skipped = Some(indent);
        }
    }
    rows
}

#[test]
fn the_readme_of_the_chart_has_all_values() {
    let wanted = format!("{HEAD}{}", table(&read("charts/ecr-sync/values.yaml")));
    let path = chart().join("README.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, wanted, "run make docs");
}
