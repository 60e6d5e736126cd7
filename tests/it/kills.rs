//! `kill -9` at random moments of a sync of 30 tags and a chart. A tag never points to an
//! incomplete image, the next start finishes, and nothing that ECR has accepted is sent again.
//!
//! The moments come from a seed. Each round begins with an empty target and kills the program once,
//! often also the next starts, before one start may finish.

mod content;
mod evidence;
mod place;
mod summary;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;

use self::content::Content;
use self::evidence::{Sent, State, wrong_tags};
use self::place::{Place, Program};
use self::summary::{Phase, Summary};

/// Rounds at the same time: they mostly wait.
const CONCURRENT: usize = 3;

/// The last moments of a sync are hit, too: a start may take longer than the one that was measured.
const LONGER: f64 = 1.1;

/// One run of this test.
struct Kills {
    seed: u64,
    /// Kills of each program.
    kills: usize,
    content: &'static Content,
}

impl Kills {
    /// Kills each program, and prints what happened.
    async fn run(&self, programs: &[Program]) -> Vec<Summary> {
        println!("SEED={} KILLS={}", self.seed, self.kills);
        let mut summaries = Vec::new();
        let mut moments = Vec::new();
        for program in programs {
            let (all, took) = self.undisturbed(*program).await;
            println!("{}: a sync takes {:.1} s", program.name(), took.as_secs_f64());
            summaries.push(self.kill(*program, &all, took.mul_f64(LONGER)).await);
            moments.push(took);
        }
        println!("{}", Summary::table(&summaries, &moments));
        summaries
    }

    /// Runs as many syncs at once as there are rounds at once, without a kill. Returns their result
    /// and the median of their times.
    async fn undisturbed(&self, program: Program) -> (State, Duration) {
        let sync = |number| async move {
            let name = format!("kills-{}-{number}", self.namespace(program));
            let place = Place::new(program, &name, self.content).await;
            let started = Instant::now();
            let mut running = place.start().await;
            place.finishes(&mut running).await.expect("a sync without a kill succeeds");
            let took = started.elapsed();

            let target = place.target().expect("created");
            let state = State::of(Some(&target));
            let problems = wrong_tags(place.ecr(), &target, &self.expected(&state));
            assert!(problems.is_empty(), "{problems:#?}");
            (state, took)
        };
        let mut all = join_all((0..CONCURRENT).map(sync)).await;
        all.sort_by_key(|(_, took)| *took);
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
    async fn kill(&self, program: Program, all: &State, longest: Duration) -> Summary {
        let summary = Mutex::new(Summary::new(program, self.kills));
        let (left, next) = (AtomicUsize::new(self.kills), AtomicUsize::new(0));
        let rounds = async || {
            while left.load(Ordering::Relaxed) > 0 {
                let number = next.fetch_add(1, Ordering::Relaxed);
                Round { kills: self, program, number, all, longest }.run(&left, &summary).await;
            }
        };
        // A program that ended before its kill leaves a kill over.
        while left.load(Ordering::Relaxed) > 0 {
            join_all((0..CONCURRENT).map(|_| rounds())).await;
        }
        summary.into_inner()
    }
}

/// Some kills of one program and a start that finishes, on the same target.
struct Round<'a> {
    kills: &'a Kills,
    program: Program,
    number: usize,
    /// The target after a sync without a kill.
    all: &'a State,
    /// The latest moment of a kill.
    longest: Duration,
}

impl Round<'_> {
    async fn run(&self, left: &AtomicUsize, summary: &Mutex<Summary>) {
        let number = u64::try_from(self.number).expect("small");
        let stream = 2 * number + u64::from(self.program == Program::Controller);
        let mut random = fastrand::Rng::with_seed(self.kills.seed.wrapping_add(stream << 32));
        let name = format!("kill-{}-{number}", self.kills.namespace(self.program));
        let place = Place::new(self.program, &name, self.kills.content).await;
        let expected = self.kills.expected(self.all);

        let mut is_first = true;
        loop {
            let before = State::of(place.target().as_ref());
            let marks = (place.ecr().mark(), place.source().mark());
            let mut running = place.start().await;
            let moment = self.longest.mul_f64(random.f64());
            let is_killed = (is_first || random.bool()) && take(left);
            is_first = false;
            let mut ended = None;
            if is_killed {
                let is_late = tokio::time::timeout(moment, running.ends()).await.is_ok();
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
                    let phase = Phase::of(&sent, &after, self.all);
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

    /// Lists what is wrong after the end of a round.
    async fn finished(
        &self,
        place: &Place,
        running: &mut place::Running,
        after: &State,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        if (&after.tags, &after.blobs) != (&self.all.tags, &self.all.blobs) {
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
        if bytes != self.all.bytes {
            problems.push(format!("{bytes} bytes of blobs were accepted, not {}", self.all.bytes));
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

async fn assert_kills(kills: usize, least_phases: usize) {
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    let run = Kills { seed, kills, content: Content::shared().await };
    let summaries = run.run(&[Program::CommandLine, Program::Controller]).await;
    for summary in summaries {
        assert!(summary.problems.is_empty(), "SEED={seed}: {:#?}", summary.problems);
        assert_eq!(summary.kills(), kills);
        assert!(summary.phases() >= least_phases, "SEED={seed}: the kills hit too few phases");
    }
}

#[tokio::test]
async fn a_sync_that_is_killed_at_any_moment_is_finished_by_the_next_start() {
    assert_kills(6, 1).await;
}

#[tokio::test]
#[ignore = "takes many minutes: make kills"]
async fn two_hundred_kills() {
    let kills = number("KILLS").unwrap_or(200);
    assert_kills(usize::try_from(kills).expect("a number of kills"), 1).await;
}
