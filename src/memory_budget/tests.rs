use std::time::Duration;

use super::*;

const MIB: usize = 1024 * 1024;

/// 4 MiB for small documents, 12 MiB for large ones, 16 MiB for results.
fn budget() -> Budget {
    Budget::new(32 * MIB)
}

#[tokio::test(start_paused = true)]
async fn a_small_document_never_waits_for_large_ones() {
    let budget = budget();
    let mut large = budget.document(12 * MIB).await.unwrap();
    large.grow(12 * MIB).await.unwrap();

    let mut other = budget.document(MIB).await.unwrap();
    let busy = Shortage::Busy { total: 32 * MIB };
    assert_eq!(other.grow(MIB).await, Err(busy), "after a minute");
    let small = budget.document(SMALL).await.unwrap();
    drop(large);
    other.grow(12 * MIB).await.unwrap();
    drop((small, other));

    assert_eq!(budget.0.small.free.available_permits() * UNIT, 4 * MIB, "all is given back");
    assert_eq!(budget.0.large.free.available_permits() * UNIT, 12 * MIB);
}

#[tokio::test]
async fn a_document_that_outgrows_the_budget_is_an_error_that_says_what_to_do() {
    let budget = budget();
    let too_large = Shortage::TooLarge { most: 12 * MIB, total: 32 * MIB };
    assert_eq!(budget.document(12 * MIB + 1).await.err(), Some(too_large));
    let mut document = budget.document(0).await.unwrap();
    assert_eq!(document.grow(12 * MIB + 1).await, Err(too_large));
    assert_eq!(
        too_large.to_string(),
        "it needs more than 12 MiB of memory, the most that one document may use of the memory \
         budget of 32 MiB: raise --memory-budget (controller.memoryBudget), or use a smaller source"
    );
    assert_eq!(too_large.class(), Class::SourceInvalid);
    assert_eq!(Shortage::Busy { total: 0 }.class(), Class::MemoryPressure);
}

/// Each document holds 4 of 12 MiB and wants 8: none of them can have it.
#[tokio::test(start_paused = true)]
async fn documents_that_block_each_other_fail_at_once_and_the_last_one_goes_on() {
    let budget = budget();
    let mut documents = Vec::new();
    for _ in 0..3 {
        let mut document = budget.document(MIB).await.unwrap();
        document.grow(4 * MIB).await.unwrap();
        documents.push(document);
    }

    let start = tokio::time::Instant::now();
    let mut last = documents.pop().unwrap();
    assert!(documents.iter_mut().all(|document| document.grow_now(8 * MIB).is_err()));
    assert!(last.grow(8 * MIB).await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO, "no wait");
    documents.clear();
    last.grow(8 * MIB).await.unwrap();
}

/// Many documents at once, which grow in steps and hold results: all end, whatever the order.
#[tokio::test(start_paused = true)]
async fn readers_without_end_never_block_each_other() {
    let budget = budget();
    let read = |seed: u64| {
        let budget = budget.clone();
        async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut results = budget.results();
            for _ in 0..20 {
                let Ok(mut document) = budget.document(random.usize(..MIB)).await else { continue };
                for _ in 0..5 {
                    tokio::time::sleep(Duration::from_millis(random.u64(1..50))).await;
                    if document.grow(random.usize(..6 * MIB)).await.is_err() {
                        break;
                    }
                }
                drop(document);
                if results.add(random.usize(..MIB)).is_err() {
                    results.shrink_to(0);
                }
            }
        }
    };
    let all = futures::future::join_all((0..100).map(|seed| tokio::spawn(read(seed))));
    let ended = tokio::time::timeout(Duration::from_secs(3600), all).await.expect("an end");
    assert!(ended.iter().all(Result::is_ok));
    assert_eq!(budget.results_in_use().0, 0);
    assert_eq!(budget.0.large.free.available_permits() * UNIT, 12 * MIB);
}

#[test]
fn large_results_leave_a_quarter_to_small_ones() {
    let budget = budget();
    let mut large = budget.results();
    large.add(8 * MIB).unwrap();
    let too_large = Shortage::TooLarge { most: 8 * MIB, total: 32 * MIB };
    assert_eq!(large.add(1), Err(too_large));
    let mut other = budget.results();
    other.add(4 * MIB).unwrap();
    assert_eq!(other.add(1), Err(Shortage::Busy { total: 32 * MIB }));
    let mut small = budget.results();
    small.add(SMALL).unwrap();

    large.shrink_to(7 * MIB);
    other.add(1).unwrap();
    assert_eq!((large.bytes(), other.bytes()), (7 * MIB, 4 * MIB + 1));
    drop((large, other));
    assert_eq!(budget.results_in_use(), (SMALL, 12 * MIB + SMALL));
}
