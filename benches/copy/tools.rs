//! The compared tools: their versions, and the command of each to copy a corpus.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use testbed::ecr::StandIn;
use testbed::tools;

use crate::Error;
use crate::corpus::Corpus;
use crate::rig::{ACCOUNT, PUT_IMAGE_RATE, REGION, Rig};

/// A raised quota, enough for every corpus.
const RAISED: u32 = 1_000;

/// A tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    EcrSync,
    Crane,
    Regctl,
    Regsync,
    Oras,
    Skopeo,
    Ocync,
}

/// An installed tool.
#[derive(Debug, Clone)]
pub struct Tool {
    pub kind: Kind,
    pub version: String,
    program: PathBuf,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::EcrSync,
        Self::Crane,
        Self::Regctl,
        Self::Regsync,
        Self::Oras,
        Self::Skopeo,
        Self::Ocync,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::EcrSync => "ecr-sync",
            Self::Crane => "crane",
            Self::Regctl => "regctl",
            Self::Regsync => "regsync",
            Self::Oras => "oras",
            Self::Skopeo => "skopeo",
            Self::Ocync => "ocync",
        }
    }
}

impl Tool {
    /// Our own binary and those of tools/build must exist; skopeo and ocync are optional.
    pub fn find(kind: Kind) -> Result<Option<Self>, Error> {
        let program = match kind {
            Kind::EcrSync => PathBuf::from(env!("CARGO_BIN_EXE_ecr-sync")),
            Kind::Skopeo | Kind::Ocync => match on_path(kind.name()) {
                Some(program) => program,
                None => return Ok(None),
            },
            _ => tools::find(kind.name())?,
        };
        let version = match kind {
            // Built from Go modules, they do not know their own version.
            Kind::Crane | Kind::Regctl | Kind::Regsync | Kind::Oras => pinned(kind)?,
            _ => {
                let output = Command::new(&program).arg("--version").output()?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
                text.split_whitespace().find(number).unwrap_or("unknown").to_owned()
            }
        };
        Ok(Some(Self { kind, version, program }))
    }

