//! `ecr-sync sync` on a terminal: a pseudo-terminal from Python, which the tests need anyway.

use std::process::Command;
use std::time::Duration;

use testbed::process::Process;
use testbed::traffic::{Fault, Match, Then};

use crate::support::desk::{Desk, output};
use crate::support::{Sources, eventually};

/// Runs its arguments in a terminal with 100 columns, and writes the screen to standard output. A
/// file `interrupt` in the folder sends Ctrl-C.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, struct, sys, termios
pid, master = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
while True:
    if os.path.exists("interrupt"):
        os.unlink("interrupt")
        os.write(master, b"\x03")
    if not select.select([master], [], [], 0.05)[0]:
        continue
    try:
        shown = os.read(master, 65536)
    except OSError:
        break
    if not shown:
        break
    os.write(1, shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// The command of a desk, in a terminal.
fn in_terminal(desk: &Desk, arguments: &[&str]) -> Command {
    let inner = desk.command(arguments);
    let mut command = Command::new("python3");
    command
        .arg("-c")
        .arg(TERMINAL)
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(desk.folder.path());
    command.env_clear();
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm-256color");
    command
}

async fn desk() -> Desk {
    Desk::before(Sources::shared().await.open.host()).await
}

#[tokio::test]
async fn a_terminal_shows_bars_a_line_per_repository_and_the_summary() {
    let desk = desk().await;
    let text = format!("{}- name: empty\n", desk.entry("app", "team/app", &["v1", "v2"]));
    desk.write("all.yaml", &text);
    let shown = output(in_terminal(&desk, &["sync", "all.yaml"])).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{text}");
    assert!(text.contains("repositories [") && text.contains("/2 "), "{text}");
    assert!(text.contains("copies       [") && text.contains("B/s"), "{text}");
    assert!(text.contains("app: created, 2/2 image tags of "), "{text}");
    let end = text.rsplit("ECR SYNC SUMMARY").next().unwrap_or_default();
    assert!(
        end.contains("Repositories Processed: 2") && !end.contains("repositories ["),
        "bars are gone: {end}"
    );
    assert!(!text.contains("INFO"), "no log lines between the bars: {text}");
}

#[tokio::test]
async fn quiet_and_no_color_are_kept() {
    let desk = desk().await;
    desk.write("all.yaml", "- name: app\n");
    let colored = output(in_terminal(&desk, &["sync", "all.yaml", "--dry-run"])).await;
    assert!(String::from_utf8_lossy(&colored.stdout).contains("\u{1b}[32m+ repository app"));
    let mut plain = in_terminal(&desk, &["sync", "all.yaml", "--dry-run", "--quiet"]);
    plain.env("NO_COLOR", "1");
    let plain = output(plain).await;
    let text = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(!text.contains('\u{1b}') && !text.contains("+ repository"), "{text:?}");
    assert!(text.contains("Repositories: 1 to create"), "{text}");
}

#[tokio::test]
async fn ctrl_c_ends_the_copies_and_shows_the_summary() {
    let desk = desk().await;
    desk.source.faults().add(Fault::new(Match::operation("GetBlob"), Then::StallAfter(1)));
    desk.write("all.yaml", &desk.entry("app", "team/app", &["v1"]));
    let log = desk.folder.path().join("log");
    let process = Process::spawn("terminal", &in_terminal(&desk, &["sync", "all.yaml"]), &log)
        .expect("it starts");
    eventually("copying", async || desk.source.count(|request| request.operation == "GetBlob") > 0)
        .await;
    desk.write("interrupt", "");
    assert_eq!(process.wait(Duration::from_secs(20)).await.expect("it ends"), 1);
    let text = process.tail(usize::MAX);
    assert!(text.contains("ECR SYNC SUMMARY") && text.contains("Created: 1"), "{text}");
    assert!(text.contains("-> run again: everything copied so far is kept"), "{text}");
}
