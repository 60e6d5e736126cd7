//! `kill -9` at random moments of a sync of 30 tags and a chart. A tag never points to an
//! incomplete image, the next start finishes, and nothing that ECR has accepted is sent again.
//!
//! The moments come from a seed, as parts of a sync. Each round begins with an empty target and
//! kills the program once, often also the next starts, before one start may finish.

mod content;
mod evidence;
mod place;
mod summary;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use testbed::traffic::Mark;

use self::content::Content;
use self::evidence::{Sent, State, wrong_tags};
use self::place::{Place, Program};
use self::summary::{Phase, Summary};

/// Rounds at the same time: they mostly wait.
const CONCURRENT: usize = 3;

/// The latest moment of a kill, as a part of a sync. Kills after the end of a sync hit a controller
/// that has nothing to do.
const LATEST: f64 = 1.1;
/// The longest time between the request at which the moment has come and the kill: some requests.
const SCATTER: Duration = Duration::from_millis(60);

/// One run of this test.
struct Kills {
    seed: u64,
    /// Kills of each program.
    kills: usize,
    content: &'static Content,
}

impl Kills {
    /// Kills both programs, at the same time, and prints what happened.
    async fn run(&self) -> Vec<Summary> {
        println!("SEED={} KILLS={}", self.seed, self.kills);
        let programs = [Program::CommandLine, Program::Controller];
        let results = join_all(programs.map(|program| async move {
            let sync = self.undisturbed(program).await;
            let (name, seconds) = (program.name(), sync.took.as_secs_f64());
            println!("{name}: a sync takes {seconds:.1} s and {} requests", sync.requests);
            (self.kill(program, &sync).await, sync.took)
        }));
        let (summaries, times): (Vec<_>, Vec<_>) = results.await.into_iter().unzip();
        println!("{}", Summary::table(&summaries, &times));
        summaries
    }

    /// Runs as many syncs at once as there are rounds at once, without a kill. Returns the one with
    /// the median time.
    async fn undisturbed(&self, program: Program) -> Sync {
        let sync = |number| async move {
            let name = format!("kills-{}-{number}", self.namespace(program));
            let place = Place::new(program, &name, self.content).await;
            let (started, mark) = (Instant::now(), place.ecr().mark());
            let mut running = place.start().await;
            place.finishes(&mut running).await.expect("a sync without a kill succeeds");
            let took = started.elapsed();

            let target = place.target().expect("created");
            let state = State::of(Some(&target));
            let problems = wrong_tags(place.ecr(), &target, &self.expected(&state));
            assert!(problems.is_empty(), "{problems:#?}");
            Sync { state, took, requests: place.ecr().traffic().arrived_since(mark) }
        };
        let mut all = join_all((0..CONCURRENT).map(sync)).await;
        all.sort_by_key(|sync| sync.took);
        all.swap_remove(CONCURRENT / 2)
    }

    /// The digests of all tags: of images as in the source, of the chart as in a sync without a
    /// kill.
    fn expected(&self, all: &State) -> BTreeMap<String, String> {
        let mut expected = all.tags.clone();
        expected.extend(self.content.digests.clone());
        assert_eq!(expected.len(), self.content.digests.len() + 1, "and a chart");
        expected
    }

    fn namespace(&self, program: Program) -> String {
        // Both tests can run in one process.
        format!("{}-{}", program.name().replace(' ', "-"), self.kills)
    }

    /// Kills a program until there were enough kills.
    async fn kill(&self, program: Program, sync: &Sync) -> Summary {
        let summary = Mutex::new(Summary::new(program, self.kills));
        let (left, next) = (AtomicUsize::new(self.kills), AtomicUsize::new(0));
        let rounds = async || {
            while left.load(Ordering::Relaxed) > 0 {
                let number = next.fetch_add(1, Ordering::Relaxed);
                Round { kills: self, program, number, sync }.run(&left, &summary).await;
            }
        };
        // A program that ended before its kill leaves a kill over.
        while left.load(Ordering::Relaxed) > 0 {
            join_all((0..CONCURRENT).map(|_| rounds())).await;
        }
        summary.into_inner()
    }
}

/// A sync without a kill.
struct Sync {
    /// The target afterwards.
    state: State,
    took: Duration,
    /// Requests to the target.
    requests: usize,
}

/// The moment of a kill: a number of requests to the target, and the time after the last of them.
struct Moment {
    requests: usize,
    scatter: Duration,
}

/// Some kills of one program and a start that finishes, on the same target.
struct Round<'a> {
    kills: &'a Kills,
    program: Program,
    number: usize,
    sync: &'a Sync,
}

