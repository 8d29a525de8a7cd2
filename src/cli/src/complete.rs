//! Completion of words in a shell: verbs and options from the command line's own description, names from the cluster.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter, complete};
use clap_complete::env::{CompleteEnv, EnvCompleter, Shells};
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, ResourceExt};
use spark_client::{ConnectOptions, Sparks};
use sparks_api::{Checkpoint, Spark, SparkPool};

use crate::cli::Cli;

/// Variable by which the completion script calls this program.
const VARIABLE: &str = "SPARK_COMPLETE";

/// As what kubectl calls a plugin's completion: <https://github.com/kubernetes/kubernetes/pull/105867>.
const KUBECTL: &str = "kubectl_complete-spark";

/// A completion must not hold the prompt up.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Answers a shell that asks for completions; `None` when this is no such call.
pub fn answer() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let called = arguments.first().and_then(|path| std::path::Path::new(path).file_stem()?.to_str());
    if called == Some(KUBECTL) {
        return Some(for_kubectl(arguments));
    }
    let here = std::env::current_dir().ok();
    match CompleteEnv::with_factory(Cli::command).var(VARIABLE).try_complete(arguments, here.as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        Err(error) => error.exit(),
    }
}

/// The script that makes a shell ask this program.
pub fn script(shell: &str) -> std::io::Result<String> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let completer: &dyn EnvCompleter =
        shells.completer(shell).ok_or_else(|| std::io::Error::other("no such shell"))?;
    completer.write_registration(VARIABLE, "spark", "spark", "spark", &mut script)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// kubectl gives the words after `kubectl spark` and wants one candidate a line, and a directive at the end.
fn for_kubectl(mut words: Vec<OsString>) -> ExitCode {
    const NO_FILES: u8 = 4;
    if let Some(first) = words.first_mut() {
        *first = "spark".into();
    }
    let last = words.len() - 1;
    let found = complete(&mut Cli::command(), words, last, None).unwrap_or_default();
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let help = candidate.get_help().map(|help| format!("\t{help}")).unwrap_or_default();
        println!("{}{help}", candidate.get_value().to_string_lossy());
    }
    println!(":{NO_FILES}");
    ExitCode::SUCCESS
}

/// The cluster that the words on the line name so far.
fn options(words: impl IntoIterator<Item = OsString>) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    let mut words = words.into_iter().map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        match flag.as_str() {
            "-n" | "--namespace" => options.namespace = value.or_else(|| words.next()),
            "--context" => options.context = value.or_else(|| words.next()),
            "--kubeconfig" => options.kubeconfig = value.or_else(|| words.next()).map(Into::into),
            _ => {}
        }
    }
    options
}

/// Names of objects of the cluster that the line names.
fn names<K>(api: impl FnOnce(&Sparks) -> Api<K>) -> Vec<CompletionCandidate>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    PartialObjectMeta<K>: ResourceExt,
{
    names_in(&options(std::env::args_os()), api)
}

/// Names of objects; none when the cluster doesn't answer in time.
fn names_in<K>(options: &ConnectOptions, api: impl FnOnce(&Sparks) -> Api<K>) -> Vec<CompletionCandidate>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    PartialObjectMeta<K>: ResourceExt,
{
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let found = runtime.block_on(async {
        let list = async {
            let sparks = Sparks::connect(options).await.ok()?;
            api(&sparks).list_metadata(&ListParams::default()).await.ok()
        };
        tokio::time::timeout(PATIENCE, list).await.ok().flatten()
    });
    runtime.shutdown_background();
    let items = found.map(|list| list.items).unwrap_or_default();
    items.iter().map(|item| CompletionCandidate::new(item.name_any())).collect()
}

/// Names of Sparks.
pub fn sparks() -> Vec<CompletionCandidate> {
    names(Sparks::api::<Spark>)
}

/// Names of Checkpoints.
pub fn checkpoints() -> Vec<CompletionCandidate> {
    names(Sparks::api::<Checkpoint>)
}

/// Names of pools.
pub fn pools() -> Vec<CompletionCandidate> {
    names(Sparks::api::<SparkPool>)
}

/// Names of namespaces.
pub fn namespaces() -> Vec<CompletionCandidate> {
    names(|sparks| Api::<k8s_openapi::api::core::v1::Namespace>::all(sparks.client().clone()))
}

/// Names of contexts.
pub fn contexts() -> Vec<CompletionCandidate> {
    let kubeconfig = match options(std::env::args_os()).kubeconfig {
        Some(path) => kube::config::Kubeconfig::read_from(path),
        None => kube::config::Kubeconfig::read(),
    };
    let contexts = kubeconfig.map(|config| config.contexts).unwrap_or_default();
    contexts.into_iter().map(|context| CompletionCandidate::new(context.name)).collect()
}

/// Sparks, and Checkpoints with their kind before them: what can be forked.
pub fn sources() -> Vec<CompletionCandidate> {
    let with_kind = checkpoints().into_iter().map(|candidate| candidate.add_prefix("checkpoint/"));
    sparks().into_iter().chain(with_kind).collect()
}

/// Either end of a copy: a local path, or a Spark and a colon.
pub fn endpoints(current: &OsStr) -> Vec<CompletionCandidate> {
    if current.to_string_lossy().contains(':') {
        return Vec::new();
    }
    let remote = sparks().into_iter().map(|candidate| {
        let mut value = candidate.get_value().to_owned();
        value.push(":");
        CompletionCandidate::new(value)
    });
    let remote = remote.filter(|c| c.get_value().to_string_lossy().starts_with(&*current.to_string_lossy()));
    remote.chain(PathCompleter::any().complete(current)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let last = words.len() - 1;
        let found = complete(&mut Cli::command(), words, last, None).unwrap_or_default();
        found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn every_verb_is_completed() {
        let found = completed(&["spark", ""]);
        for verb in [
            "new",
            "fork",
            "checkpoint",
            "restore",
            "ls",
            "show",
            "exec",
            "logs",
            "cp",
            "stop",
            "start",
            "rm",
            "undelete",
            "pool",
            "top",
            "completion",
            "verify",
            "version",
        ] {
            assert!(found.iter().any(|candidate| candidate == verb), "{verb} is not in {found:?}");
        }
    }

    #[test]
    fn every_promised_shell_has_a_script_that_calls_back() {
        for shell in ["bash", "zsh", "fish", "powershell"] {
            assert!(script(shell).is_ok_and(|script| script.contains(VARIABLE)), "{shell}");
        }
    }

    #[test]
    fn without_a_cluster_there_are_no_names_and_no_noise() {
        let options = ConnectOptions { kubeconfig: Some("/nonexistent".into()), ..Default::default() };
        assert!(names_in(&options, Sparks::api::<Spark>).is_empty());
    }

    #[test]
    fn names_are_looked_for_in_the_namespace_on_the_line() {
        let words = ["spark", "show", "-n", "a", "--context=c", "--kubeconfig", "k"].map(OsString::from);
        let found = options(words);
        assert_eq!(found.namespace.as_deref(), Some("a"));
        assert_eq!(found.context.as_deref(), Some("c"));
        assert_eq!(found.kubeconfig.as_deref(), Some(std::path::Path::new("k")));
    }
}
