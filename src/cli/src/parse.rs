//! Parsers of single arguments. What they say on refusal, clap puts after the argument's name.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use spark_client::Source;
use sparks_api::{EnvSource, EnvVar, LocalReference, VolumeMount, time::parse_duration};

/// Size of a volume that says none.
const DEFAULT_VOLUME_SIZE: &str = "10Gi";

/// A duration such as `2m` or `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a duration such as 30s, 15m or 72h".into())
}

/// A duration, kept as text.
pub fn duration_text(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.to_owned())
}

/// A quantity such as `20Gi`. The API server checks it again.
pub fn quantity(text: &str) -> Result<Quantity, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &text[digits.len()..];
    let known = ["", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].contains(&suffix);
    match digits.parse::<f64>() {
        Ok(number) if number > 0.0 && known && !digits.starts_with('+') => Ok(Quantity(text.into())),
        _ => Err("write a quantity such as 500m, 2Gi or 20Gi".into()),
    }
}

/// The name of an object, with or without its kind (`spark/api`, as `-o name` prints it).
pub fn name(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        Some((
            "spark" | "sparks" | "spark.sparks.loop.work" | "checkpoint" | "checkpoints" | "pool",
            name,
        )) => name,
        Some((kind, _)) => {
            return Err(format!("there is nothing of kind {kind} here; write NAME or spark/NAME"));
        }
        None => text,
    };
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err("a name has lower case letters, digits and '-'".into());
    }
    Ok(name.into())
}

/// `NAME`, `spark/NAME` or `checkpoint/NAME`.
pub fn source(text: &str) -> Result<Source, String> {
    let is_checkpoint = text.starts_with("checkpoint/") || text.starts_with("checkpoints/");
    let name = name(text)?;
    Ok(if is_checkpoint { Source::checkpoint(name) } else { Source::spark(name) })
}

/// Lines of authorized_keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKeys(pub Vec<String>);

/// A file of public keys, or a public key.
pub fn ssh_key(text: &str) -> Result<SshKeys, String> {
    if text.contains(' ') {
        return Ok(SshKeys(vec![text.trim().to_owned()]));
    }
    let content = std::fs::read_to_string(text).map_err(|error| format!("{text}: {error}"))?;
    if content.contains("PRIVATE KEY") {
        return Err(format!("{text} is a private key, which nobody else should see: give {text}.pub"));
    }
    let lines = content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    if lines.is_empty() { Err(format!("{text} has no public key")) } else { Ok(SshKeys(lines)) }
}

/// `NAME:/PATH[:SIZE]`.
pub fn volume(text: &str) -> Result<VolumeMount, String> {
    let wrong = || "write NAME:/PATH[:SIZE], such as data:/data:10Gi".to_owned();
    let (name, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (path, size) = match rest.rsplit_once(':') {
        Some((path, size)) => (path, quantity(size)?),
        None => (rest, Quantity(DEFAULT_VOLUME_SIZE.into())),
    };
    if name.is_empty() || !path.starts_with('/') || path.len() < 2 {
        return Err(wrong());
    }
    Ok(VolumeMount { name: name.into(), mount_path: path.trim_end_matches('/').into(), size })
}

/// `NAME=VALUE`, or `NAME` for this process's own value.
pub fn env(text: &str) -> Result<EnvVar, String> {
    let wrong = || "write NAME=VALUE".to_owned();
    match text.split_once('=') {
        Some(("", _)) => Err(wrong()),
        Some((name, value)) => Ok(EnvVar { name: name.into(), value: value.into() }),
        None => {
            let value =
                std::env::var(text).map_err(|_| format!("{text} is not set here; write NAME=VALUE"))?;
            Ok(EnvVar { name: text.into(), value })
        }
    }
}

/// `secret/NAME` or `configmap/NAME`.
pub fn env_from(text: &str) -> Result<EnvSource, String> {
    let reference = |name: &str| Some(LocalReference { name: name.into() });
    match text.split_once('/') {
        Some(("secret" | "secrets", name)) if !name.is_empty() => {
            Ok(EnvSource { secret_ref: reference(name), ..Default::default() })
        }
        Some(("configmap" | "configmaps" | "cm", name)) if !name.is_empty() => {
            Ok(EnvSource { config_map_ref: reference(name), ..Default::default() })
        }
        _ => Err("write secret/NAME or configmap/NAME".into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_a_name_a_path_and_perhaps_a_size() {
        let got = volume("data:/data:10Gi").unwrap();
        assert_eq!(
            (got.name.as_str(), got.mount_path.as_str(), got.size.0.as_str()),
            ("data", "/data", "10Gi")
        );
        assert_eq!(volume("data:/data/").unwrap().mount_path, "/data");
        assert_eq!(volume("data:/data").unwrap().size.0, DEFAULT_VOLUME_SIZE);
        for wrong in ["data", "data:data", ":/data", "data:/", "data:/data:big", "data:/data:"] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quantities_are_positive_numbers_with_a_known_unit() {
        for right in ["1", "500m", "0.5", "20Gi", "1e3"] {
            assert!(quantity(right).is_ok(), "{right}");
        }
        for wrong in ["", "Gi", "-1", "0", "10GB", "10 Gi", "+1"] {
            assert!(quantity(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_o_name_prints_is_understood_as_a_name() {
        assert_eq!(name("spark/api").unwrap(), "api");
        assert_eq!(source("checkpoint/v1").unwrap(), Source::checkpoint("v1"));
        assert_eq!(source("api").unwrap(), Source::spark("api"));
        for wrong in ["", "pod/x", "A", "a b", "spark/"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_env_value_may_hold_equals_signs() {
        assert_eq!(env("A=b=c").unwrap(), EnvVar { name: "A".into(), value: "b=c".into() });
        assert!(env("=b").is_err());
    }

    #[test]
    fn env_comes_from_secrets_and_configmaps_only() {
        assert_eq!(env_from("secret/s").unwrap().secret_ref.unwrap().name, "s");
        assert_eq!(env_from("cm/c").unwrap().config_map_ref.unwrap().name, "c");
        for wrong in ["s", "secret/", "pod/x"] {
            assert!(env_from(wrong).is_err(), "{wrong}");
        }
    }
}
