//! What a Spark is made from, and whether it may be.

use sparks_api::{
    Checkpoint, ForkPolicy, ImageSource, Inherited, Reason, Restore, Spark, Volume, VolumeSource,
};

use super::inherit::{abroad, effective};
use crate::{
    known::Known,
    names,
    progress::Blocked,
    volume::{self, is_provisioned},
};

/// What a new Spark is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// For the Volume.
    pub volume: VolumeSource,
    /// Node that holds the blocks; any when `None`.
    pub node: Option<String>,
    /// What the fork takes over.
    pub inherited: Option<Inherited>,
}

/// An image.
#[must_use]
pub fn of_image(namespace: &str, reference: &str) -> Source {
    let image = ImageSource { reference: reference.into(), key: names::image_key(namespace, reference) };
    Source { volume: VolumeSource { image: Some(image), volume: None }, node: None, inherited: None }
}

/// Another Spark as it is now. `volume` is its live Volume.
///
/// # Errors
/// [`Blocked`] when there is no such Spark, it doesn't consent, or it has no data yet. A Spark of another namespace
/// that doesn't consent reads as one that isn't there, so that nobody learns which names exist.
pub fn from_spark(
    namespace: &str,
    at: (&str, &str),
    spark: Option<&Known<Spark>>,
    volume: Option<&Known<Volume>>,
) -> Result<Source, Blocked> {
    let spark = spark.filter(|spark| consents(namespace, at.0, spark.spec.fork_policy.as_ref()));
    let spark = spark.ok_or_else(|| missing("Spark", namespace, at))?;
    let base = spark.status.as_ref().and_then(|status| status.inherited.as_ref());
    let inherited = effective(&spark.spec, base);
    let inherited = if namespace == at.0 { inherited } else { abroad(inherited) };
    from_volume(volume, inherited, || not_ready("Spark", at))
}

/// A Checkpoint. `volume` is its Volume.
///
/// # Errors
/// As [`from_spark`].
pub fn from_checkpoint(
    namespace: &str,
    at: (&str, &str),
    checkpoint: Option<&Known<Checkpoint>>,
    volume: Option<&Known<Volume>>,
) -> Result<Source, Blocked> {
    let checkpoint = checkpoint.filter(|found| consents(namespace, at.0, found.spec.fork_policy.as_ref()));
    let checkpoint = checkpoint.ok_or_else(|| missing("Checkpoint", namespace, at))?;
    let inherited =
        checkpoint.status.as_ref().and_then(|status| status.inherited.clone()).unwrap_or_default();
    let inherited = if namespace == at.0 { inherited } else { abroad(inherited) };
    from_volume(volume, inherited, || not_ready("Checkpoint", at))
}

/// The Checkpoint that a Spark on `node` is to be put back to.
///
/// # Errors
/// [`Blocked`] when it isn't there, isn't complete, is of another Spark's node.
pub fn restore_source(
    restore: &Restore,
    checkpoint: Option<&Known<Checkpoint>>,
    volume: Option<&Known<Volume>>,
    node: &str,
) -> Result<VolumeSource, Blocked> {
    let name = &restore.checkpoint;
    let found = checkpoint.ok_or_else(|| {
        let message = format!(
            "spec.restore names the Checkpoint {name}, which does not exist: create it or choose another"
        );
        Blocked::new(Reason::SourceNotFound, message)
    })?;
    let inherited = found.status.as_ref().and_then(|status| status.inherited.clone()).unwrap_or_default();
    let source = from_volume(volume, inherited, || {
        Blocked::new(Reason::SourceNotReady, format!("the Checkpoint {name} to restore is not complete yet"))
    })?;
    if source.node.as_deref() == Some(node) {
        return Ok(source.volume);
    }
    let message =
        format!("the Checkpoint {name} is on another node than this Spark: fork the Checkpoint instead");
    Err(Blocked::new(Reason::SourceElsewhere, message))
}

fn from_volume(
    volume: Option<&Known<Volume>>,
    inherited: Inherited,
    not_ready: impl Fn() -> Blocked,
) -> Result<Source, Blocked> {
    let volume = volume.filter(|v| is_provisioned(v)).ok_or_else(not_ready)?;
    let reference = volume::reference_to(volume);
    Ok(Source {
        volume: VolumeSource { image: None, volume: Some(reference) },
        node: Some(volume.spec.node_name.clone()),
        inherited: Some(inherited),
    })
}

