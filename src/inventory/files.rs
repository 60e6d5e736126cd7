//! Files of a PATH: finds them in folders, and reads their text.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::tree::Source;
use super::{Position, Problem};

/// Largest file that is read: about a hundred times the largest inventory maintained by hand.
const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// Returns all files once, in the order of `paths`; those of a directory sorted by path.
pub(super) fn find(paths: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut visited = BTreeSet::new();
    let mut files = Vec::new();

    for path in paths {
        let matches = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => below(path, problems),
            Ok(_) => vec![path.clone()],
            Err(error) => {
                problems.push(Problem::of_file(path, reason(&error)));
                continue;
            }
        };
        // A file that is reached through two paths or a link is read once.
        files.extend(matches.into_iter().filter(|file| visited.insert(canonical(file))));
    }

    files
}

/// Returns all YAML and JSON files below a directory.
fn below(directory: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let problems_before = problems.len();
    walk(directory, &mut BTreeSet::new(), &mut files, problems);
    files.sort();
    if files.is_empty() && problems.len() == problems_before {
        problems.push(Problem::of_file(
            directory,
            "this directory has no *.yml, *.yaml or *.json file",
        ));
    }
    files
}

fn walk(
    directory: &Path,
    visited: &mut BTreeSet<PathBuf>,
    files: &mut Vec<PathBuf>,
    problems: &mut Vec<Problem>,
) {
    // A directory is read once, so that loops of links end.
    if !visited.insert(canonical(directory)) {
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
        // Links are followed: the files of a mounted ConfigMap are links. A dangling link is a
        // problem only if its name is that of a YAML or JSON file.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => walk(&path, visited, files, problems),
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
            let valid =
                String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            let line = valid.matches('\n').count() as u64 + 1;
            let last_line = valid.rsplit('\n').next();
            let column = last_line.map_or(0, |last| last.chars().count()) as u64 + 1;

            let position = Position { file: file.to_owned(), line, column };
            let message = "is not UTF-8 text: save the file as UTF-8".to_owned();
            Err(Problem { position, message })
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

    /// Returns the relative paths found in `paths` of a directory with `files`, and the problems.
    fn find_among(files: &[&str], paths: &[&str]) -> (Vec<String>, Vec<String>) {
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
        assert_eq!(find_among(&files, &[""]).0, ["UP.YML", "a/b/c.json", "a/z.yaml", "b.yml"]);
    }

    #[test]
    fn named_paths_keep_their_order_and_a_file_is_read_once() {
        let files = ["b.yml", "a/z.yaml", "list.txt", ".hidden.yml"];
        let (files, problems) =
            find_among(&files, &["list.txt", ".hidden.yml", "b.yml", "a", "", "b.yml"]);
        assert_eq!(files, ["list.txt", ".hidden.yml", "b.yml", "a/z.yaml"]);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn a_missing_path_and_an_empty_directory_are_problems() {
        let (files, problems) = find_among(&["empty/README.md"], &["nowhere", "empty"]);
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
    fn text_that_is_not_utf8_is_reported_with_its_position() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("latin1.yml");
        fs::write(&file, b"a: \xc3\xa9\n- \xe9\n").unwrap();
        let problem = read(&file).unwrap_err();
        assert_eq!((problem.position.line, problem.position.column), (2, 3));
        assert_eq!(problem.message, "is not UTF-8 text: save the file as UTF-8");
    }
}
