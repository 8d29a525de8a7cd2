//! `spark fork`.

use std::time::Instant;

use clap_complete::engine::ArgValueCandidates;
use futures::{StreamExt, stream};
use kube::ResourceExt;
use spark_client::{Condition, Name, Source};
use sparks_api::{Checkpoint, Spark};

use crate::cli::{OutputArgs, WaitArgs};
use crate::complete::{namespaces, sources};
use crate::context::Context;
use crate::errors::{self, CliError, Outcome};
use crate::progress::Progress;
use crate::{human, output, parse};

/// So many are made at the same time.
const AT_ONCE: usize = 32;

/// Fork a Spark or a Checkpoint.
///
/// A fork is a computer of its own that begins with the same disks; only what changes takes room. Whatever it is not
/// told, it takes over from its source.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to fork: NAME of a Spark, or checkpoint/NAME
    #[arg(value_parser = parse::source, add = ArgValueCandidates::new(sources))]
    pub source: Source,
    /// Name of the fork [default: made from the source's, and printed]
    #[arg(value_parser = parse::name)]
    pub name: Option<String>,
    /// Namespace of the source, which must consent (spec.forkPolicy)
    #[arg(long, value_name = "NS", add = ArgValueCandidates::new(namespaces))]
    pub from_namespace: Option<String>,
    /// SOURCE is the name of a Checkpoint
    #[arg(long)]
    pub checkpoint: bool,
    /// Make so many, all at once; with NAME they are called NAME-1, NAME-2, …
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,
    /// Time after which it is deleted, such as 2h
    #[arg(long, value_name = "DURATION", value_parser = parse::duration_text)]
    pub ttl: Option<String>,
    /// Whether to wait
    #[command(flatten)]
    pub wait: WaitArgs,
    /// How to print it
    #[command(flatten)]
    pub output: OutputArgs,
}

impl Args {
    fn source(&self) -> Source {
        let mut source = self.source.clone();
        source.checkpoint |= self.checkpoint;
        source.namespace = self.from_namespace.clone();
        source
    }

    fn names(&self) -> Vec<Name> {
        let of = |at: u32| match &self.name {
            Some(name) if self.count > 1 => Name::Exact(format!("{name}-{at}")),
            Some(name) => Name::Exact(name.clone()),
            None => Name::generated(&self.source.name),
        };
        (1..=self.count).map(of).collect()
    }
}

/// Forks.
pub async fn run(context: &Context, args: Args) -> Outcome {
    find_source(context, &args.source()).await?;
    let start = Instant::now();
    let progress = context.progress();
    let (args, progress) = (&args, &progress);
    let mut forks = stream::iter(args.names().into_iter().map(|name| one(context, args, name, progress)))
        .buffer_unordered(AT_ONCE);
    let (mut done, mut code) = (Vec::new(), 0);
    while let Some(result) = forks.next().await {
        match result {
            Ok(spark) => done.push(spark),
            Err(error) => {
                progress.clear();
                errors::print(&error);
                code = if code == 0 { error.exit_code() } else { code };
            }
        }
        if args.count > 1 {
            progress.step(&format!("{} of {} forks are ready", done.len(), args.count));
        }
    }
    progress.clear();
    done.sort_by_key(ResourceExt::name_any);
    print(context, args, &done, &human::took(start.elapsed()))?;
    Ok(code)
}

/// A source that is misspelt is told at once. One that may not be read may well be forked.
async fn find_source(context: &Context, source: &Source) -> Result<(), CliError> {
    let namespace = source.namespace.as_deref().unwrap_or(context.sparks.namespace());
    let sparks = context.sparks.in_namespace(namespace);
    let found = match source.checkpoint {
        true => sparks.get_object::<Checkpoint>(&source.name).await.map(drop),
        false => sparks.get(&source.name).await.map(drop),
    };
    match found {
        Err(spark_client::Error::Forbidden(_)) => Ok(()),
        found => Ok(found?),
    }
}

async fn one(context: &Context, args: &Args, name: Name, progress: &Progress) -> Result<Spark, CliError> {
    let made = context.sparks.fork_for(args.source(), name, args.ttl.clone()).await?;
    if args.wait.no_wait {
        return Ok(made);
    }
    let name = made.name_any();
    let is_single = args.count == 1;
    let tell = |step: &spark_client::Step| {
        if is_single {
            progress.step(&format!("{name}: {step}"));
        }
    };
    Ok(context.sparks.wait(&name, Condition::Ready, args.wait.timeout, tell).await?)
}

fn print(context: &Context, args: &Args, forks: &[Spark], took: &str) -> Result<(), CliError> {
    let from = format!("{}{}", if args.source().checkpoint { "checkpoint/" } else { "" }, args.source.name);
    match (args.output.format, forks) {
        (_, []) => Ok(()),
        (Some(format), [one]) => output::object(format, one),
        (Some(format), all) => output::objects(format, all),
        (None, all) if context.quiet => all.iter().try_for_each(|spark| output::line(&spark.name_any())),
        (None, [one]) if args.count == 1 => {
            let when = if args.wait.no_wait { "; it is starting".into() } else { format!(" in {took}") };
            output::line(&format!("spark/{} forked from {from}{when}", one.name_any()))
        }
        (None, all) => {
            all.iter().try_for_each(|spark| {
                output::line(&format!("spark/{} forked from {from}", spark.name_any()))
            })?;
            let when = if args.wait.no_wait { "are starting" } else { "are ready" };
            context.say(&format!("{} forks of {from} {when} after {took}", all.len()))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Args {
        Line::try_parse_from([&["fork"], words].concat()).unwrap().args
    }

    #[test]
    fn a_source_is_a_spark_unless_it_is_said_to_be_a_checkpoint() {
        assert_eq!(parsed(&["api"]).source(), Source::spark("api"));
        assert_eq!(parsed(&["checkpoint/v1"]).source(), Source::checkpoint("v1"));
        let args = parsed(&["v1", "--checkpoint", "--from-namespace", "prod"]);
        assert_eq!(args.source(), Source::checkpoint("v1").in_namespace("prod"));
    }

    #[test]
    fn many_forks_are_numbered_or_named_by_the_api_server() {
        let numbered = ["x-1", "x-2"].map(Name::from);
        assert_eq!(parsed(&["api", "x", "--count", "2"]).names(), numbered);
        assert_eq!(parsed(&["api", "x"]).names(), [Name::from("x")]);
        assert_eq!(parsed(&["api"]).names(), [Name::generated("api")]);
    }
}
