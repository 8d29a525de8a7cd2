//! SSH: who may enter, and what the guest's server is told.

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sparks_api::{
    AttachedSsh, Inherited, KeySource, Reason, Recording, SshStatus,
    conditions::{self, KEYS_RESOLVED, condition},
};

use crate::names;

/// Most bytes of keys that one Spark can have: they are in its status and its Volume, which etcd limits to 1.5 MiB, and
/// go to its guest in one message.
const MAX_KEY_BYTES: usize = 128 << 10;

/// What the controller holds and found for a Spark's SSH server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SshFound {
    /// Public host key of the Spark, as in known_hosts.
    pub host_key: Option<String>,
    /// Public keys with which the gateway enters.
    pub gateway_keys: Vec<String>,
    /// Public keys of the user certificate authorities.
    pub user_ca_keys: Vec<String>,
    /// Lines of the Secrets and ConfigMaps that the Spark names.
    pub lines: Vec<String>,
    /// What is wrong with those: a reason and a sentence.
    pub problem: Option<(Reason, String)>,
}

/// The Secrets and ConfigMaps that this Spark names, or took over from what it was forked from.
pub(super) fn sources(effective: &Inherited) -> &[KeySource] {
    effective.ssh.as_ref().and_then(|ssh| ssh.authorized_keys_from.as_deref()).unwrap_or_default()
}

/// All lines in effect, each once, as many as fit; and whether all fit.
fn lines(effective: &Inherited, found: &SshFound) -> (Vec<String>, bool) {
    let own = effective.ssh.iter().flat_map(|ssh| ssh.authorized_keys.iter().flatten());
    let mut seen = HashSet::new();
    let mut all: Vec<String> = own.chain(&found.lines).map(|line| line.trim().to_owned()).collect();
    all.retain(|line| seen.insert(line.clone()));
    let mut bytes = 0;
    let fitting = all
        .iter()
        .take_while(|line| {
            bytes += line.len();
            bytes <= MAX_KEY_BYTES
        })
        .count();
    let complete = fitting == all.len();
    all.truncate(fitting);
    (all, complete)
}

/// What whoever connects needs to know.
pub(super) fn status(effective: &Inherited, found: &SshFound) -> SshStatus {
    let ssh = effective.ssh.as_ref();
    SshStatus {
        host_key: found.host_key.clone(),
        authorized_keys: lines(effective, found).0,
        user: ssh.and_then(|ssh| ssh.user.clone()),
        recording: ssh.map(|ssh| ssh.recording).unwrap_or_default(),
    }
}

/// What the guest's SSH server needs. The sealed host key is the applier's to fill in where it is missing, because
/// sealing is not pure; `old` keeps its own for as long as both keys are the same. `agent_key` is none while the node
/// agent is away.
pub(super) fn attached(
    effective: &Inherited,
    found: &SshFound,
    agent_key: Option<&str>,
    old: Option<&AttachedSsh>,
) -> Option<AttachedSsh> {
    let host_key = found.host_key.as_deref()?;
    let recorded = effective.ssh.as_ref().is_some_and(|ssh| ssh.recording == Recording::Required);
    let past = old.and_then(|old| old.sealed_to.clone());
    let sealed_to = agent_key.map(|key| names::sealed_to(host_key, key)).or_else(|| past.clone());
    Some(AttachedSsh {
        sealed_host_key: old.filter(|_| past == sealed_to).and_then(|old| old.sealed_host_key.clone()),
        sealed_to,
        gateway_keys: found.gateway_keys.clone(),
        authorized_keys: if recorded { Vec::new() } else { lines(effective, found).0 },
        user_ca_keys: if recorded { Vec::new() } else { found.user_ca_keys.clone() },
    })
}

