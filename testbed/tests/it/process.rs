//! A child process ends with its parent, whatever ends the parent.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::process::{Process, is_running};

/// Set for the copy of this test binary that plays the parent.
const PARENT: &str = "TESTBED_PARENT_LOG";

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

async fn gone(pid: u32) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if !is_running(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn killing_the_parent_leaves_no_child() {
    if let Some(log) = std::env::var_os(PARENT) {
        // The trap makes it a program that does not end on SIGTERM; the grace is short.
        let command = shell("trap '' TERM; echo ready; while :; do sleep 0.1; done");
        let child = Process::spawn_with_grace(
            "stubborn",
            &command,
            log.as_ref(),
            Duration::from_millis(300),
        )
        .unwrap();
        while !child.tail(1).contains("ready") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("child {}", child.pid());
        std::future::pending::<()>().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap());
    parent.args(["--exact", "process::killing_the_parent_leaves_no_child", "--nocapture"]);
    let mut parent =
        parent.env(PARENT, folder.path().join("log")).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
    // libtest can have written the test's name on the same line.
    let pid = lines
        .filter_map(|line| line.split_once("child ").map(|(_, pid)| pid.to_owned()))
        .next()
        .unwrap();
    let pid: u32 = pid.parse().unwrap();
    assert!(is_running(pid));
    parent.kill().unwrap(); // SIGKILL: nothing of the parent runs any more
    parent.wait().unwrap();
    assert!(gone(pid).await, "process {pid} outlived its parent");
}

#[tokio::test]
async fn dropping_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let process =
        Process::spawn("sleep", Command::new("sleep").arg("1000"), &folder.path().join("log"))
            .unwrap();
    let pid = process.pid();
    assert!(is_running(pid));
    drop(process);
    assert!(!is_running(pid));
}

#[tokio::test]
async fn stop_is_polite_first_and_then_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let polite = shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let polite = Process::spawn("polite", &polite, &log).unwrap();
    wait_for_line(&polite, "ready").await;
    assert_eq!(polite.stop().await.unwrap(), 7);
    assert_eq!(polite.tail(1), "bye");
    assert_eq!(polite.stop().await.unwrap(), 7, "stopping twice is no error");

    let deaf = shell("trap '' TERM; echo deaf; while :; do sleep 0.05; done");
    let deaf = Process::spawn_with_grace("deaf", &deaf, &log, Duration::from_millis(200)).unwrap();
    wait_for_line(&deaf, "deaf").await;
    assert_eq!(deaf.stop().await.unwrap(), 128 + 9);
}

#[tokio::test]
async fn the_end_of_a_program_is_seen_with_its_code_and_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = shell("echo to stdout; echo \"$WHAT\" to stderr >&2; exit 3");
    let process = Process::spawn("short", command.env("WHAT", "much"), &log).unwrap();
    assert_eq!(process.wait(Duration::from_secs(10)).await.unwrap(), 3);
    assert_eq!(process.exited(), Some(3));
    assert_eq!(process.tail(9), "to stdout\nmuch to stderr");
    let error = process.alive().unwrap_err().to_string();
    assert!(error.starts_with("short exited with 3; its log ends:\nto stdout"), "{error}");

    let missing = Process::spawn("missing", &Command::new("/no/such/program"), &log).unwrap();
    assert_eq!(missing.wait(Duration::from_secs(10)).await.unwrap(), 127);
}

#[tokio::test]
async fn signals_reach_the_program_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let command = shell("trap 'echo got usr1' USR1; echo ready; while :; do sleep 0.05; done");
    let process = Process::spawn("listener", &command, &folder.path().join("log")).unwrap();
    wait_for_line(&process, "ready").await;
    process.signal("USR1");
    wait_for_line(&process, "got usr1").await;
    process.kill();
    assert_eq!(process.wait(Duration::from_secs(10)).await.unwrap(), 128 + 9);
}

async fn wait_for_line(process: &Process, line: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    while !process.tail(5).lines().any(|l| l == line) {
        assert!(Instant::now() < end, "{} never said {line}: {}", process.name(), process.tail(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
