//! The pool with jobs of its own.

use super::*;

fn pool(slots: usize) -> (Pool, Wakes) {
    let wakes = Wakes::default();
    (Pool::new(slots, CancellationToken::new(), wakes.clone()), wakes)
}

fn order(name: &str, generation: i64) -> Order {
    Order {
        object: object(name),
        uid: name.to_owned(),
        generation,
        urgency: Urgency::Changed,
        changed: None,
        is_new: true,
        hosts: Vec::new(),
        ticket: crate::telemetry::Metrics::new()
            .expect("distinct names")
            .queue
            .add("changed", false),
    }
}

/// Submits a job and starts it when its turn comes.
async fn run<F>(
    pool: &Pool,
    name: &str,
    generation: i64,
    work: impl FnOnce(CancellationToken) -> F + Send + 'static,
) where
    F: Future<Output = Report> + Send,
{
    pool.submit(order(name, generation));
    let turn = pool.turn().await;
    assert_eq!(turn.object, object(name));
    pool.start(turn, &Progress::default(), work);
}

fn object(name: &str) -> Key {
    Key::new("ns", name)
}

#[tokio::test]
async fn a_panic_fails_that_job_only() {
    let (jobs, woken) = pool(1);
    run(&jobs, "bad", 1, |_| async { panic!("on purpose") }).await;
    run(&jobs, "good", 1, |_| async { Report::default() }).await;
    assert_eq!(woken.next().await, object("bad"));
    assert_eq!(woken.next().await, object("good"));
    let State::Finished(report) = jobs.poll("bad", 1) else { panic!("not finished") };
    assert_eq!(report.failure.map(|f| f.class), Some(Class::Internal));
    assert!(matches!(jobs.poll("good", 1), State::Finished(report) if report.is_success()));
    assert!(matches!(jobs.poll("good", 1), State::None), "a report is returned once");
}

#[tokio::test]
async fn a_new_generation_cancels_the_running_job() {
    let (jobs, woken) = pool(1);
    let (started, is_running) = tokio::sync::oneshot::channel();

    run(&jobs, "a", 1, |_| async move {
        started.send(()).expect("the test waits");
        std::future::pending().await
    })
    .await;
    is_running.await.expect("started");

    assert!(matches!(jobs.poll("a", 1), State::Running));
    assert!(matches!(jobs.poll("a", 2), State::None));
    run(&jobs, "a", 2, |_| async { Report::default() }).await;
    assert_eq!(woken.next().await, object("a"));
    assert!(
        matches!(jobs.poll("a", 2), State::Finished(_)),
        "the slot of the cancelled job is free again"
    );
}

