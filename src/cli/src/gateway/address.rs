//! Addresses of gateways, and of Sparks behind them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest label of a host name.
const MAX_LABEL: usize = 63;
/// A name that is no Spark's, which has a namespace in it.
const OWN_LABEL: &str = "sessions.";

/// Where Sparks are served: scheme, domain and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    scheme: &'static str,
    authority: String,
}

impl FromStr for Gateway {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => ("http", rest),
            Some(("https", rest)) => ("https", rest),
            Some(_) => return Err("write http://DOMAIN or https://DOMAIN".into()),
            None => ("http", text),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest).trim_matches('.').to_ascii_lowercase();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
        if authority.is_empty() || !authority.chars().all(is_part) {
            return Err("write a domain, such as https://sparks.example.com".into());
        }
        Ok(Self { scheme, authority })
    }
}

impl Gateway {
    /// The address of a Spark.
    pub fn url(&self, name: &str, namespace: &str) -> String {
        format!("{}://{}/", self.scheme, self.host(name, namespace))
    }

    /// A Spark's host, with the port if there is one.
    pub fn host(&self, name: &str, namespace: &str) -> String {
        let label = format!("{name}--{namespace}");
        // The gateway splits at the first --, and browsers take a label that begins with xn-- for another alphabet.
        let is_plain = !name.contains("--") && name != "xn" && label.len() <= MAX_LABEL;
        let host = if is_plain { label } else { format!("{name}.{namespace}") };
        format!("{host}.{}", self.authority)
    }

    /// An address at which the gateway itself answers: only names below its domain need to lead to it.
    pub fn own_url(&self) -> String {
        let host = split(&self.authority).0;
        // Not every resolver knows the names below localhost.
        let below = if self.is_ip() || host == "localhost" { "" } else { OWN_LABEL };
        format!("{}://{below}{}", self.scheme, self.authority)
    }

    /// Whether it is an IP address, under which no Spark can have a name.
    pub fn is_ip(&self) -> bool {
        split(&self.authority).0.parse::<IpAddr>().is_ok()
    }

    /// Where the gateway itself is.
    pub fn own_place(&self) -> Place {
        self.place(&self.authority)
    }

    /// Where a connection to a Spark's host goes.
    pub fn place_of(&self, name: &str, namespace: &str) -> Place {
        self.place(&self.host(name, namespace))
    }

    fn place(&self, authority: &str) -> Place {
        let (host, port) = split(authority);
        let is_tls = self.scheme == "https";
        let default = if is_tls { 443 } else { 80 };
        Place { host: host.into(), port: port.unwrap_or(default), is_tls }
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub is_tls: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Host and port of an authority. What is no port belongs to the host, which then can't be found.
pub fn split(authority: &str) -> (&str, Option<u16>) {
    let parts = authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parts.map_or((authority, None), |(host, port)| (host, Some(port)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn gateway(text: &str) -> Result<Gateway, String> {
        text.parse()
    }

    #[test]
    fn a_spark_is_a_label_of_the_gateways_domain() {
        let plain = gateway("sparks.example.com:8080").unwrap();
        assert_eq!(plain.url("api", "team-a"), "http://api--team-a.sparks.example.com:8080/");
        let tls = gateway("https://Sparks.Example.com./").unwrap();
        assert_eq!(tls.url("api", "team-a"), "https://api--team-a.sparks.example.com/");
    }

    #[test]
    fn names_that_one_label_can_not_say_are_two() {
        let gateway = gateway("https://x.org").unwrap();
        assert_eq!(gateway.url("a--b", "c"), "https://a--b.c.x.org/");
        assert_eq!(gateway.url("a", "b--c"), "https://a--b--c.x.org/");
        assert_eq!(gateway.url("xn", "b"), "https://xn.b.x.org/");
        let long = "n".repeat(50);
        assert_eq!(gateway.url(&long, "team-a-staging"), format!("https://{long}.team-a-staging.x.org/"));
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for text in ["", "https://", "ftp://x.org", "https://x.org/path", "https://user@x.org", "a b"] {
            assert!(gateway(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_connection_goes_to_the_sparks_name_at_the_port_that_is_said_or_usual() {
        let at = |text: &str| {
            let place = gateway(text).unwrap().place_of("a", "b");
            (place.to_string(), place.is_tls)
        };
        assert_eq!(at("http://x.org"), ("a--b.x.org:80".into(), false));
        assert_eq!(at("https://x.org"), ("a--b.x.org:443".into(), true));
        assert_eq!(at("https://x.org:8443"), ("a--b.x.org:8443".into(), true));
        assert_eq!(gateway("10.1.2.3:8080").unwrap().own_place().to_string(), "10.1.2.3:8080");
    }

    #[test]
    fn the_gateway_itself_answers_below_its_domain_where_it_has_one() {
        let at = |text: &str| gateway(text).unwrap().own_url();
        assert_eq!(at("https://x.org:8443"), "https://sessions.x.org:8443");
        assert_eq!(at("10.1.2.3:8080"), "http://10.1.2.3:8080");
        assert_eq!(at("http://localhost"), "http://localhost");
    }

    #[test]
    fn an_ip_address_is_no_domain() {
        assert!(gateway("http://10.1.2.3").unwrap().is_ip() && gateway("10.1.2.3:80").unwrap().is_ip());
        assert!(!gateway("10.1.2.3.example.com").unwrap().is_ip());
    }
}
