//! The bounded run: every target on its seeds, and on changed and joined seeds. Without coverage
//! guidance it finds what is near to a seed; `make fuzz` finds the rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{Target, targets};

/// Inputs of each target besides its seeds: about a second for the slowest target.
const INPUTS: u32 = 1500;
/// A target that is slow on a busy machine ends early, so that all of them take less than a minute.
const LONGEST: Duration = Duration::from_secs(3);
/// The largest input in bytes, as in `make fuzz`.
const MAX_BYTES: usize = 4096;
/// The stack of a target: half of what the threads of the program have, as in `nesting`.
const STACK: usize = 2 * 1024 * 1024;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// The names of the files and folders in a folder, sorted.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = folder("seeds").join(target);
    names(&folder).iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

/// The words of a dictionary in the form of libFuzzer: one in quotes on each line, with the escapes
/// `\\`, `\"` and `\xAB`.
fn words(target: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(folder("dictionaries").join(target)).unwrap();
    let word = |line: &str| {
        let text = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap();
        let mut bytes = text.bytes();
        let mut word = Vec::new();
        while let Some(byte) = bytes.next() {
            word.push(match byte {
                b'\\' => match bytes.next().unwrap() {
                    b'x' => {
                        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                        let digits = std::str::from_utf8(&digits).unwrap();
                        u8::from_str_radix(digits, 16).unwrap()
                    }
                    escaped => escaped,
                },
                byte => byte,
            });
        }
        word
    };
    text.lines().map(word).collect()
}

/// Makes an input from the seeds: one to four changes of one of them.
fn mutated(seeds: &[Vec<u8>], words: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut input = random.choice(seeds).unwrap().clone();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=input.len());
        let end = (at + random.usize(0..32)).min(input.len());
        match random.u8(0..6) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
            1 => drop(input.drain(at..end)),
            2 => drop(input.splice(at..at, random.choice(words).unwrap().iter().copied())),
            3 => drop(input.splice(at..end, random.choice(words).unwrap().iter().copied())),
            4 => {
                let part = input[at..end].to_vec();
                let to = random.usize(0..=input.len());
                drop(input.splice(to..to, part));
            }
            _ => {
                let other = random.choice(seeds).unwrap();
                let from = random.usize(0..=other.len());
                drop(input.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    input.truncate(MAX_BYTES);
    input
}

/// Runs a target until it fails. Returns the input that it fails with.
fn run((name, run): Target) -> Option<String> {
    let (seeds, words) = (seeds(name), words(name));
    // The same inputs in each run.
    let mut random = Rng::with_seed(name.bytes().map(u64::from).sum());
    let started = Instant::now();
    let inputs = (0..INPUTS).map(|_| mutated(&seeds, &words, &mut random));

    for input in seeds.iter().cloned().chain(inputs) {
        if started.elapsed() > LONGEST {
            break;
        }
        if std::panic::catch_unwind(|| run(&input)).is_err() {
            return Some(format!("{name} fails with {}", input.escape_ascii()));
        }
    }
    None
}

#[test]
fn no_target_fails_near_its_seeds() {
    let next = AtomicUsize::new(0);
    let all = targets();
    std::thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            while let Some(target) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                failures.extend(run(*target));
            }
            failures
        };
        let threads = [0, 1].map(|_| {
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).unwrap()
        });
        let failures = threads.map(|thread| thread.join().unwrap()).concat();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

#[test]
fn every_target_has_seeds_and_a_dictionary() {
    let names_of_targets: BTreeSet<_> =
        targets().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names_of_targets.len(), targets().len(), "each name once");
    assert_eq!(names(&folder("seeds")), names_of_targets);
    assert_eq!(names(&folder("dictionaries")), names_of_targets);
    for (name, run) in targets() {
        assert!(seeds(name).len() >= 3, "{name}");
        assert!(words(name).iter().all(|word| (1..=64).contains(&word.len())), "{name}");
        run(b"");
    }
}
