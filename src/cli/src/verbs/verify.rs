//! `spark verify`.

use std::future::Future;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_deleted};
use kube::{Client, ResourceExt};
use spark_client::{Condition, Exec, Sparks, Step};
use sparks_api::{Checkpoint, Spark};

use crate::context::Context;
use crate::errors::{self, CliError, FAILED, INTERRUPTED, Outcome};
use crate::progress::Progress;
use crate::{human, parse};

/// Where the proof is written in a Spark.
const FILE: &str = "/root/spark-verify";

/// Prove an installation by using it.
///
/// Makes a namespace with the Pod Security level `baseline`, and in it a Spark; runs commands in it, forks it, takes a
/// Checkpoint and restores it; removes everything. Says what failed and what to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Image of the Spark; it needs a shell
    #[arg(long, default_value = "debian:trixie-slim")]
    pub image: String,
    /// Leave the namespace as it is, to look at it
    #[arg(long)]
    pub keep: bool,
    /// How long each step may take
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = parse::duration)]
    pub timeout: Duration,
}

/// Why the installation is not as it should be.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Client(#[from] spark_client::Error),
    #[error("the command ended with exit code {code}: {said}")]
    Command { code: i32, said: String },
    #[error("it said {found:?} and not {wanted:?}")]
    Data { found: String, wanted: &'static str },
    #[error(
        "the namespace is not gone after {0}; look for what holds it with: kubectl get volumes.sparks.loop.work -A"
    )]
    Namespace(String),
}

/// Uses the installation.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let steps = Steps { quiet: context.quiet };
    let sparks = &context.sparks;
    let start = Instant::now();
    let known = steps.step("the cluster knows Sparks", |_| async { Ok(sparks.list_all("").await?) }).await;
    if known.is_none() {
        return Ok(FAILED);
    }
    let made = steps.step("a namespace is made", |_| create_namespace(sparks)).await;
    let Some(namespace) = made else { return Ok(FAILED) };
    let inside = sparks.in_namespace(&namespace);
    let code = tokio::select! {
        worked = use_it(&steps, &inside, &args) => if worked.is_some() { 0 } else { FAILED },
        Ok(()) = tokio::signal::ctrl_c() => INTERRUPTED,
    };
    if args.keep {
        context.say(&format!(
            "The namespace {namespace} is kept; remove it with: kubectl delete namespace {namespace}"
        ))?;
        return Ok(code);
    }
    let client = sparks.client().clone();
    let removed =
        steps.step("everything is removed", |_| delete_namespace(client, &namespace, args.timeout)).await;
    if code == 0 && removed.is_some() {
        context.say(&format!("Sparks works here ({}).", human::took(start.elapsed())))?;
        return Ok(0);
    }
    Ok(if code == 0 { FAILED } else { code })
}

/// The steps; `None` when one failed, which has said so.
async fn use_it(steps: &Steps, sparks: &Sparks, args: &Args) -> Option<()> {
    let (limit, image) = (args.timeout, &args.image);
    steps
        .step(&format!("a Spark starts from {image}"), |progress| async move {
            sparks.create_from_image("verify", image).await?;
            wait(sparks, "verify", limit, progress).await
        })
        .await?;
    steps.step("a command writes into it", |_| write(sparks, "verify", "first")).await?;
    steps.step("another reads it", |_| expect(sparks, "verify", "first")).await?;
    steps.step("its SSH server answers", |_| greeted(sparks, "verify")).await?;
    steps
        .step("it is forked", |progress| async move {
            sparks.fork("verify", "verify-fork").await?;
            wait(sparks, "verify-fork", limit, progress).await
        })
        .await?;
    steps.step("the fork has its files", |_| expect(sparks, "verify-fork", "first")).await?;
    steps
        .step("the fork's changes are its own", |_| async move {
            write(sparks, "verify-fork", "fork").await?;
            expect(sparks, "verify", "first").await
        })
        .await?;
    steps
        .step("a Checkpoint is taken", |progress| async move {
            sparks.checkpoint("verify", "verify-checkpoint", None).await?;
            let tell = move |step: &Step| progress.step(&step.text);
            sparks.wait_for_checkpoint("verify-checkpoint", limit, tell).await?;
            write(sparks, "verify", "second").await
        })
        .await?;
    steps
        .step("the Spark is restored to it", |progress| async move {
            sparks.restore("verify", "verify-checkpoint").await?;
            wait(sparks, "verify", limit, progress).await?;
            expect(sparks, "verify", "first").await
        })
        .await?;
    steps
        .step("a Spark is deleted", |_| async move {
            let uid = sparks.get("verify-fork").await?.uid().unwrap_or_default();
            sparks.delete("verify-fork").await?;
            Ok(sparks.wait_until_gone::<Spark>("verify-fork", &uid, limit).await?)
        })
        .await
}

async fn wait(sparks: &Sparks, name: &str, limit: Duration, progress: Progress) -> Result<(), Broken> {
    let tell = move |step: &Step| progress.step(&step.text);
    Ok(sparks.wait(name, Condition::Ready, limit, tell).await.map(drop)?)
}

async fn write(sparks: &Sparks, name: &str, text: &'static str) -> Result<(), Broken> {
    let exec = Exec::new(["sh".to_owned(), "-c".into(), format!("cat > {FILE}")]);
    succeed(sparks.run(name, exec, text.as_bytes()).await?).map(drop)
}

