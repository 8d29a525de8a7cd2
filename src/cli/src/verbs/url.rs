//! `spark url`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt};
use spark_client::access::{AUDIENCE, Scope};
use sparks_api::Spark;

use crate::complete::sparks;
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::{output, parse};

/// ConfigMap in the namespace of the installation, which everybody may read, and its entry with the address.
const INFO: &str = "sparks-gateway";
const INFO_URL: &str = "url";
/// Longest label of a host name.
const MAX_LABEL: usize = 63;

/// Print the address of a Spark's service.
///
/// For a private Spark it is a signed link, which opens it until it expires. Deleting the Secret sparks-access of the namespace
/// ends all links at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Spark
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub name: String,
    /// How long the link opens a private Spark
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse::duration)]
    pub ttl: Duration,
    /// Print only a token, for the header Sparks-Token
    #[arg(long)]
    pub token: bool,
    /// Address of the gateway, such as https://sparks.example.com [default: what the installation says]
    #[arg(long, value_name = "URL", env = "SPARKS_GATEWAY_URL")]
    pub gateway_url: Option<Gateway>,
    /// Namespace of the installation
    #[arg(long, value_name = "NS", env = "SPARKS_SYSTEM_NAMESPACE", default_value = "sparks-system")]
    pub system_namespace: String,
}

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
    fn url(&self, name: &str, namespace: &str) -> String {
        let label = format!("{name}--{namespace}");
        // The gateway splits at the first --, and browsers take a label that begins with xn-- for another alphabet.
        let is_plain = !name.contains("--") && name != "xn" && label.len() <= MAX_LABEL;
        let host = if is_plain { label } else { format!("{name}.{namespace}") };
        format!("{}://{host}.{}/", self.scheme, self.authority)
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// Prints the address.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let spark = context.sparks.get(&args.name).await?;
    if args.token {
        output::line(&token(context, &args).await?)?;
        return Ok(0);
    }
    let gateway = match args.gateway_url.clone() {
        Some(gateway) => gateway,
        None => installed(context, &args.system_namespace).await?,
    };
    let mut url = gateway.url(&spark.name_any(), context.sparks.namespace());
    if !is_public(&spark) {
        url.push_str(&format!("?{AUDIENCE}-token={}", token(context, &args).await?));
    }
    output::line(&url)?;
    Ok(0)
}

fn is_public(spark: &Spark) -> bool {
    spark.status.as_ref().is_some_and(|status| status.public)
}

async fn token(context: &Context, args: &Args) -> Result<String, CliError> {
    let key = context.sparks.access_key().await?;
    let expires = Timestamp::now().saturating_add(args.ttl).unwrap_or(Timestamp::MAX);
    Ok(key.mint(&Scope::spark(context.sparks.namespace(), &args.name), expires))
}

/// What the installation says of its gateway.
async fn installed(context: &Context, system: &str) -> Result<Gateway, CliError> {
    let api = Api::<ConfigMap>::namespaced(context.sparks.client().clone(), system);
    let missing = |why: String| {
        CliError::Usage(format!(
            "{why}; say where the gateway is with --gateway-url or SPARKS_GATEWAY_URL, such as https://sparks.example.com"
        ))
    };
    let info = match api.get_opt(INFO).await {
        Ok(Some(info)) => info,
        Ok(None) | Err(kube::Error::Api(_)) => {
            return Err(missing(format!(
                "there is no ConfigMap {INFO} in namespace {system} that you may read"
            )));
        }
        Err(error) => return Err(context.sparks.error::<Spark>(INFO, error).into()),
    };
    let url = info.data.as_ref().and_then(|data| data.get(INFO_URL)).filter(|url| !url.is_empty());
    let url = url
        .ok_or_else(|| missing(format!("the ConfigMap {INFO} in namespace {system} names no {INFO_URL}")))?;
    url.parse().map_err(|why| missing(format!("the ConfigMap {INFO} names {url:?}: {why}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

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
    fn the_gateway_may_be_named_on_the_line() {
        let line =
            Line::try_parse_from(["url", "api", "--ttl", "15m", "--gateway-url", "https://x.org"]).unwrap();
        assert_eq!(line.args.ttl, Duration::from_secs(900));
        assert_eq!(line.args.gateway_url.unwrap().to_string(), "https://x.org");
        assert!(Line::try_parse_from(["url", "api", "--gateway-url", "a b"]).is_err());
    }
}