impl Round<'_> {
    async fn run(&self, left: &AtomicUsize, summary: &Mutex<Summary>) {
        let number = u64::try_from(self.number).expect("small");
        let stream = 2 * number + u64::from(self.program == Program::Controller);
        let mut random = fastrand::Rng::with_seed(self.kills.seed.wrapping_add(stream << 32));
        let name = format!("kill-{}-{number}", self.kills.namespace(self.program));
        let place = Place::new(self.program, &name, self.kills.content).await;
        let expected = self.kills.expected(&self.sync.state);

        let mut is_first = true;
        loop {
            let before = State::of(place.target().as_ref());
            let marks = (place.ecr().mark(), place.source().mark());
            let mut running = place.start().await;
            let moment = Moment {
                requests: self.requests(&before, LATEST * random.f64()),
                scatter: SCATTER.mul_f64(random.f64()),
            };
            let is_killed = (is_first || random.bool()) && take(left);
            is_first = false;
            let mut ended = None;
            if is_killed {
                let is_late = tokio::select! {
                    () = running.ends() => true,
                    () = self.comes(&place, marks.0, &moment) => false,
                };
                if is_late {
                    left.fetch_add(1, Ordering::Relaxed);
                    ended = Some(place.finishes(&mut running).await);
                } else {
                    running.kill().await;
                }
            } else {
                ended = Some(place.finishes(&mut running).await);
            }
            if ended.is_none() || self.program == Program::CommandLine {
                place.is_quiet().await;
            }

            let sent =
                Sent::of(&place.ecr().log_since(marks.0), &place.source().log_since(marks.1));
            let target = place.target();
            let after = State::of(target.as_ref());
            let mut problems = sent.again(&before);
            if let Some(target) = &target {
                problems.extend(wrong_tags(place.ecr(), target, &expected));
            }
            if place.reports_ready().await && after.tags.len() < expected.len() {
                problems.push("the status says Ready, but tags are missing".to_owned());
            }
            match ended {
                None => {
                    let phase = Phase::of(&sent, &after, &self.sync.state);
                    self.record(summary, &sent, problems, Some(phase));
                }
                Some(result) => {
                    problems.extend(result.err());
                    problems.extend(self.finished(&place, &mut running, &after).await);
                    self.record(summary, &sent, problems, None);
                    return;
                }
            }
        }
    }

    /// The requests to the target after this part of what is left to do.
    fn requests(&self, before: &State, part: f64) -> usize {
        let items =
            |state: &State| (state.blobs.len() + state.images.len() + state.tags.len()) as f64;
        let left = 1.0 - items(before) / items(&self.sync.state);
        (self.sync.requests as f64 * left * part) as usize
    }

    /// Waits until the moment of a kill has come. What a program has done at a time depends on the
    /// machine, so the requests that the target has seen are the clock.
    async fn comes(&self, place: &Place, mark: Mark, moment: &Moment) {
        let log = place.ecr().traffic();
        let is_done = || {
            let target = place.target();
            target.is_some_and(|target| target.tags.len() == self.sync.state.tags.len())
        };
        let mut seen = (0, Instant::now());
        while log.arrived_since(mark) < moment.requests {
            tokio::time::sleep(Duration::from_millis(2)).await;
            // A start may need fewer requests, and then has nothing to do.
            let count = log.arrived_since(mark);
            if count != seen.0 {
                seen = (count, Instant::now());
            } else if seen.1.elapsed() > SCATTER && is_done() {
                break;
            }
        }
        tokio::time::sleep(moment.scatter).await;
    }

    /// Lists what is wrong after the end of a round.
    async fn finished(
        &self,
        place: &Place,
        running: &mut place::Running,
        after: &State,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        if (&after.tags, &after.blobs) != (&self.sync.state.tags, &self.sync.state.blobs) {
            problems.push("the target has other content than after a sync without a kill".into());
        }

        // The whole round, killed programs included.
        let sent = Sent::of(&place.ecr().log(), &[]);
        let mut counts = BTreeMap::<&str, usize>::new();
        for (digest, _, _) in sent.blobs.iter().filter(|(.., is_accepted)| *is_accepted) {
            *counts.entry(digest).or_default() += 1;
        }
        for (reference, _) in sent.manifests.iter().filter(|(_, is_accepted)| *is_accepted) {
            *counts.entry(reference).or_default() += 1;
        }
        let twice = counts.iter().filter(|(_, count)| **count > 1);
        problems.extend(twice.map(|(name, count)| format!("{name} was accepted {count} times")));
        let accepted = sent.blobs.iter().filter(|(.., is_accepted)| *is_accepted);
        let bytes: u64 = accepted.map(|(_, bytes, _)| bytes).sum();
        if bytes != self.sync.state.bytes {
            problems.push(format!(
                "{bytes} bytes of blobs were accepted, not {}",
                self.sync.state.bytes
            ));
        }
        if sent.created != 1 {
            problems.push(format!("the repository was created {} times", sent.created));
        }

        let mark = place.ecr().mark();
        problems.extend(place.pass_again(running).await.err());
        let writes = place.ecr().log_since(mark).into_iter().filter(|record| record.is_write());
        problems.extend(writes.map(|record| {
            format!("a pass over a finished sync writes: {} {}", record.operation, record.path)
        }));
        problems
    }

    fn record(
        &self,
        summary: &Mutex<Summary>,
        sent: &Sent,
        problems: Vec<String>,
        phase: Option<Phase>,
    ) {
        let mut summary = summary.lock();
        let place = format!("{}, round {}", self.program.name(), self.number);
        for problem in problems {
            println!("{place}: {problem}");
            summary.problems.push(format!("{place}: {problem}"));
        }
        summary.sent(sent);
        match phase {
            Some(phase) => summary.killed(phase),
            None => summary.finished += 1,
        }
    }
}

/// Takes one of the kills that are left.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

async fn assert_kills(kills: usize) {
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    let run = Kills { seed, kills, content: Content::shared().await };
    for summary in run.run().await {
        assert!(summary.problems.is_empty(), "SEED={seed}: {:#?}", summary.problems);
        assert_eq!(summary.kills(), kills);
    }
}

#[tokio::test]
async fn a_sync_that_is_killed_at_any_moment_is_finished_by_the_next_start() {
    assert_kills(6).await;
}

#[tokio::test]
#[ignore = "takes many minutes: make kills"]
async fn two_hundred_kills() {
    let kills = number("KILLS").unwrap_or(200);
    assert_kills(usize::try_from(kills).expect("a number of kills")).await;
}
