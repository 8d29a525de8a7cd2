//! `spark show`.

use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::ListParams;
use sparks_api::conditions::{self, READY, RESIZED};
use sparks_api::{
    Inherited, ROOT_DISK, RecordingsStatus, Resources, Service, Spark, SparkStatus, SparkTimings,
};

use super::ls::origin;
use crate::cli::{Format, OutputArgs};
use crate::complete::sparks;
use crate::context::Context;
use crate::errors::Outcome;
use crate::table::Table;
use crate::{human, output, parse};

/// So many events are shown.
const EVENTS: usize = 10;

/// Show all about one Spark: its state and why, its disks, how long its last start took, recent events.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Spark
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub name: String,
    /// How to print it
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Shows it.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let spark = context.sparks.get(&args.name).await?;
    match args.output.format {
        Some(format @ (Format::Json | Format::Yaml | Format::Name)) => output::object(format, &spark)?,
        _ if context.quiet => output::line(&spark.name_any())?,
        _ => {
            let events = events(context, &spark).await;
            output::lines(&description(&spark, &events, Timestamp::now()))?;
        }
    }
    Ok(0)
}

/// Recent events about the Spark, the latest last; none when they may not be read.
async fn events(context: &Context, spark: &Spark) -> Vec<Event> {
    let fields = format!("involvedObject.uid={}", spark.uid().unwrap_or_default());
    let found = context.sparks.api::<Event>().list(&ListParams::default().fields(&fields)).await;
    let mut events = found.map(|list| list.items).unwrap_or_default();
    events.sort_by_key(happened);
    events.split_off(events.len().saturating_sub(EVENTS))
}

