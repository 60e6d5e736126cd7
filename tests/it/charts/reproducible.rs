//! Reproducible chart artifacts: the same archive has the same digest, on any machine and any day.

use super::*;

/// Adds a year to `clock_gettime`, for programs that are linked to libc.
const LATER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, at);
    if (clock == CLOCK_REALTIME) at->tv_sec += 365 * 24 * 3600;
    return code;
}
"#;

/// A library to preload, which moves the clock of a program by a year.
fn a_year_later(rig: &Rig) -> PathBuf {
    let (source, library) = (rig.folder().join("later.c"), rig.folder().join("later.so"));
    std::fs::write(&source, LATER).expect("a file");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(cc.status().expect("a C compiler").success());
    let year = |preload: Option<&PathBuf>| {
        let mut date = Command::new("date");
        date.args(["-u", "+%Y"]).envs(preload.map(|library| ("LD_PRELOAD", library)));
        String::from_utf8(date.output().expect("date").stdout)
            .expect("text")
            .trim()
            .parse::<u32>()
            .expect("a year")
    };
    assert!(year(Some(&library)) > year(None), "the clock is another one");
    library
}

#[tokio::test]
async fn the_same_archive_is_the_same_artifact_whoever_makes_it_and_when() {
    let rig = Rig::new("chart-reproducible").await;
    let charts = Charts::new(&rig).await;
    let lines =
        format!("- name: app\n  chart: {{pull_url: \"{}\", tags: [\"1.0.0\"]}}\n", charts.url());
    let later = a_year_later(&rig);
    let (now, then) = (
        [("TZ", OsStr::new("Asia/Tokyo"))],
        [("TZ", OsStr::new("America/Anchorage")), ("LD_PRELOAD", later.as_os_str())],
    );
    let mut digests = Vec::new();
    for environment in [&now[..], &then[..]] {
        let ecr = StandIn::start(ecr::Config::default()).await.expect("a stand-in");
        sync(&rig, &ecr, &lines, environment).await;
        digests
            .push(ecr.repository(ACCOUNT, REGION, "app").expect("created").tags["1.0.0"].clone());
    }
    assert_eq!(digests[0], digests[1]);
}
