//! `spark sessions`.

mod play;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::{Path, PathBuf};

use clap_complete::engine::ArgValueCandidates;
use spark_client::Error;
use spark_client::recordings::{Recordings, Summary};

use crate::cli::{Format, OutputArgs};
use crate::complete::sparks;
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::gateway::GatewayArgs;
use crate::table::Table;
use crate::{human, output, parse};

/// Look back at recorded sessions.
///
/// SSH sessions through the gateway are recorded where a Spark's ssh.recording is On or Required. The gateways are asked by way of
/// the API server, or, where you may not, at their own address.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with recorded sessions.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List sessions, oldest first
    #[command(alias = "list")]
    Ls {
        /// Only those of this Spark
        #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
        name: Option<String>,
        /// How to print them
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show who did a session, and what it was
    Show(One),
    /// Play a session in this terminal, as fast as it was
    Play {
        /// Which
        #[command(flatten)]
        session: One,
        /// So many times faster
        #[arg(short, long, default_value_t = 1.0, value_parser = speed)]
        speed: f64,
        /// Longest pause, such as 2s
        #[arg(short, long, value_name = "DURATION", default_value = "2s", value_parser = parse::duration)]
        idle_limit: std::time::Duration,
    },
    /// Write a session as an asciicast, which asciinema and its players read
    Save {
        /// Which
        #[command(flatten)]
        session: One,
        /// File [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Version 2 of the format, for older players
        #[arg(long)]
        v2: bool,
    },
    /// Find what was seen or run
    Search {
        /// Text; capitals don't matter
        #[arg(value_parser = wanted)]
        text: String,
        /// Only in sessions of this Spark
        #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
        name: Option<String>,
    },
}

/// One session.
#[derive(Debug, clap::Args)]
pub struct One {
    /// Name of the Spark
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub name: String,
    /// Id of the session, or its beginning [default: the last one]
    pub id: Option<String>,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed.is_finite() => Ok(speed),
        _ => Err("write a number above 0, such as 2".into()),
    }
}

fn wanted(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("write what is to be found".into()) } else { Ok(text.into()) }
}

/// Does it. Who may do no more than edit their namespace can't see the gateways' pods.
pub async fn run(context: &Context, args: Args) -> Outcome {
    match by_api_server(context, &args).await {
        Err(CliError::Client(Error::Forbidden(pods))) => by_gateway(context, &args, pods).await,
        done => done,
    }
}

async fn by_api_server(context: &Context, args: &Args) -> Outcome {
    let recordings = context.sparks.recordings(&args.gateway.system_namespace).await?;
    act(&recordings, &args.action).await
}

/// `pods` is why there is no other way.
async fn by_gateway(context: &Context, args: &Args, pods: String) -> Outcome {
    let neither = |why: CliError| CliError::NoRecordings { pods, gateway: Box::new(why) };
    let gateway = match args.gateway.find(&context.sparks).await {
        Ok(gateway) => gateway,
        Err(error) => return Err(neither(error)),
    };
    let recordings = context.sparks.recordings_at(&gateway.own_url()).await?;
    match act(&recordings, &args.action).await {
        Err(CliError::Client(error @ Error::Io(_))) => Err(neither(error.into())),
        done => done,
    }
}

async fn act(recordings: &Recordings, action: &Action) -> Outcome {
    match action {
        Action::Ls { name, output } => list(&recordings.list(name.as_deref()).await?, output.format)?,
        Action::Show(one) => output::lines(&details(&find(recordings, one).await?))?,
        Action::Play { session, speed, idle_limit } => {
            let found = find(recordings, session).await?;
            play::play(&recordings.cast(&session.name, &found.id, false).await?, *speed, *idle_limit).await?;
        }
        Action::Save { session, file, v2 } => {
            let found = find(recordings, session).await?;
            save(&recordings.cast(&session.name, &found.id, *v2).await?, file.as_deref())?;
        }
        Action::Search { text, name } => return search(recordings, text, name.as_deref()).await,
    }
    Ok(0)
}

