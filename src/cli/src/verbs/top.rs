//! `spark top`.

use std::collections::BTreeMap;

use clap_complete::engine::ArgValueCandidates;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use sparks_api::{Spark, labels};

use crate::complete::sparks;
use crate::context::Context;
use crate::errors::Outcome;
use crate::human::{self, NONE};
use crate::table::Table;
use crate::{output, parse};

/// Show what Sparks use: bytes of their own and shared with their sources, CPU and memory.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these Sparks
    #[arg(value_name = "NAME", value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub names: Vec<String>,
    /// Only those with these labels
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "", hide_default_value = true)]
    pub selector: String,
}

/// Shows it.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let mut sparks = context.sparks.list(&args.selector).await?;
    if let Some(missing) =
        args.names.iter().find(|name| !sparks.iter().any(|spark| spark.name_any() == **name))
    {
        // Says which one, and in which namespace.
        context.sparks.get(missing).await?;
    }
    sparks.retain(|spark| args.names.is_empty() || args.names.contains(&spark.name_any()));
    if sparks.is_empty() {
        anstream::eprintln!("There are no Sparks in namespace {}.", context.sparks.namespace());
        return Ok(0);
    }
    let usage = usage(context).await;
    output::lines(&table(&sparks, usage.as_ref()).lines())?;
    if usage.is_none() && !context.quiet {
        anstream::eprintln!(
            "CPU and memory are not known: this cluster has no metrics.k8s.io (install metrics-server)."
        );
    }
    Ok(0)
}

/// CPU in nanocores and memory in bytes.
type Usage = BTreeMap<String, (i128, i128)>;

/// What the pods use, by pod; `None` without a metrics API.
async fn usage(context: &Context) -> Option<Usage> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics"));
    let kind = ApiResource { plural: "pods".into(), ..kind };
    let sparks = &context.sparks;
    let api: Api<DynamicObject> = Api::namespaced_with(sparks.client().clone(), sparks.namespace(), &kind);
    let pods = api.list(&ListParams::default().labels(labels::SPARK)).await.ok()?;
    Some(pods.iter().map(|pod| (pod.name_any(), pod_usage(&pod.data))).collect())
}

fn pod_usage(data: &serde_json::Value) -> (i128, i128) {
    let containers = data["containers"].as_array().cloned().unwrap_or_default();
    let sum = |what: &str| containers.iter().filter_map(|c| nano(c["usage"][what].as_str()?)).sum::<i128>();
    (sum("cpu"), sum("memory") / 1_000_000_000)
}

/// A quantity in billionths, which is what the metrics API counts CPU in.
fn nano(text: &str) -> Option<i128> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: i128 = match &text[digits.len()..] {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        "k" => 1_000_000_000_000,
        "Ki" => 1_000_000_000 << 10,
        "Mi" => 1_000_000_000 << 20,
        "Gi" => 1_000_000_000 << 30,
        _ => return None,
    };
    digits.parse::<i128>().ok()?.checked_mul(factor)
}

fn table(sparks: &[Spark], usage: Option<&Usage>) -> Table {
    let mut table = Table::new(["NAME", "PHASE", "OWN", "SHARED", "LIMIT", "CPU", "MEMORY"]);
    for spark in sparks {
        let status = spark.status.clone().unwrap_or_default();
        let sum = |of: fn(&sparks_api::DiskUsage) -> i64| human::bytes(status.disks.iter().map(of).sum());
        let used = status.pod_name.as_ref().and_then(|pod| usage?.get(pod));
        table.row([
            spark.name_any(),
            format!("{:?}", status.phase),
            sum(|disk| disk.exclusive_bytes),
            sum(|disk| disk.referenced_bytes - disk.exclusive_bytes),
            sum(|disk| disk.limit_bytes),
            used.map_or_else(|| NONE.into(), |(cpu, _)| format!("{}m", cpu / 1_000_000)),
            used.map_or_else(
                || NONE.into(),
                |(_, memory)| human::bytes(i64::try_from(*memory).unwrap_or(i64::MAX)),
            ),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let data = json!({"containers": [
            {"name": "a", "usage": {"cpu": "1500000n", "memory": "2Mi"}},
            {"name": "b", "usage": {"cpu": "2m", "memory": "1024Ki"}},
        ]});
        assert_eq!(pod_usage(&data), (3_500_000, 3 << 20));
    }
}