    /// The command that copies `corpus` to the repository `target` of the rig's registry.
    pub fn command(&self, rig: &Rig, corpus: &Corpus, target: &str) -> Result<Command, Error> {
        let from = format!("{}/{}", rig.source, corpus.repository);
        let to = format!("{}/{target}", rig.target);
        let folder = rig.path("");
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::EcrSync => Self::ecr_sync(&mut command, rig, corpus, target)?,
            Kind::Crane if corpus.whole => {
                command.args(["copy", "--all-tags", &from, &to]);
            }
            Kind::Crane => {
                let tag = corpus.tags.keys().next().ok_or("a tag")?;
                command.args(["copy", &format!("{from}:{tag}"), &format!("{to}:{tag}")]);
            }
            Kind::Regctl => {
                let hosts =
                    json!({&rig.source: {"tls": "disabled"}, &rig.target: {"tls": "disabled"}});
                std::fs::write(rig.path("regctl.json"), json!({"hosts": hosts}).to_string())?;
                command = self.each(corpus, &["image", "copy"], &from, &to);
                command.env("REGCTL_CONFIG", rig.path("regctl.json"));
            }
            Kind::Regsync => {
                let file = rig.path("regsync.yaml");
                let login = login(rig)?;
                let tags: Vec<_> = corpus.tags.keys().collect();
                let config = json!({
                    "version": 1,
                    "creds": [{"registry": rig.source, "tls": "disabled"},
                              {"registry": rig.target, "tls": "disabled", "user": login.0,
                                  "pass": login.1}],
                    "sync": [{"source": from, "target": to, "type": "repository",
                        "tags": {"allow": tags}}],
                });
                std::fs::write(&file, config.to_string())?; // YAML, of which JSON is a part
                command.args(["once", "-c"]).arg(file);
            }
            Kind::Oras => {
                command =
                    self.each(corpus, &["cp", "--from-plain-http", "--to-plain-http"], &from, &to)
            }
            Kind::Skopeo => Self::skopeo(&mut command, corpus, &from, &to),
            Kind::Ocync => {
                let file = ocync(rig, corpus, target)?;
                command.args(["sync", "-c"]).arg(file);
            }
        }
        command.env("HOME", &folder).env("DOCKER_CONFIG", &folder).current_dir(&folder);
        Ok(command)
    }

    fn ecr_sync(
        command: &mut Command,
        rig: &Rig,
        corpus: &Corpus,
        target: &str,
    ) -> Result<(), Error> {
        let file = rig.path("repositories.yaml");
        let (source, repository) = (&rig.source, corpus.repository);
        let tags: Vec<_> = corpus.tags.keys().collect();
        let text = format!(
            "- {{name: {target}, image: {{pull_url: \"{source}/{repository}\", tags: {tags:?}, \
             insecure: true}}}}\n"
        );
        std::fs::write(&file, text)?;
        let rate = if corpus.limited { PUT_IMAGE_RATE } else { RAISED };
        command.arg("sync").arg(file).arg(format!("--put-image-rate={rate}"));
        // No corpus limits uploads.
        command.arg(format!("--layer-upload-rate={RAISED}"));
        command
            .env("AWS_ENDPOINT_URL", rig.ecr.endpoint())
            .env("AWS_ACCESS_KEY_ID", StandIn::access_key(ACCOUNT))
            .env("AWS_SECRET_ACCESS_KEY", "any")
            .env("AWS_REGION", REGION);
        Ok(())
    }

    /// One process per tag, sequentially, for a tool without a command for a repository.
    fn each(&self, corpus: &Corpus, verb: &[&str], from: &str, to: &str) -> Command {
        let mut script = String::new();
        for tag in corpus.tags.keys() {
            let _ = writeln!(script, "\"$@\" {from}:{tag} {to}:{tag} || failed=1");
        }
        script.push_str("exit ${failed:-0}\n");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script, "each"]).arg(&self.program).args(verb);
        command
    }

    fn skopeo(command: &mut Command, corpus: &Corpus, from: &str, to: &str) {
        command.arg("--insecure-policy");
        match corpus.tags.keys().next() {
            // `sync` copies a repository and uses the last segment of its name for the target.
            Some(tag) if corpus.tags.len() == 1 => {
                command.args([
                    "copy",
                    "--all",
                    "--preserve-digests",
                    "--src-tls-verify=false",
                    "--dest-tls-verify=false",
                ]);
                command.args([format!("docker://{from}:{tag}"), format!("docker://{to}:{tag}")]);
            }
            _ => {
                let parent = to.rsplit_once('/').map_or(to, |(parent, _)| parent);
                command.args([
                    "sync",
                    "--all",
                    "--preserve-digests",
                    "--src=docker",
                    "--dest=docker",
                ]);
                command.args(["--src-tls-verify=false", "--dest-tls-verify=false", from, parent]);
            }
        }
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The version in tools/NAME/go.mod.
fn pinned(kind: Kind) -> Result<String, Error> {
    let module = match kind {
        Kind::Crane => "github.com/google/go-containerregistry",
        Kind::Oras => "oras.land/oras",
        _ => "github.com/regclient/regclient",
    };
    let path = tools::workspace().join("tools").join(kind.name()).join("go.mod");
    let text = std::fs::read_to_string(&path)
        .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let words: Vec<_> = text.split_whitespace().collect();
    let version = words
        .windows(2)
        .find(|pair| pair[0] == module)
        .map(|pair| pair[1].trim_start_matches('v').to_owned());
    Ok(version.ok_or_else(|| format!("{} pins no {module}", path.display()))?)
}

/// User and password of ECR's registry.
fn login(rig: &Rig) -> Result<(String, String), Error> {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.decode(rig.token())?;
    let pair = String::from_utf8(pair)?;
    let (user, password) = pair.split_once(':').ok_or("user and password")?;
    Ok((user.to_owned(), password.to_owned()))
}

fn ocync(rig: &Rig, corpus: &Corpus, target: &str) -> Result<PathBuf, Error> {
    let (user, password) = login(rig)?;
    let tags: Vec<_> = corpus.tags.keys().collect();
    let config = json!({
        "global": {"cache_dir": rig.path("cache")},
        "registries": {
            "source": {"url": format!("http://{}", rig.source), "auth_type": "anonymous"},
            "target": {"url": format!("http://{}", rig.target), "auth_type": "basic",
                       "credentials": {"username": user, "password": password}},
        },
        "defaults": {"source": "source", "targets": "target", "artifacts": {"enabled": false},
            "tags": {"glob": tags}},
        "mappings": [{"from": corpus.repository, "to": target}],
    });
    let file: &Path = &rig.path("ocync.yaml");
    std::fs::write(file, config.to_string())?;
    Ok(file.to_owned())
}
