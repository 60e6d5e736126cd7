//! The files that a PATH stands for, and their text.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::tree::Source;
use super::{Place, Problem};

/// Largest file that is read: some hundred times the largest inventory a person maintains.
const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// All files, in the order of `paths`, those of a directory by path, each once.
pub(super) fn find(paths: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for path in paths {
        let found = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => below(path, problems),
            Ok(_) => vec![path.clone()],
            Err(error) => {
                problems.push(Problem::of_file(path, reason(&error)));
                continue;
            }
        };
        // The same file through two paths, or through a link, is one file.
        all.extend(found.into_iter().filter(|file| seen.insert(canonical(file))));
    }
    all
}

/// All YAML and JSON files below a directory.
fn below(directory: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let already = problems.len();
    walk(directory, &mut BTreeSet::new(), &mut files, problems);
    files.sort();
    if files.is_empty() && problems.len() == already {
        problems.push(Problem::of_file(
            directory,
            "this directory has no *.yml, *.yaml or *.json file",
        ));
    }
    files
}

fn walk(
    directory: &Path,
    seen: &mut BTreeSet<PathBuf>,
    files: &mut Vec<PathBuf>,
    problems: &mut Vec<Problem>,
) {
    // A directory that a link leads to again has been read already: so loops end.
    if !seen.insert(canonical(directory)) {
        return;
    }
    let entries = match fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => return problems.push(Problem::of_file(directory, reason(&error))),
    };
    let mut paths: Vec<_> =
        entries.iter().map(fs::DirEntry::path).filter(|path| !is_hidden(path)).collect();
    paths.sort();
    for path in paths {
        // Follows links, as mounted ConfigMaps are made of them. A dangling link matters only if it
        // would be read.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => walk(&path, seen, files, problems),
            Ok(metadata) if metadata.is_file() && is_inventory(&path) => files.push(path),
            Ok(_) => {}
            Err(error) if is_inventory(&path) => {
                problems.push(Problem::of_file(&path, reason(&error)))
            }
            Err(_) => {}
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_inventory(path: &Path) -> bool {
    path.extension().is_some_and(|end| {
        ["yml", "yaml", "json"].iter().any(|known| end.eq_ignore_ascii_case(known))
    })
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Reads one file.
pub(super) fn read(file: &Path) -> Result<Source, Problem> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| Problem::of_file(file, reason(&error)))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Problem::of_file(file, "is larger than 10 MiB: split it into several files"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { file: file.to_owned(), text }),
        Err(error) => {
            let good =
                String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            let line = good.matches('\n').count() as u64 + 1;
            let column = good.rsplit('\n').next().map_or(0, |last| last.chars().count()) as u64 + 1;
            let place = Place { file: file.to_owned(), line, column };
            Err(Problem { place, message: "is not UTF-8 text: save the file as UTF-8".to_owned() })
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found below `paths` of a directory with `files`, as relative paths, and the
    /// problems' texts.
    fn found(files: &[&str], paths: &[&str]) -> (Vec<String>, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "[]").unwrap();
        }
        find_in(root.path(), paths)
    }

    fn find_in(root: &Path, paths: &[&str]) -> (Vec<String>, Vec<String>) {
        let prefix = format!("{}/", root.display());
        let mut problems = Vec::new();
        let paths: Vec<_> = paths.iter().map(|path| root.join(path)).collect();
        let files = find(&paths, &mut problems)
            .iter()
            .map(|f| f.display().to_string().replace(&prefix, ""))
            .collect();
        (files, problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect())
    }

    #[test]
    fn a_directory_is_read_recursively_by_path_without_hidden_and_other_files() {
        let files = [
            "b.yml",
            "a/z.yaml",
            "a/b/c.json",
            "README.md",
            ".hidden.yml",
            ".git/x.yml",
            "UP.YML",
            "yml",
        ];
        assert_eq!(found(&files, &[""]).0, ["UP.YML", "a/b/c.json", "a/z.yaml", "b.yml"]);
    }

    #[test]
    fn named_paths_keep_their_order_and_a_file_is_read_once() {
        let files = ["b.yml", "a/z.yaml", "list.txt", ".hidden.yml"];
        let (files, problems) =
            found(&files, &["list.txt", ".hidden.yml", "b.yml", "a", "", "b.yml"]);
        assert_eq!(files, ["list.txt", ".hidden.yml", "b.yml", "a/z.yaml"]);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn a_missing_path_and_an_empty_directory_are_problems() {
        let (files, problems) = found(&["empty/README.md"], &["nowhere", "empty"]);
        assert_eq!(files, Vec::<String>::new());
        assert_eq!(
            problems,
            [
                "nowhere: no such file or directory",
                "empty: this directory has no *.yml, *.yaml or *.json file"
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_loops_of_them_end() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        fs::create_dir_all(path.join("a/..data")).unwrap();
        fs::write(path.join("a/..data/one.yml"), "[]").unwrap();
        std::os::unix::fs::symlink("..data/one.yml", path.join("a/one.yml")).unwrap();
        std::os::unix::fs::symlink("..", path.join("a/loop")).unwrap();
        std::os::unix::fs::symlink("self.yml", path.join("a/self.yml")).unwrap();
        std::os::unix::fs::symlink("gone", path.join("a/other")).unwrap();
        let (files, problems) = find_in(path, &[""]);
        assert_eq!(files, ["a/one.yml"]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("a/self.yml: cannot be read: "), "{problems:?}");
    }

    #[test]
    fn a_file_larger_than_ten_mebibytes_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("big.yml");
        File::create(&file).unwrap().set_len(MAX_BYTES).unwrap();
        assert!(read(&file).is_ok());
        File::create(&file).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(
            read(&file).unwrap_err().message,
            "is larger than 10 MiB: split it into several files"
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_named_with_its_place() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("latin1.yml");
        fs::write(&file, b"a: \xc3\xa9\n- \xe9\n").unwrap();
        let problem = read(&file).unwrap_err();
        assert_eq!((problem.place.line, problem.place.column), (2, 3));
        assert_eq!(problem.message, "is not UTF-8 text: save the file as UTF-8");
    }
}
