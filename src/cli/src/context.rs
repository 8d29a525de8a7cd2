//! What every verb needs: the cluster, and how talkative to be.

use std::future::Future;

use spark_client::{Condition, ConnectOptions, Sparks, Step};
use sparks_api::{Reason, Spark};

use crate::cli::{Global, WaitArgs};
use crate::errors::{self, CliError, Outcome};
use crate::output;
use crate::progress::Progress;

/// The cluster, and how talkative to be.
#[derive(Clone)]
pub struct Context {
    /// The namespace's Sparks.
    pub sparks: Sparks,
    /// The cluster, for programs that are to find it again.
    pub options: ConnectOptions,
    /// Whether to print names only.
    pub quiet: bool,
}

impl Global {
    /// Which cluster is meant.
    pub fn connect_options(&self) -> ConnectOptions {
        ConnectOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: self.namespace.clone(),
        }
    }
}

impl Context {
    /// Opens the cluster that the options name.
    pub async fn connect(global: &Global) -> Result<Self, CliError> {
        let options = global.connect_options();
        Ok(Self { sparks: Sparks::connect(&options).await?, options, quiet: global.quiet })
    }

    /// The same in another namespace, if one is named.
    pub fn in_namespace(&self, namespace: Option<String>) -> Self {
        let sparks = namespace.map_or_else(|| self.sparks.clone(), |name| self.sparks.in_namespace(name));
        Self { sparks, ..self.clone() }
    }

    /// A line for what is being waited for.
    pub fn progress(&self) -> Progress {
        Progress::new(self.quiet)
    }

    /// Says what was done, unless names only are wanted.
    pub fn say(&self, text: &str) -> Result<(), CliError> {
        if self.quiet { Ok(()) } else { output::line(text) }
    }

    /// Waits for a Spark and names the steps.
    pub async fn wait(&self, name: &str, wanted: Condition, wait: &WaitArgs) -> Result<Spark, CliError> {
        self.wait_by(name, wanted, wait, |step| &step.text).await
    }

    /// The same for one that was just woken.
    pub async fn wait_awake(
        &self,
        name: &str,
        wanted: Condition,
        wait: &WaitArgs,
    ) -> Result<Spark, CliError> {
        self.wait_by(name, wanted, wait, waking).await
    }

    async fn wait_by(
        &self,
        name: &str,
        wanted: Condition,
        wait: &WaitArgs,
        told: impl Fn(&Step) -> &str + Send,
    ) -> Result<Spark, CliError> {
        let progress = self.progress();
        let line = progress.clone();
        let done = self
            .sparks
            .wait(name, wanted, wait.timeout, move |step| line.step(&format!("{name}: {}", told(step))));
        let result = done.await;
        progress.clear();
        Ok(result?)
    }
}

/// Until the controller has seen that it is to wake, the condition tells that it sleeps.
fn waking(step: &Step) -> &str {
    if [Reason::Sleeping, Reason::FallingAsleep].iter().any(|rest| step.reason == *rest) {
        "waking"
    } else {
        &step.text
    }
}

/// Does something with each name, says what failed, and goes on. The exit code is the first failure's.
pub async fn each<F, T>(names: &[String], act: F) -> Outcome
where
    F: Fn(String) -> T,
    T: Future<Output = Result<(), CliError>>,
{
    let mut code = 0;
    for name in names {
        if let Err(error) = act(name.clone()).await {
            errors::print(&error);
            code = if code == 0 { error.exit_code() } else { code };
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_woken_is_not_said_to_sleep() {
        let slept = Step::of(
            Reason::Sleeping.as_str(),
            "it was idle for 20s and sleeps; it wakes at the next SSH connection",
        );
        assert_eq!(waking(&slept), "waking");
        let starting = Step::of(Reason::PodStarting.as_str(), "");
        assert_eq!(waking(&starting), starting.text);
    }
}
