//! libFuzzer with one of the targets of `ecr_sync::fuzzing`: `make fuzz TARGET=reference`.

#![no_main]

use std::sync::LazyLock;

use ecr_sync::fuzzing::targets;
use libfuzzer_sys::fuzz_target;

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("TARGET").unwrap_or_default();
    let names: Vec<_> = targets().into_iter().map(|(name, _)| name).collect();
    let target = targets().into_iter().find(|(name, _)| *name == wanted);
    let Some((_, run)) = target else {
        eprintln!("TARGET is {wanted:?}: name one of {}", names.join(" "));
        std::process::exit(64)
    };
    run
});

fuzz_target!(init: LazyLock::force(&RUN), |data: &[u8]| RUN(data));