async fn find(recordings: &Recordings, one: &One) -> Result<Summary, CliError> {
    let all = recordings.list(Some(&one.name)).await?;
    let wanted = one.id.as_deref().unwrap_or_default();
    all.into_iter().rfind(|summary| summary.id.starts_with(wanted)).ok_or_else(|| {
        let name = &one.name;
        CliError::Usage(format!(
            "spark \"{name}\" has no such session: `spark sessions ls {name}` lists them"
        ))
    })
}

fn save(cast: &str, file: Option<&Path>) -> Result<(), CliError> {
    match file {
        None => output::line(cast.trim_end()),
        Some(path) => std::fs::write(path, cast)
            .map_err(|source| CliError::File { path: path.display().to_string(), source }),
    }
}

async fn search(recordings: &Recordings, text: &str, name: Option<&str>) -> Outcome {
    let hits = recordings.search(text, name).await?;
    for hit in &hits {
        let at = human::span(hit.at as i64);
        output::line(&format!("{}/{} {at}: {}", hit.spark, hit.id, human::printable(&hit.line)))?;
    }
    // As grep.
    Ok(u8::from(hits.is_empty()))
}

fn list(all: &[Summary], format: Option<Format>) -> Result<(), CliError> {
    match format {
        Some(Format::Json) => return output::line(&serde_json::to_string_pretty(all)?),
        Some(Format::Yaml) => return output::line(serde_saphyr::to_string(&all)?.trim_end()),
        Some(Format::Name) => return all.iter().try_for_each(|summary| output::line(&summary.id)),
        Some(Format::Wide) | None => {}
    }
    let is_wide = format.is_some();
    let mut header = vec!["SPARK", "ID", "USER", "BEGAN", "TOOK", "EXIT", "COMMAND"];
    if is_wide {
        header.extend(["CLIENT", "KEY"]);
    }
    let mut table = Table::new(header);
    for summary in all {
        let origin = &summary.header.sparks;
        let mut row = vec![origin.spark.clone(), summary.id.clone(), origin.user.clone(), began(summary)];
        row.extend([took(summary), exit(summary), command(summary)]);
        if is_wide {
            row.extend([origin.client.clone(), origin.key.clone()]);
        }
        table.row(row);
    }
    if table.is_empty() {
        eprintln!("No sessions found.");
        return Ok(());
    }
    output::lines(&table.lines())
}

fn details(summary: &Summary) -> Vec<String> {
    let origin = &summary.header.sparks;
    let previous = summary.trailer.as_ref().map(|trailer| trailer.previous.clone());
    let fields = [
        ("Spark", Some(format!("{}.{}", origin.spark, origin.namespace))),
        ("Id", Some(summary.id.clone())),
        ("Command", Some(command(summary))),
        ("User", Some(origin.user.clone())),
        ("Key", Some(origin.key.clone())),
        ("Client", Some(origin.client.clone())),
        ("Connection", Some(origin.connection.clone())),
        ("Terminal", Some(terminal(summary))),
        ("Began", Some(began(summary))),
        ("Took", Some(took(summary))),
        ("Exit", Some(exit(summary))),
        ("Size", Some(human::bytes(i64::try_from(summary.bytes).unwrap_or(i64::MAX)))),
        ("Previous", previous.filter(|hash| !hash.is_empty())),
    ];
    let fields = fields.into_iter().filter_map(|(title, value)| Some((title, value?)));
    fields.map(|(title, value)| format!("{:<12}{}", format!("{title}:"), human::printable(&value))).collect()
}

fn began(summary: &Summary) -> String {
    let at = summary.header.timestamp.and_then(|second| jiff::Timestamp::from_second(second).ok());
    at.map_or_else(String::new, |at| at.to_string())
}

fn took(summary: &Summary) -> String {
    summary.trailer.as_ref().map_or("goes on".into(), |trailer| human::span(trailer.seconds as i64))
}

fn exit(summary: &Summary) -> String {
    summary.trailer.as_ref().and_then(|trailer| trailer.exit.clone()).unwrap_or_default()
}

fn command(summary: &Summary) -> String {
    summary.header.command.clone().unwrap_or_else(|| "login shell".into())
}

fn terminal(summary: &Summary) -> String {
    let term = &summary.header.term;
    let kind = term.kind.as_deref().unwrap_or_default();
    if summary.header.sparks.tty { format!("{kind} {}x{}", term.cols, term.rows) } else { "none".into() }
}