/// Writes [`KEYS_RESOLVED`], which is there while the Spark names sources or something is wrong with its keys.
pub(super) fn resolved(
    conditions: &mut Vec<Condition>,
    effective: &Inherited,
    found: &SshFound,
    generation: Option<i64>,
    now: Timestamp,
) {
    let too_many = || {
        let message = format!(
            "the public keys are more than {} KiB together; those at the end don't count: name a certificate authority instead",
            MAX_KEY_BYTES >> 10
        );
        (Reason::KeysUnusable, message)
    };
    let problem = found.problem.clone().or_else(|| (!lines(effective, found).1).then(too_many));
    let new = match problem {
        Some((why, message)) => condition(KEYS_RESOLVED, false, why, message, generation, now),
        None if sources(effective).is_empty() => return conditions::remove(conditions, KEYS_RESOLVED),
        None => {
            condition(KEYS_RESOLVED, true, Reason::Available, "all sources of keys are read", generation, now)
        }
    };
    conditions::set(conditions, new);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sparks_api::{KeyReference, Ssh};

    fn with(ssh: Ssh) -> Inherited {
        Inherited { ssh: Some(ssh), ..Default::default() }
    }

    fn found(lines: &[&str]) -> SshFound {
        SshFound {
            host_key: Some("host".into()),
            gateway_keys: vec!["gateway".into()],
            user_ca_keys: vec!["ca".into()],
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            problem: None,
        }
    }

    fn keys(lines: &[&str], recording: Recording) -> Inherited {
        let authorized_keys = Some(lines.iter().map(|line| (*line).to_owned()).collect());
        with(Ssh { authorized_keys, recording, ..Default::default() })
    }

    #[test]
    fn the_specs_keys_and_those_of_the_sources_are_in_effect_each_once() {
        let got = status(&keys(&["a", "b "], Recording::On), &found(&["b", "c"]));
        assert_eq!(
            (got.authorized_keys, got.recording),
            (vec!["a".into(), "b".into(), "c".into()], Recording::On)
        );
    }

    #[test]
    fn a_spark_that_names_no_key_still_gets_its_server_for_the_gateway() {
        let got = attached(&Inherited::default(), &found(&[]), Some("agent"), None).unwrap();
        assert_eq!((got.gateway_keys, got.authorized_keys), (vec!["gateway".to_owned()], vec![]));
        assert!(got.sealed_to.is_some());
    }

    #[test]
    fn where_sessions_must_be_recorded_nobody_is_let_in_past_the_gateway() {
        for (recording, keys_there) in [(Recording::Off, 1), (Recording::On, 1), (Recording::Required, 0)] {
            let got = attached(&keys(&["a"], recording), &found(&[]), None, None).unwrap();
            assert_eq!(
                (got.authorized_keys.len(), got.user_ca_keys.len()),
                (keys_there, keys_there),
                "{recording:?}"
            );
            assert_eq!(got.gateway_keys.len(), 1);
        }
    }

    #[test]
    fn the_host_key_is_sealed_again_when_one_of_the_two_keys_changes_and_only_then() {
        let fresh = attached(&Inherited::default(), &found(&[]), Some("agent"), None).unwrap();
        let old = AttachedSsh { sealed_host_key: Some("sealed".into()), ..fresh };
        let other_host = SshFound { host_key: Some("other".into()), ..found(&[]) };
        for (what, found, agent, kept) in [
            ("nothing changed", found(&[]), Some("agent"), true),
            ("the keys that may enter changed", found(&["line"]), Some("agent"), true),
            ("the node agent is away", found(&[]), None, true),
            ("the node agent has another key", found(&[]), Some("new"), false),
            ("the Spark has another host key", other_host, Some("agent"), false),
        ] {
            let got = attached(&Inherited::default(), &found, agent, Some(&old)).unwrap();
            assert_eq!(got.sealed_host_key.is_some(), kept, "{what}");
        }
    }

    #[test]
    fn more_keys_than_fit_are_left_out_and_told() {
        let long = |n: usize| format!("ssh-ed25519 {n:060000}");
        let all: Vec<String> = (0..3).map(long).collect();
        let effective = with(Ssh { authorized_keys: Some(all), ..Default::default() });
        assert_eq!(status(&effective, &found(&[])).authorized_keys.len(), 2);
        let mut conditions = vec![];
        resolved(&mut conditions, &effective, &found(&[]), None, Timestamp::UNIX_EPOCH);
        assert_eq!(conditions[0].reason, Reason::KeysUnusable);
    }

    #[test]
    fn a_missing_source_is_told_for_as_long_as_it_is_missing() {
        let reference = KeyReference { name: "s".into(), key: "k".into() };
        let source = KeySource { secret_key_ref: Some(reference), config_map_key_ref: None };
        let effective = with(Ssh { authorized_keys_from: Some(vec![source]), ..Default::default() });
        let missing = SshFound { problem: Some((Reason::KeySourceNotFound, "no".into())), ..found(&[]) };
        let mut all = vec![];
        resolved(&mut all, &effective, &missing, None, Timestamp::UNIX_EPOCH);
        assert!(all[0].status == "False" && all[0].reason == Reason::KeySourceNotFound);
        resolved(&mut all, &effective, &found(&[]), None, Timestamp::UNIX_EPOCH);
        assert!(conditions::is_true(&all, KEYS_RESOLVED));
        resolved(&mut all, &Inherited::default(), &found(&[]), None, Timestamp::UNIX_EPOCH);
        assert!(all.is_empty());
    }
}
