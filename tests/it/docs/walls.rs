//! The walls between modules: docs/architecture.md says which module may use which, and no circle
//! of imports stands inside `sync` and `controller`.

use std::collections::{BTreeMap, BTreeSet};

/// A module path below the crate: `["sync", "prune"]`.
type Module = Vec<String>;

/// One file of src/.
#[derive(Default)]
struct Source {
    /// All paths that the file names, from the root of the crate.
    paths: Vec<Module>,
    /// Names that the module re-exports, with their paths.
    exports: BTreeMap<String, Module>,
}

/// All files of src/ by module, without their tests and the targets of the fuzzer.
fn sources() -> BTreeMap<Module, Source> {
    let files = super::files("src", "rs").into_iter().filter_map(|file| {
        let path = file.strip_prefix("src").expect("below src").with_extension("");
        let mut module: Module =
            path.iter().map(|part| part.to_str().expect("UTF-8").to_owned()).collect();
        module.pop_if(|last| last == "mod" || last == "lib");
        let is_test =
            module.iter().any(|part| part == "tests" || part == "fuzzing") || module == ["main"];
        (!is_test).then(|| (module, code(&super::read(&file))))
    });
    let texts: BTreeMap<_, _> = files.collect();
    let modules: BTreeSet<_> = texts.keys().cloned().collect();
    texts
        .into_iter()
        .map(|(module, text)| (module.clone(), parse(&module, &text, &modules)))
        .collect()
}

/// The text of a file without comments and without its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    lines.collect::<Vec<_>>().join("\n").replace("pub(in crate::", "pub(in ")
}

/// The paths and re-exports of a file.
fn parse(module: &Module, text: &str, modules: &BTreeSet<Module>) -> Source {
    let mut source = Source::default();
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';

    for (end, _) in text.match_indices("::") {
        let start = text[..end].rfind(|c| !is_name(c)).map_or(0, |before| before + 1);
        let first = &text[start..end];
        let line = text[..start].rsplit('\n').next().unwrap_or_default();
        let is_use = line.trim_end().ends_with("use");
        let child = [module.as_slice(), &[first.to_owned()]].concat();
        let is_path = ["crate", "super", "self"].contains(&first);
        if !(is_path || is_use && modules.contains(&child)) {
            continue;
        }

        let tree = text[start..].split(';').next().unwrap_or_default();
        for path in leaves(if is_use { tree } else { plain(tree) }) {
            let path = absolute(module, path);
            if is_use && line.starts_with("pub") {
                source.exports.insert(path.last().cloned().unwrap_or_default(), path.clone());
            }
            source.paths.push(path);
        }
    }
    source
}

/// The part of a text up to the end of its first path.
fn plain(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    text[..end.unwrap_or(text.len())].trim_end_matches(':')
}

/// The paths of a tree such as `a::{b, c::d as e}`.
fn leaves(tree: &str) -> Vec<Module> {
    let parts = |path: &str| -> Module {
        let parts = path.split("::").map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let Some((stem, rest)) = tree.split_once('{') else {
        return vec![parts(tree.split(" as ").next().unwrap_or_default())];
    };
    let mut depth = 0;
    let branches = rest.trim().strip_suffix('}').unwrap_or(rest).split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let branches = branches.map(str::trim).filter(|branch| !branch.is_empty());
    branches.flat_map(leaves).map(|leaf| [parts(stem), leaf].concat()).collect()
}

/// A path from the root of the crate.
fn absolute(module: &Module, path: Module) -> Module {
    let mut base = module.clone();
    let mut parts = path.into_iter().peekable();
    if parts.next_if(|part| part == "crate").is_some() {
        base.clear();
    }
    while parts.next_if(|part| part == "super").is_some() {
        base.pop();
    }
    base.extend(parts.filter(|part| part != "self"));
    base
}

/// The module that has the item of a path, through re-exports.
fn home(path: &[String], sources: &BTreeMap<Module, Source>) -> Module {
    let mut module = Module::new();
    for part in path {
        let child = [module.as_slice(), std::slice::from_ref(part)].concat();
        if sources.contains_key(&child) {
            module = child;
        } else if let Some(export) = sources[&module].exports.get(part).filter(|to| *to != path) {
            return home(export, sources);
        } else {
            break;
        }
    }
    module
}

#[test]
fn modules_use_only_those_that_the_page_on_architecture_names() {
    let page = super::read("docs/architecture.md");
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let table = page.split("\n## Modules\n").nth(1).expect("a chapter").split("\n## ").next();
    let rows: Vec<_> = table
        .unwrap_or_default()
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').collect::<Vec<_>>())
        .map(|cells| (names(cells[1]), names(cells[3])))
        .collect();
    let ground = &rows[0].0;

    let mut above = BTreeSet::new();
    for (modules, uses) in &rows {
        let below = uses.difference(&above).next();
        assert!(
            below.is_none(),
            "{modules:?} uses {below:?}, which the table does not have above it"
        );
        above.extend(modules.iter().cloned());
    }
    let sources = sources();
    let missing: BTreeSet<_> = sources
        .iter()
        .flat_map(|(module, source)| source.paths.iter().map(move |path| (module, path)))
        .filter_map(|(module, path)| Some((module, module.first()?, path.first()?)))
        .filter(|(_, own, used)| own != used && sources.contains_key(&vec![(*used).clone()]))
        .filter(|(_, own, used)| {
            let allowed = |(modules, uses): &(BTreeSet<String>, BTreeSet<String>)| {
                modules.contains(*own) && uses.contains(*used)
            };
            !ground.contains(*used) && !rows.iter().any(allowed)
        })
        .map(|(module, own, used)| format!("{own} uses {used} in {}", module.join("::")))
        .collect();
    assert!(missing.is_empty(), "docs/architecture.md lacks these arrows: {missing:#?}");
}

#[test]
fn no_more_than_two_files_of_sync_and_controller_import_each_other_in_a_circle() {
    let sources = sources();
    let arrows: BTreeMap<_, BTreeSet<_>> = sources
        .iter()
        .map(|(module, source)| (module, source.paths.iter().map(|path| home(path, &sources))))
        .map(|(module, homes)| (module.clone(), homes.filter(|to| to != module).collect()))
        .collect();
    for folder in ["sync", "controller"] {
        let is_inside = |module: &Module| module.first().is_some_and(|first| first == folder);
        let reached = |from: &Module| {
            let mut reached = BTreeSet::new();
            let mut open = vec![from.clone()];
            while let Some(module) = open.pop() {
                let next = arrows[&module].iter().filter(|to| is_inside(to));
                open.extend(next.filter(|to| reached.insert((*to).clone())).cloned());
            }
            reached
        };
        let reach: BTreeMap<_, _> = arrows
            .keys()
            .filter(|from| is_inside(from))
            .map(|from| (from, reached(from)))
            .collect();
        for (from, to) in &reach {
            let circle: Vec<_> = to
                .iter()
                .filter(|other| reach[other].contains(*from))
                .map(|module| module.join("::"))
                .collect();
            assert!(circle.len() <= 2, "these files import each other in a circle: {circle:#?}");
        }
    }
}