fn happened(event: &Event) -> Option<Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let times = [
        series,
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().max().or(event.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// The description, line by line.
fn description(spark: &Spark, events: &[Event], now: Timestamp) -> Vec<String> {
    let status = spark.status.clone().unwrap_or_default();
    let mut lines = summary(spark, &status, now);
    let mut section = |title: &str, content: Vec<String>| {
        if !content.is_empty() {
            lines.extend([String::new(), title.to_owned()]);
            lines.extend(content.into_iter().map(|line| format!("  {line}")));
        }
    };
    section("Disks:", disks(spark, &status));
    section("Last start:", status.timings.as_ref().map(timings).unwrap_or_default());
    section("Conditions:", condition_lines(&status, now));
    section("Events:", event_lines(events, now));
    lines
}

fn summary(spark: &Spark, status: &SparkStatus, now: Timestamp) -> Vec<String> {
    let effective = effective(spark, status);
    let ready = conditions::find(&status.conditions, READY);
    let ago = |time: &Time| {
        format!("{} ({} ago)", time.0.strftime("%Y-%m-%d %H:%M:%SZ"), human::age(Some(time), now))
    };
    let ahead = |time: &Time| {
        format!(
            "{} (in {})",
            time.0.strftime("%Y-%m-%d %H:%M:%SZ"),
            human::span(time.0.duration_since(now).as_secs())
        )
    };
    let state = match ready {
        Some(_) if status.is_up() => format!("{:?}", status.phase),
        Some(ready) => format!("{:?}: {}", status.phase, ready.message),
        None => format!("{:?}: the controller has not seen it yet", status.phase),
    };
    let fields = [
        ("Name", spark.metadata.name.clone()),
        ("Namespace", spark.namespace()),
        ("Phase", Some(state)),
        ("From", status.origin.clone().or_else(|| Some(origin(spark)))),
        ("Address", status.address.clone()),
        ("Node", status.node_name.clone()),
        ("Pod", status.pod_name.clone()),
        ("Service", effective.service.as_ref().map(service)),
        ("Resources", effective.resources.as_ref().map(resources)),
        ("Created", spark.metadata.creation_timestamp.as_ref().map(ago)),
        ("Expires", status.expires_at.as_ref().map(ahead)),
        ("Host key", status.ssh.as_ref().and_then(|ssh| ssh.host_key.clone())),
        ("SSH keys", status.ssh.as_ref().map(|ssh| ssh.authorized_keys.len().to_string())),
        ("Recorded", status.recordings.as_ref().map(recorded)),
        ("Sleeps since", status.sleeping_since.as_ref().map(ago)),
        ("Idle since", status.idle_since.as_ref().map(ago)),
        ("Restored to", status.restored.as_ref().map(|restored| restored.checkpoint.clone())),
    ];
    let fields = fields.into_iter().filter_map(|(title, value)| Some((title, value?)));
    fields.map(|(title, value)| format!("{:<14}{}", format!("{title}:"), human::printable(&value))).collect()
}

/// What the Spark says itself, and what it took over.
fn effective(spark: &Spark, status: &SparkStatus) -> Inherited {
    let base = status.inherited.clone().unwrap_or_default();
    Inherited {
        disk: spark.spec.disk.clone().or(base.disk),
        resources: spark.spec.resources.clone().or(base.resources),
        volumes: spark.spec.volumes.clone().or(base.volumes),
        service: spark.spec.service.clone().or(base.service),
        ssh: spark.spec.ssh.clone().or(base.ssh),
    }
}

fn recorded(recordings: &RecordingsStatus) -> String {
    format!("{} sessions, the last {}", recordings.count, recordings.last)
}

fn service(service: &Service) -> String {
    format!("{} (port {})", service.command.join(" "), service.port)
}

fn resources(resources: &Resources) -> String {
    let list = |what: &str, list: &Option<std::collections::BTreeMap<_, _>>| {
        let list = list.as_ref().filter(|list| !list.is_empty())?;
        let amounts: Vec<String> = list
            .iter()
            .map(|(name, amount): (&String, &k8s_openapi::apimachinery::pkg::api::resource::Quantity)| {
                format!("{name} {}", amount.0)
            })
            .collect();
        Some(format!("{what} {}", amounts.join(", ")))
    };
    let parts = [list("at least", &resources.requests), list("at most", &resources.limits)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn disks(spark: &Spark, status: &SparkStatus) -> Vec<String> {
    let volumes = effective(spark, status).volumes.unwrap_or_default();
    let mount = |name: &str| match volumes.iter().find(|volume| volume.name == name) {
        Some(volume) => volume.mount_path.clone(),
        None if name == ROOT_DISK => "/".into(),
        None => human::NONE.into(),
    };
    let mut table = Table::new(["NAME", "MOUNTED AT", "OWN", "SHARED", "LIMIT"]);
    for disk in &status.disks {
        table.row([
            disk.name.clone(),
            mount(&disk.name),
            human::bytes(disk.exclusive_bytes),
            human::bytes(disk.referenced_bytes - disk.exclusive_bytes),
            human::bytes(disk.limit_bytes),
        ]);
    }
    if table.is_empty() { Vec::new() } else { table.lines() }
}

fn timings(timings: &SparkTimings) -> Vec<String> {
    let took =
        |micros: i64| human::took(std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0)));
    let steps = [
        ("finding a pod", timings.claim_micros),
        ("making the disks", timings.snapshot_micros),
        ("attaching them", timings.attach_micros),
        ("the service", timings.service_micros),
        ("in all", timings.total_micros),
    ];
    let steps = steps.into_iter().filter_map(|(step, micros)| Some(format!("{step:<18}{}", took(micros?))));
    let pod = format!("{:<18}{}", "pod", if timings.warm { "warm" } else { "cold" });
    std::iter::once(pod).chain(steps).collect()
}

fn condition_lines(status: &SparkStatus, now: Timestamp) -> Vec<String> {
    let mut table = Table::new(["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"]);
    // A size that is as wanted is no news.
    let is_news = |kind: &str, status: &str| kind != RESIZED || status != "True";
    for condition in status.conditions.iter().filter(|c| is_news(&c.type_, &c.status)) {
        table.row([
            condition.type_.clone(),
            condition.status.clone(),
            condition.reason.clone(),
            human::age(Some(&condition.last_transition_time), now),
            condition.message.clone(),
        ]);
    }
    if table.is_empty() { Vec::new() } else { table.lines() }
}

fn event_lines(events: &[Event], now: Timestamp) -> Vec<String> {
    let mut table = Table::new(["AGE", "TYPE", "REASON", "MESSAGE"]);
    for event in events {
        table.row([
            human::age(happened(event).map(Time).as_ref(), now),
            event.type_.clone().unwrap_or_default(),
            event.reason.clone().unwrap_or_default(),
            event.message.clone().unwrap_or_default(),
        ]);
    }
    if table.is_empty() { Vec::new() } else { table.lines() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_description_says_the_state_and_why_and_what_the_disks_hold() {
        let spark: Spark = serde_json::from_value(json!({
            "apiVersion": "sparks.loop.work/v1alpha1", "kind": "Spark",
            "metadata": {"name": "api", "namespace": "team-a"},
            "spec": {"from": {"spark": "base"}},
            "status": {
                "phase": "Starting", "origin": "spark/base",
                "disks": [{"name": "root", "referencedBytes": 1048576, "exclusiveBytes": 16384, "limitBytes": 0}],
                "timings": {"warm": true, "attachMicros": 350},
                "conditions": [{"type": "Ready", "status": "False", "reason": "ServiceNotReady", "message": "no answer",
                                "lastTransitionTime": "1970-01-01T00:00:00Z"}],
            },
        }))
        .unwrap();
        let text = description(&spark, &[], Timestamp::UNIX_EPOCH).join("\n");
        for part in
            ["Starting: no answer", "spark/base", "16Ki", "1008Ki", "warm", "0.3 ms", "ServiceNotReady"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("Events"));
    }
}