async fn expect(sparks: &Sparks, name: &str, wanted: &'static str) -> Result<(), Broken> {
    let found = succeed(sparks.run(name, Exec::new(["cat", FILE]), b"").await?)?;
    if found == wanted { Ok(()) } else { Err(Broken::Data { found, wanted }) }
}

/// An SSH server says its name first, RFC 4253, section 4.2; without an answer it hangs up.
async fn greeted(sparks: &Sparks, name: &str) -> Result<(), Broken> {
    let (mut said, mut complaints) = (Vec::new(), Vec::new());
    let spark = sparks.get(name).await?;
    sparks.ssh(&spark).await?.run(&b""[..], &mut said, &mut complaints).await?;
    if said.starts_with(b"SSH-2.0-") {
        return Ok(());
    }
    Err(Broken::Data { found: String::from_utf8_lossy(&said).into_owned(), wanted: "SSH-2.0-" })
}

fn succeed(output: spark_client::Output) -> Result<String, Broken> {
    match output.code {
        0 => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        code => {
            let said = human::printable(String::from_utf8_lossy(&output.stderr).trim());
            Err(Broken::Command { code, said })
        }
    }
}

async fn create_namespace(sparks: &Sparks) -> Result<String, Broken> {
    let labels =
        [("pod-security.kubernetes.io/enforce", "baseline"), ("app.kubernetes.io/part-of", "spark-verify")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let metadata = ObjectMeta {
        generate_name: Some("spark-verify-".into()),
        labels: Some(labels.into()),
        ..Default::default()
    };
    let namespace = Namespace { metadata, ..Default::default() };
    let api: Api<Namespace> = Api::all(sparks.client().clone());
    let made = api.create(&PostParams::default(), &namespace).await;
    Ok(made.map_err(|error| sparks.error::<Spark>("", error))?.name_any())
}

/// Removes Sparks and data first: a namespace that is deleted with things in it looks at them only every now and then.
async fn empty(sparks: &Sparks, limit: Duration) {
    let _ = sparks.delete_object::<Checkpoint>("verify-checkpoint").await;
    let made = sparks.list("").await.unwrap_or_default();
    futures::future::join_all(made.iter().map(|spark| async move {
        let (name, uid) = (spark.name_any(), spark.uid().unwrap_or_default());
        sparks.delete(&name).await?;
        sparks.purge_when_trashed(&name, &uid, limit).await
    }))
    .await;
}

async fn delete_namespace(client: Client, name: &str, limit: Duration) -> Result<(), Broken> {
    let api: Api<Namespace> = Api::all(client.clone());
    let sparks = Sparks::new(client, name);
    empty(&sparks, limit / 2).await;
    let deleted = api.delete(name, &DeleteParams::default()).await;
    let deleted = deleted.map_err(|error| sparks.error::<Spark>("", error))?;
    let uid = deleted.left().and_then(|namespace| namespace.uid()).unwrap_or_default();
    let gone = tokio::time::timeout(limit, await_condition(api, name, is_deleted(&uid))).await;
    gone.map(drop).map_err(|_| Broken::Namespace(human::took(limit)))
}

/// Does steps and prints a line for each.
struct Steps {
    quiet: bool,
}

impl Steps {
    async fn step<T, F>(&self, what: &str, act: impl FnOnce(Progress) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Broken>>,
    {
        let progress = Progress::new(self.quiet);
        progress.step(what);
        let start = Instant::now();
        let result = act(progress.clone()).await;
        progress.clear();
        let took = human::took(start.elapsed());
        match result {
            Ok(value) => {
                let green = Style::new().fg_color(Some(AnsiColor::Green.into()));
                if !self.quiet {
                    anstream::println!("{green}✓{green:#} {what} ({took})");
                }
                Some(value)
            }
            Err(error) => {
                let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
                anstream::println!("{red}✗{red:#} {what} ({took})");
                errors::print(&CliError::Remote(error.to_string()));
                anstream::eprintln!("{}", advice(&error));
                None
            }
        }
    }
}

/// What to do about it.
fn advice(error: &Broken) -> &'static str {
    use spark_client::Error as E;
    match error {
        Broken::Client(E::NotInstalled) => "Install Sparks: helm install sparks charts/sparks, or make up.",
        Broken::Client(E::Unreachable(_) | E::Unauthorized) => {
            "Check with kubectl get nodes that the cluster can be used."
        }
        Broken::Client(E::Forbidden(_)) => {
            "Run it as somebody who may make namespaces, or ask who administers the cluster."
        }
        Broken::Client(E::Timeout { .. } | E::Stalled { .. }) => {
            "Look at the controller and the node agents: kubectl get pods -A -l app.kubernetes.io/name=sparks, and their \
             logs; spark verify --keep leaves the Spark for spark show."
        }
        Broken::Command { .. } | Broken::Client(E::Exec(_) | E::ConnectionLost(_)) => {
            "Commands go through the API server and the kubelet: try kubectl exec into any other pod; the image needs sh and cat."
        }
        Broken::Data { .. } => {
            "The disks are not what they should be: please report it, with the logs of the node agent."
        }
        Broken::Namespace(_) | Broken::Client(_) => {
            "spark verify --keep leaves everything as it is, to look at it with spark show."
        }
    }
}
