//! `ecr-testbed ecr`, `cluster` and `upstream`, used from a shell that sources what they print.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::process::{Process, free_port};
use testbed::{Error, tools};
use tokio::time::{Instant, sleep};

/// Of a server that starts on a machine which has other work.
const READY: Duration = Duration::from_secs(120);

struct Server {
    process: Process,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server, and returns when its environment can be sourced.
    async fn start(arguments: &[&str]) -> Result<Self, Error> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-testbed"));
        command.args(arguments).arg("--data").arg(folder.path());
        let process = Process::spawn(arguments[0], &command, &folder.path().join("log"))?;
        let server = Self { process, folder };
        let end = Instant::now() + READY;
        while !server.file("env").exists() {
            server.process.alive()?;
            assert!(Instant::now() < end, "{}", server.process.tail(20));
            sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a line in a shell with the server's environment. Returns what it prints, and `Err`
    /// with its standard error when it fails.
    async fn run(&self, line: &str) -> Result<String, String> {
        let tools = ["aws", "crane", "kubectl"].map(|tool| tools::find(tool).expect("make tools"));
        let mut folders: Vec<_> = tools.iter().filter_map(|tool| tool.parent()).collect();
        folders.push(Path::new("/usr/bin:/bin"));
        let path: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let mut shell = tokio::process::Command::new("bash");
        shell.args(["-euc", &format!(". {}\n{line}", self.file("env").display())]);
        shell.env_clear().env("PATH", path.join(":")).env("HOME", self.folder.path());
        let output = shell.kill_on_drop(true).output().await.expect("a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    async fn stop(self) -> Result<(), Error> {
        assert_eq!(self.process.stop().await?, 0, "{}", self.process.tail(20));
        Ok(())
    }
}

#[tokio::test]
async fn the_stand_in_alone_is_used_by_its_printed_environment_and_follows_its_rules()
-> Result<(), Error> {
    let listen = format!("127.0.0.1:{}", free_port()?);
    let second = ["--account", "123456789012", "--account", "210987654321"];
    let server = Server::start(&[&["ecr", "--listen", &listen], &second[..]].concat()).await?;
    let create = "aws ecr create-repository --repository-name app --query repository.registryId";
    assert_eq!(server.run(&format!("{create} --output text")).await?, "123456789012");
    let env = std::fs::read_to_string(server.file("env"))?;
    assert!(env.contains("# account 210987654321: registry 127.0.0.1:"), "{env}");
    let login = "aws ecr get-login-password | crane auth login -u AWS --password-stdin $REGISTRY";
    server.run(login).await?;
    assert_eq!(server.run("crane ls $REGISTRY/app").await?, "");

    std::fs::write(server.file("rules"), "ecr:DeleteRepository app\n")?;
    let delete = "aws ecr delete-repository --repository-name app";
    let end = Instant::now() + READY;
    let error = loop {
        match server.run(delete).await {
            Err(error) => break error,
            // The rules are read every 200 ms.
            Ok(_) => server.run(create).await?,
        };
        assert!(Instant::now() < end, "the rules were never applied");
    };
    assert!(error.contains("AccessDenied"), "{error}");
    server.stop().await
}

#[tokio::test]
async fn the_cluster_alone_is_used_by_its_printed_environment() -> Result<(), Error> {
    let server = Server::start(&["cluster"]).await?;
    assert_eq!(server.run("kubectl get --raw /readyz").await?, "ok");
    server.stop().await
}

#[tokio::test]
async fn the_upstream_alone_has_images_and_takes_pushes() -> Result<(), Error> {
    for arguments in [&["upstream"][..], &["upstream", "--login"]] {
        let server = Server::start(arguments).await?;
        let image = "$REGISTRY/library/demo";
        server.run(&format!("crane copy {image}:1.26 {image}:latest")).await?;
        let digests = format!("crane digest {image}:1.26; crane digest {image}:latest");
        let digests = server.run(&digests).await?;
        let (old, moved) = digests.split_once('\n').expect("two digests");
        assert_eq!(old, moved);
        server.stop().await?;
    }
    Ok(())
}