fn consents(namespace: &str, source_namespace: &str, policy: Option<&ForkPolicy>) -> bool {
    namespace == source_namespace
        || policy.is_some_and(|policy| policy.namespaces.iter().any(|n| n == "*" || n == namespace))
}

fn missing(kind: &str, namespace: &str, at: (&str, &str)) -> Blocked {
    if at.0 == namespace {
        let message = format!(
            "{kind} {} does not exist in this namespace: create it, or name another in spec.from",
            at.1
        );
        return Blocked::new(Reason::SourceNotFound, message);
    }
    let message = format!(
        "{kind} {} in namespace {} does not exist or does not allow forks into {namespace}: its owner can add {namespace} to spec.forkPolicy.namespaces",
        at.1, at.0
    );
    Blocked::new(Reason::ForkDenied, message)
}

fn not_ready(kind: &str, at: (&str, &str)) -> Blocked {
    Blocked::new(Reason::SourceNotReady, format!("{kind} {} has no data to fork yet", at.1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use sparks_api::{
        SparkSpec, VolumeSpec, VolumeStatus,
        conditions::{PROVISIONED, condition},
    };

    fn volume(ready: bool) -> Known<Volume> {
        let spec = VolumeSpec {
            node_name: "node1".into(),
            source: VolumeSource::default(),
            disks: vec![],
            read_only: false,
            attachment: None,
            trashed_at: None,
        };
        let provisioned = condition(PROVISIONED, ready, Reason::Available, "", None, Timestamp::UNIX_EPOCH);
        let status = VolumeStatus { conditions: vec![provisioned], ..Default::default() };
        let mut volume = Volume { status: Some(status), ..Volume::new("api-1", spec) };
        (volume.metadata.namespace, volume.metadata.uid) = (Some("me".into()), Some("v".into()));
        Known::of(volume).unwrap()
    }

    fn spark(namespaces: &[&str]) -> Known<Spark> {
        let policy = ForkPolicy { namespaces: namespaces.iter().map(|n| (*n).to_owned()).collect() };
        let mut spark = Spark::new("api", SparkSpec { fork_policy: Some(policy), ..Default::default() });
        (spark.metadata.namespace, spark.metadata.uid) = (Some("them".into()), Some("s".into()));
        Known::of(spark).unwrap()
    }

    #[test]
    fn another_namespace_may_fork_only_with_consent() {
        for (policy, allowed) in
            [(vec![], false), (vec!["other"], false), (vec!["me"], true), (vec!["*"], true)]
        {
            let got = from_spark("me", ("them", "api"), Some(&spark(&policy)), Some(&volume(true)));
            assert_eq!(got.is_ok(), allowed, "{policy:?}");
        }
    }

    #[test]
    fn a_refusal_reads_like_a_spark_that_is_not_there() {
        let refused = from_spark("me", ("them", "api"), Some(&spark(&[])), Some(&volume(true)));
        assert_eq!(refused, from_spark("me", ("them", "api"), None, None));
    }

    #[test]
    fn the_own_namespace_needs_no_consent_and_the_fork_goes_where_the_blocks_are() {
        let got = from_spark("me", ("me", "api"), Some(&spark(&[])), Some(&volume(true))).unwrap();
        assert_eq!(got.node.as_deref(), Some("node1"));
    }

    #[test]
    fn a_fork_in_another_namespace_lets_nobody_of_the_source_in() {
        let ssh = sparks_api::Ssh {
            authorized_keys: Some(vec!["key".into()]),
            user: Some("dev".into()),
            ..Default::default()
        };
        let mut source = (*spark(&["me"])).clone();
        source.spec.ssh = Some(ssh.clone());
        let source = spark(&[]).with(source);
        let taken = |at: &str| {
            let got = from_spark("me", (at, "api"), Some(&source), Some(&volume(true))).unwrap();
            got.inherited.and_then(|inherited| inherited.ssh)
        };
        assert_eq!(taken("me"), Some(ssh.clone()));
        assert_eq!(taken("them"), Some(sparks_api::Ssh { authorized_keys: None, ..ssh }));
    }

    #[test]
    fn a_source_without_data_is_waited_for() {
        let got = from_spark("me", ("me", "api"), Some(&spark(&[])), Some(&volume(false))).unwrap_err();
        assert_eq!(got.reason, Reason::SourceNotReady);
    }
}
