//! `ecr-testbed demo`: runs the operator on one machine, prints each step, and checks the result.
//!
//! ```text
//! start everything -> apply examples/ -> wait for the expected state -> check it -> stop on Ctrl-C
//! ```

mod convergence;
mod examples;
mod monitoring;
mod narrator;
mod one_shot;
mod operator;
mod proof;
mod resource;
mod shell;
mod stage;

use std::convert::Infallible;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use crate::interrupt::{End, Interrupt};
use crate::rules::Rules;
use crate::{Error, scratch, tools};
use examples::{CHART, MISTAKE};
use narrator::Narrator;
use stage::Stage;

/// The account and region of the operator.
const ACCOUNT: &str = "123456789012";
const REGION: &str = "eu-west-1";
/// Namespace of the examples.
const NAMESPACE: &str = "demo";
/// Exit code after an interrupt: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Shows the operator at work: a real API server, a stand-in for ECR, and the files of examples/
#[derive(Debug, Args)]
pub struct Arguments {
    /// Stop after the last step; the exit code is 0 only if every check passed
    #[arg(long)]
    once: bool,

    /// Scrape the operator with a real Prometheus, which must be installed
    #[arg(
        long,
        env = "MONITORING",
        num_args = 0..=1,
        default_missing_value = "true",
        default_value = "false",
        require_equals = true,
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    monitoring: bool,
}

/// Runs the demo. All its processes have ended when it returns.
pub async fn run(arguments: Arguments) -> ExitCode {
    let Arguments { once, monitoring } = arguments;
    let narrator = Narrator::new();
    narrator.plain("ecr-sync on one machine: no AWS account, no cluster, no internet.\n");

    match demo(once, monitoring, &narrator).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::Interrupted) => {
            narrator.say("interrupted; all processes have ended");
            ExitCode::from(INTERRUPTED)
        }
        Err(End::Failed(e)) => {
            narrator.failed(e);
            ExitCode::FAILURE
        }
    }
}

async fn demo(once: bool, monitoring: bool, narrator: &Narrator) -> Result<(), End> {
    let mut interrupt = Interrupt::new().map_err(End::Failed)?;
    let dir = scratch::folder("demo").map_err(End::Failed)?;
    let stage = interrupt.or(Stage::start(&dir, monitoring, narrator)).await?;

    let mut ending = interrupt.or(play(&stage, narrator)).await;
    if !once && let Ok(summary) = &ending {
        narrator.plain(&format!("\n{summary}"));
        ending = match interrupt.or(stay(&stage, narrator)).await {
            Err(End::Interrupted) => Ok("All processes have ended.".to_owned()),
            Err(failed) => Err(failed),
            Ok(never) => match never {},
        };
    }
    if let Err(End::Failed(_)) = &ending {
        narrator.shows(&format!("tail {}", shown(stage.operator.log())), &stage.operator.tail(20));
    }

    // A second Ctrl-C drops the stage, which kills all its processes.
    let stopped = interrupt.or(stage.stop(narrator)).await;
    let summary = ending?;
    stopped?;
    narrator.plain(&format!("\n{summary}"));
    Ok(())
}