#[tokio::test]
async fn the_next_job_of_an_object_waits_until_the_cancelled_one_has_ended() {
    /// Logs its end when it is dropped.
    struct Work(Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Work {
        fn drop(&mut self) {
            self.0.lock().push("first ended");
        }
    }

    let (jobs, woken) = pool(2);
    let log: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let (started, is_running) = tokio::sync::oneshot::channel();
    let work = Work(log.clone());

    run(&jobs, "a", 1, |_| async move {
        let _work = work;
        started.send(()).expect("the test waits");
        std::future::pending().await
    })
    .await;
    is_running.await.expect("started");
    jobs.cancel("a");

    // The second is cancelled before its turn: the third still waits for the first.
    run(&jobs, "a", 2, |_| std::future::pending()).await;
    jobs.cancel("a");

    let lines = log.clone();
    run(&jobs, "a", 3, |_| async move {
        lines.lock().push("third began");
        Report::default()
    })
    .await;

    assert_eq!(woken.next().await, object("a"));
    assert_eq!(*log.lock(), ["first ended", "third began"]);
    assert!(jobs.table.lock().ends.is_empty());
}

#[tokio::test]
async fn a_job_that_waits_for_a_place_is_cancelled_and_its_place_is_not_taken() {
    let (jobs, woken) = pool(1);
    run(&jobs, "a", 1, |_| std::future::pending()).await;
    for (name, generation) in [("b", 1), ("c", 1), ("d", 1), ("e", 1)] {
        jobs.submit(order(name, generation));
    }
    assert!(matches!(jobs.poll("b", 1), State::Waiting));

    jobs.cancel("b");
    assert!(matches!(jobs.poll("c", 2), State::None), "another generation");
    jobs.retain(|uid| uid != "d");
    jobs.cancel("a");
    let turn = jobs.turn().await;
    assert_eq!(turn.object, object("e"));
    jobs.abandon(&turn);
    assert!(matches!(jobs.poll("e", 1), State::None));

    run(&jobs, "f", 1, |_| async { Report::default() }).await;
    assert_eq!(woken.next().await, object("f"));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_only_waits_steps_aside_and_one_that_copies_leaves_its_place() {
    let (jobs, woken) = pool(1);
    let (answer, is_answered) = oneshot::channel::<()>();
    run(&jobs, "waits", 1, |_| async {
        let answered = place::waiting(Some("slow.example.com"), is_answered).await;
        answered.expect("the test answers");
        Report::default()
    })
    .await;
    let (copied, is_copied) = oneshot::channel::<()>();
    run(&jobs, "copies", 1, |_| async {
        place::copying().await;
        place::copying().await;
        is_copied.await.expect("the test ends the copy");
        Report::default()
    })
    .await;
    run(&jobs, "looks", 1, |_| async { Report::default() }).await;

    assert_eq!(woken.next().await, object("looks"));
    copied.send(()).expect("it copies");
    // Only a look at the queue gives it a place to copy.
    let copying = tokio::spawn({
        let jobs = jobs.clone();
        async move { jobs.turn().await }
    });
    assert_eq!(woken.next().await, object("copies"));
    answer.send(()).expect("it waits");
    assert_eq!(woken.next().await, object("waits"));
    copying.abort();
    let table = jobs.table.lock();
    assert!(table.held.is_empty() && table.about_to_copy.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_long_copy_takes_no_place_and_the_next_one_waits_for_its_bytes() {
    let (jobs, woken) = pool(1);
    let (copied, is_copied) = oneshot::channel::<()>();
    run(&jobs, "long", 1, |_| async {
        place::copying().await;
        place::transferring(LONG_BYTES * 100).await;
        is_copied.await.expect("the test ends the copy");
        Report::default()
    })
    .await;
    for name in ["cancelled", "next"] {
        run(&jobs, name, 1, |_| async {
            place::copying().await;
            place::transferring(LONG_COPY).await;
            Report::default()
        })
        .await;
    }
    run(&jobs, "short", 1, |_| async {
        place::copying().await;
        place::transferring(LONG_COPY - 1).await;
        Report::default()
    })
    .await;

    let granting = tokio::spawn({
        let jobs = jobs.clone();
        async move { jobs.turn().await }
    });
    assert_eq!(woken.next().await, object("short"));
    jobs.cancel("cancelled");
    copied.send(()).expect("it copies");
    assert_eq!(woken.next().await, object("long"));
    assert_eq!(woken.next().await, object("next"));
    granting.abort();
    let table = jobs.table.lock();
    assert!(table.held.is_empty() && table.about_to_copy.is_empty());
    assert!((0..table.next_id).all(|id| table.long.work(id).is_none()));
}

#[tokio::test(start_paused = true)]
async fn new_resources_whose_job_takes_long_are_reported_once_in_order_of_arrival() {
    let (jobs, woken) = pool(1);
    let age = Duration::from_secs(2);
    run(&jobs, "quick", 1, |_| async { Report::default() }).await;
    assert_eq!(woken.next().await, object("quick"));
    run(&jobs, "runs", 1, |_| std::future::pending()).await;
    for name in ["a", "b", "c", "d"] {
        jobs.submit(order(name, 1));
    }
    jobs.submit(Order { is_new: false, ..order("old", 1) });
    jobs.cancel("b");

    assert_eq!(jobs.slow(age, 10), []);
    tokio::time::advance(age).await;
    assert_eq!(jobs.slow(age, 3), ["runs", "a", "c"].map(object));
    assert_eq!(jobs.slow(age, 3), ["d"].map(object));
    assert_eq!(jobs.slow(age, 3), []);
}

#[tokio::test]
async fn finish_ends_all_jobs() {
    let (jobs, _woken) = pool(1);
    run(&jobs, "a", 1, |_| std::future::pending()).await;
    jobs.submit(order("b", 1));
    jobs.finish().await;
    assert!(matches!(jobs.poll("b", 1), State::None));
    assert_eq!(jobs.tracker.len(), 0);
}
