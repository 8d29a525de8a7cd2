//! Which Spark a host name means.
//!
//! `SPARK--NAMESPACE.DOMAIN`, split at the first `--`; or `SPARK.NAMESPACE.DOMAIN`. The first form is one label, so that one
//! wildcard certificate and one wildcard host of an Ingress cover it. The second one is for what the first can't say: a
//! Spark whose name has `--` in it, and names that together are longer than the 63 bytes of a label (RFC 1035).
//!
//! The rule looks at the name alone and never at which Sparks exist. Otherwise a tenant could take over a host name, and the
//! cookies that browsers hold for it, by making a Spark with the right name in a namespace of their own.

use std::{fmt, sync::Arc};

/// Longest name of a Spark, as its schema has it.
const MAX_SPARK: usize = 50;
/// Longest label of a host name (RFC 1035, section 2.3.4), and longest name of a namespace.
const MAX_LABEL: usize = 63;
/// Longest host name.
const MAX_HOST: usize = 253;
const SEPARATOR: &str = "--";

/// The Spark that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// The domain under which Sparks are served.
#[derive(Clone, Debug)]
pub struct Domain(String);

impl Domain {
    /// Takes a domain as it is on the command line.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self(domain.trim_matches('.').to_ascii_lowercase())
    }

    /// The Spark that the value of a `Host` header names, if it names one.
    #[must_use]
    pub fn target(&self, authority: &str) -> Option<Target> {
        let host = without_port(authority)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.len() > MAX_HOST {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let (name, namespace) = split(host.strip_suffix(&self.0)?.strip_suffix('.')?)?;
        (is_spark(name) && is_namespace(namespace))
            .then(|| Target { namespace: namespace.into(), name: name.into() })
    }

    /// What a host looks like.
    #[must_use]
    pub fn example(&self) -> String {
        format!("SPARK{SEPARATOR}NAMESPACE.{}", self.0)
    }
}

fn split(labels: &str) -> Option<(&str, &str)> {
    match labels.split_once('.') {
        Some(dotted) => Some(dotted),
        None => labels.split_once(SEPARATOR),
    }
}

/// The host without its port; nothing for what is no host name.
pub fn without_port(authority: &str) -> Option<&str> {
    match authority.split_once(':') {
        Some((host, port)) if port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) => Some(host),
        Some(_) => None,
        None => Some(authority),
    }
}

fn is_spark(name: &str) -> bool {
    name.len() <= MAX_SPARK && name.starts_with(|first: char| first.is_ascii_lowercase()) && is_label(name)
}

/// Whether a namespace can have this name.
pub fn is_namespace(name: &str) -> bool {
    name.len() <= MAX_LABEL && is_label(name)
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str) -> Option<String> {
        let target = Domain::new("Sparks.example.com.").target(host)?;
        Some(format!("{} in {}", target.name, target.namespace))
    }

    #[test]
    fn a_host_names_a_spark_and_its_namespace() {
        for host in [
            "api--team-a.sparks.example.com",
            "API--Team-A.sparks.EXAMPLE.com",
            "api--team-a.sparks.example.com:8080",
            "api--team-a.sparks.example.com.",
            "api--team-a.sparks.example.com.:80",
            "api--team-a.sparks.example.com:",
            "api.team-a.sparks.example.com",
        ] {
            assert_eq!(target(host).as_deref(), Some("api in team-a"), "{host}");
        }
    }

    #[test]
    fn the_first_double_hyphen_separates_whatever_exists() {
        assert_eq!(target("a--b--c.sparks.example.com").as_deref(), Some("a in b--c"));
        assert_eq!(target("a--b.c.sparks.example.com").as_deref(), Some("a--b in c"));
        assert_eq!(target("a-b--c-d.sparks.example.com").as_deref(), Some("a-b in c-d"));
        assert_eq!(target("a--0.sparks.example.com").as_deref(), Some("a in 0"));
    }

    #[test]
    fn names_that_no_spark_and_no_namespace_can_have_are_refused() {
        let long = format!("{}--b.sparks.example.com", "a".repeat(MAX_SPARK + 1));
        let longer = format!("a.{}.sparks.example.com", "b".repeat(MAX_LABEL + 1));
        for host in [
            "",
            ".",
            "sparks.example.com",
            ".sparks.example.com",
            "api.sparks.example.com",
            "--a.sparks.example.com",
            "a--.sparks.example.com",
            "a---b.sparks.example.com",
            "1a--b.sparks.example.com",
            "a_b--c.sparks.example.com",
            "a--b.c.d.sparks.example.com",
            "a..sparks.example.com",
            "api--team-axsparks.example.com",
            "api--team-a.sparks.example.com.evil.org",
            "api--team-a.sparks.example.com:80:80",
            "api--team-a.sparks.example.com:http",
            "user@api--team-a.sparks.example.com",
            "api--team-a.sparks.example.com/..",
            "ａpi--team-a.sparks.example.com",
            "[::1]:8080",
            "10.0.0.1",
            &long,
            &longer,
        ] {
            assert_eq!(target(host), None, "{host}");
        }
    }

    #[test]
    fn every_spark_has_a_host() {
        let (name, namespace) = ("a".repeat(MAX_SPARK), "b".repeat(MAX_LABEL));
        let host = format!("{name}.{namespace}.sparks.example.com");
        assert_eq!(target(&host), Some(format!("{name} in {namespace}")));
    }
}