/// Applies the examples, waits for the expected state, and checks it. Returns a summary.
async fn play(stage: &Stage, narrator: &Narrator) -> Result<String, Error> {
    narrator.step(format!(
        "Apply the examples in the namespace {NAMESPACE}; their sources are on this machine"
    ));
    let folder = stage.dir.join("examples");
    examples::write(stage.upstream.host(), stage.charts.host(), &folder, narrator)?;
    stage.cluster.kubectl(&["apply", "--filename", &folder.display().to_string()]).await?;

    narrator.step("Watch the operator");
    let resources = convergence::wait(stage, narrator).await?;
    narrator.proven(format!(
        "all are Ready except {}, which wants a tag that does not exist",
        MISTAKE.resource
    ));

    narrator.step("Compare each tag in its source and in ECR (crane digest, crane validate)");
    proof::of_the_copies(stage, &resources, narrator).await?;

    narrator.step(
        "Show and pull each version of the chart, and compare the archives (helm show chart, helm \
         pull)",
    );
    proof::of_the_charts(stage, &resources, narrator).await?;

    narrator.step("Compare the lifecycle policies in ECR with the examples");
    proof::of_the_policies(stage, &resources, narrator)?;

    narrator.step("Read the operator's metrics, and let it check one repository again");
    proof::of_the_server(stage, &resources, narrator).await?;
    proof::of_the_no_op(stage, &resources, narrator).await?;

    if let Some(monitoring) = &stage.monitoring {
        narrator.step("Query Prometheus");
        monitoring.check(resources.len(), narrator).await?;
    }

    narrator.step("Sync a file of the older YAML tool from the command line");
    one_shot::show(stage, narrator).await?;

    narrator.step("Show the resources with kubectl, as a user does");
    proof::for_a_user(stage, narrator).await?;

    let copies = proof::count(&resources);
    let count = resources.len();
    Ok(format!(
        "All checks passed: {count} repositories, {copies} tags copied, the mistake in {} \
         reported.",
        MISTAKE.resource
    ))
}

/// Prints commands to try, and waits until the operator ends.
async fn stay(stage: &Stage, narrator: &Narrator) -> Result<Infallible, Error> {
    let env = stage.shell.write_file()?;
    let uri = stage.ecr.registry(ACCOUNT, REGION).await;
    let mut rules = Rules::new(stage.dir.join("rules"));
    let has_aws =
        tools::find("aws").is_ok() || Command::new("aws").arg("--version").output().is_ok();
    let aws =
        if has_aws { "\n  aws ecr describe-images --repository-name platform/nginx" } else { "" };
    narrator.plain(&format!(
        "Everything runs until Ctrl-C. Try it in another terminal:

  . {env}
  kubectl get ers --watch
  kubectl get events
  crane ls {uri}/platform/nginx{aws}
  helm show chart oci://{uri}/charts/{chart} --plain-http
  tail -f {log}

Move a tag in the source; the operator copies the new image:
  crane copy {source}library/nginx:1.26 {source}library/nginx:latest
  kubectl annotate ers platform-nginx --overwrite ecr-sync.io/requestedAt=\"$(date +%s)\"
  crane digest {uri}/platform/nginx:latest   # now that of 1.26

Break something, read the reason with `kubectl describe ers NAME`, and repair it.

A missing tag:
  kubectl edit ers {mistake}   # change {missing} to {good}: the resource becomes Ready

A wrong password:
  crane delete {uri}/team/app@$(crane digest {uri}/team/app:v1)
  kubectl patch secret {secret} -p '{wrong}'
  kubectl apply -f {private}   # restores the right password

A denied action:
  echo 'ecr:PutLifecyclePolicy platform/nginx' > {rules}
  kubectl patch ers platform-nginx --type json -p '{policy}'
  rm {rules}   # allows it again; ask for another pass:
  kubectl annotate ers platform-nginx --overwrite ecr-sync.io/requestedAt=\"$(date +%s)\"
",
        env = env.display(),
        source = examples::docker_io(stage.upstream.host()),
        mistake = MISTAKE.resource,
        chart = CHART.name,
        good = "1.27",
        missing = MISTAKE.missing,
        log = stage.operator.log().display(),
        secret = "team-registry",
        wrong = examples::wrong_password(stage.upstream.host()),
        private = stage.dir.join("examples/04-private-source.yaml").display(),
        policy = "[{\"op\": \"replace\", \"path\": \"/spec/lifecyclePolicy/rules/0/selection/countNumber\", \
                  \"value\": 30}]",
        rules = rules.file().display(),
    ));

    loop {
        stage.operator.alive()?;
        match rules.follow(&stage.ecr) {
            Ok(None) => {}
            Ok(Some(text)) | Err(text) => narrator.say(text),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Returns the path relative to the current directory, if it is below it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok());
    short.unwrap_or(path).display().to_string()
}
