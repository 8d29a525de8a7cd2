//! `spark url`.

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use kube::ResourceExt;
use spark_client::access::AUDIENCE;
use sparks_api::Spark;

use crate::complete::sparks;
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::gateway::{self, Gateway, GatewayArgs};
use crate::{output, parse};

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
    /// Open it in the browser too
    #[arg(long, conflicts_with = "token")]
    pub open: bool,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Prints the address.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let sparks = &context.sparks;
    let spark = sparks.get(&args.name).await?;
    let token = gateway::token(sparks, &args.name, args.ttl);
    if args.token {
        output::line(&token.await?)?;
        return Ok(0);
    }
    let gateway = args.gateway.find(sparks).await?;
    refuse_address(&gateway)?;
    let mut url = gateway.url(&spark.name_any(), sparks.namespace());
    if !is_public(&spark) {
        url.push_str(&format!("?{AUDIENCE}-token={}", token.await?));
    }
    output::line(&url)?;
    if args.open {
        open::that(&url).map_err(|error| CliError::Usage(format!("no browser could be started: {error}")))?;
    }
    Ok(0)
}

/// A Spark is a name below the gateway's.
fn refuse_address(gateway: &Gateway) -> Result<(), CliError> {
    if !gateway.is_ip() {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "{gateway} is an address, and no names of Sparks are below it: name a domain whose subdomains lead to the gateway \
         (gateway.domain or gateway.url in the chart, or --gateway-url); --token needs none"
    )))
}

fn is_public(spark: &Spark) -> bool {
    spark.status.as_ref().is_some_and(|status| status.public)
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

    #[test]
    fn the_gateway_may_be_named_on_the_line() {
        let line =
            Line::try_parse_from(["url", "api", "--ttl", "15m", "--gateway-url", "https://x.org"]).unwrap();
        assert_eq!(line.args.ttl, Duration::from_secs(900));
        assert_eq!(line.args.gateway.gateway_url.unwrap().to_string(), "https://x.org");
        assert!(Line::try_parse_from(["url", "api", "--gateway-url", "a b"]).is_err());
    }

    #[test]
    fn an_address_has_no_names_of_sparks_below_it() {
        let said =
            |gateway: &str| refuse_address(&gateway.parse().unwrap()).map_err(|error| error.to_string());
        for address in ["http://10.1.2.3", "10.1.2.3:8080"] {
            assert!(said(address).unwrap_err().contains("a domain whose subdomains lead to the gateway"));
        }
        assert_eq!(said("https://x.org"), Ok(()));
    }
}
