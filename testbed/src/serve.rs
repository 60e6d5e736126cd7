//! `ecr-testbed ecr`, `cluster` and `upstream`: one server of the testbed, which runs until Ctrl-C.

use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::ecr::{self, StandIn};
use crate::interrupt::{End, Interrupt};
use crate::rules::{GRAMMAR, Rules};
use crate::upstream::{Auth, Upstream, User};
use crate::{Error, scratch};

/// Interval at which files and processes are checked.
const POLL: Duration = Duration::from_millis(200);

/// Runs the stand-in for ECR and STS
#[derive(Debug, Args)]
#[command(after_help = format!("Rules, one per line:\n{GRAMMAR}"))]
pub struct Ecr {
    /// Address of the API of ECR and STS; registries listen on other ports of 127.0.0.1
    #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 4510)))]
    listen: SocketAddr,

    /// Account with a registry; repeat it for more, the first is that of the printed credentials
    #[arg(long = "account", default_value = "123456789012")]
    accounts: Vec<String>,

    /// Region
    #[arg(long, default_value = "eu-west-1")]
    region: String,

    /// Folder for layers above 8 MiB and for the file `env` with the printed environment
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// File of rules, read again when it changes: denied actions, faults, delays, rates
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,

    /// Apply the published request rates of ECR
    #[arg(long, action = ArgAction::SetTrue)]
    rates: bool,
}

/// Runs a Kubernetes API: etcd and kube-apiserver
#[derive(Debug, Args)]
pub struct ClusterArguments {
    /// Folder for data, logs and the file `env` with the printed environment
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

/// Runs a registry with a few images, to copy from and to push to
#[derive(Debug, Args)]
pub struct UpstreamArguments {
    /// Folder for data, logs and the file `env` with the printed environment
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// Require a login for everything outside `public/`
    #[arg(long, action = ArgAction::SetTrue)]
    login: bool,
}

/// Runs the stand-in for ECR.
pub async fn ecr(arguments: Ecr) -> ExitCode {
    let Ecr { listen, accounts, region, data, rules, rates } = arguments;
    until_interrupted(async {
        let data = folder(data, "ecr")?;
        tempfile::env::override_temp_dir(&data)
            .map_err(|other| format!("temporary files are in {} already", other.display()))?;
        let config = ecr::Config { control: listen, ..ecr::Config::default() };
        let ecr = StandIn::start(config).await?;

        let mut environment = vec![
            ("AWS_ENDPOINT_URL".to_owned(), ecr.endpoint()),
            ("AWS_REGION".to_owned(), region.clone()),
            // Version 1 of the AWS CLI reads only this one.
            ("AWS_DEFAULT_REGION".to_owned(), region.clone()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), "any".to_owned()),
        ];
        let mut text = String::new();
        for (number, account) in accounts.iter().enumerate() {
            let key = StandIn::access_key(account);
            let registry = ecr.registry(account, &region).await;
            text.push_str(&format!("# account {account}: registry {registry}, access key {key}\n"));
            if number == 0 {
                environment.push(("AWS_ACCESS_KEY_ID".to_owned(), key));
                environment.push(("ECR_ACCOUNT_ID".to_owned(), account.clone()));
                environment.push(("ECR_REGION".to_owned(), region.clone()));
                environment.push(("REGISTRY".to_owned(), registry));
            }
        }
        announce(&data, &text, &environment)?;

        let mut rules = Rules::new(rules.unwrap_or_else(|| data.join("rules")));
        if rates {
            ecr.limits_like_ecr();
            rules = rules.with_rates_of_ecr();
        }
        loop {
            match rules.follow(&ecr) {
                Ok(None) => {}
                Ok(Some(text)) | Err(text) => eprintln!("{text}"),
            }
            sleep(POLL).await;
        }
    })
    .await
}

/// Runs a Kubernetes API.
pub async fn cluster(arguments: ClusterArguments) -> ExitCode {
    let ClusterArguments { data } = arguments;
    until_interrupted(async {
        let data = folder(data, "cluster")?;
        let cluster = Cluster::start(&data).await?;
        let kubeconfig = cluster.kubeconfig().display().to_string();
        let text = format!("# {}, logs in {}\n", cluster.url(), data.display());
        announce(&data, &text, &[("KUBECONFIG".to_owned(), kubeconfig)])?;
        loop {
            cluster.apiserver().alive()?;
            cluster.etcd().alive()?;
            sleep(POLL).await;
        }
    })
    .await
}

/// Runs a registry with a few images.
pub async fn upstream(arguments: UpstreamArguments) -> ExitCode {
    let UpstreamArguments { data, login } = arguments;
    until_interrupted(async {
        const LARGE_LAYER: usize = 8 << 20;
        let data = folder(data, "upstream")?;
        let auth = if login { Auth::TOKEN } else { Auth::None };
        let upstream = Upstream::start(&data, auth).await?;

        let mut text = String::new();
        for image in upstream.seed_images(LARGE_LAYER).await? {
            text.push_str(&format!("# {}:{} {}\n", image.repository, image.tag, image.digest));
        }
        let docker = upstream.docker_config(User::Writer).display().to_string();
        let environment = [
            ("REGISTRY".to_owned(), upstream.host().to_owned()),
            ("DOCKER_CONFIG".to_owned(), docker),
        ];
        announce(&data, &text, &environment)?;
        loop {
            upstream.registry().alive()?;
            sleep(POLL).await;
        }
    })
    .await
}

async fn until_interrupted(server: impl Future<Output = Result<Infallible, Error>>) -> ExitCode {
    let ending = match Interrupt::new() {
        Ok(mut interrupt) => interrupt.or(server).await,
        Err(error) => Err(End::Failed(error)),
    };
    match ending {
        Err(End::Interrupted) => ExitCode::SUCCESS,
        Err(End::Failed(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Ok(never) => match never {},
    }
}

/// The folder that the user named, or one below `target/testbed`.
fn folder(named: Option<PathBuf>, what: &str) -> Result<PathBuf, Error> {
    let Some(named) = named else { return scratch::folder(what) };
    let cannot = |e: std::io::Error| format!("cannot create {}: {e}", named.display());
    fs::create_dir_all(&named).map_err(cannot)?;
    Ok(std::path::absolute(&named).map_err(cannot)?)
}

/// Prints the environment, and writes it into the file `env` of the folder.
fn announce(folder: &Path, text: &str, environment: &[(String, String)]) -> Result<(), Error> {
    let exports: String =
        environment.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    let file = folder.join("env");
    // By one rename: a script may wait for the file and source it.
    let new = folder.join("env.new");
    fs::write(&new, format!("{text}{exports}"))
        .and_then(|()| fs::rename(&new, &file))
        .map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    print!("{text}{exports}");
    println!("# in another terminal: . {}", file.display());
    Ok(())
}
