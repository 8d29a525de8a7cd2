//! Command line of the HTTP server.

use std::time::Duration;

use sparks_api::time::parse_duration;

/// Limits of the HTTP server, of one replica, and whom it believes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// Believe X-Forwarded-For, -Proto, -Host and Forwarded; only where nothing but a proxy that sets them can connect.
    #[arg(long, env = "SPARKS_HTTP_TRUST_FORWARDED")]
    pub http_trust_forwarded: bool,
    /// HTTP connections at once; further ones wait.
    #[arg(long, env = "SPARKS_HTTP_MAX_CONNECTIONS", default_value_t = 16_384)]
    pub http_max_connections: usize,
    /// The same from one address (IPv4) or one /64 (IPv6); without effect with --http-trust-forwarded.
    #[arg(long, env = "SPARKS_HTTP_MAX_CONNECTIONS_PER_SOURCE", default_value_t = 512)]
    pub http_max_connections_per_source: usize,
    /// Requests at once from one such source that wait for an answer; without effect with --http-trust-forwarded.
    #[arg(long, env = "SPARKS_HTTP_MAX_REQUESTS_PER_SOURCE", default_value_t = 2048)]
    pub http_max_requests_per_source: usize,
    /// Take websockets by HTTP/2 (RFC 8441). A visitor of a proxy that passes on a Content-Length with them can have the
    /// connection closed that it shares with others.
    #[arg(long, env = "SPARKS_HTTP_WEBSOCKETS_BY_HTTP2")]
    pub http_websockets_by_http2: bool,
    /// How long a client may take to send the head of a request.
    #[arg(long, env = "SPARKS_HTTP_HEADER_TIMEOUT", default_value = "15s", value_parser = duration)]
    pub http_header_timeout: Duration,
    /// How long a connection may wait for its next request; more than that of a proxy in front.
    #[arg(long, env = "SPARKS_HTTP_IDLE_TIMEOUT", default_value = "120s", value_parser = duration)]
    pub http_idle_timeout: Duration,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            http_trust_forwarded: false,
            http_max_connections: 16_384,
            http_max_connections_per_source: 512,
            http_max_requests_per_source: 2048,
            http_websockets_by_http2: false,
            http_header_timeout: Duration::from_secs(15),
            http_idle_timeout: Duration::from_secs(120),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("{text:?} is not a positive duration such as 15s"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn the_defaults_of_the_command_line_are_those_of_the_type() {
        let parsed = Line::try_parse_from(["gateway"]).unwrap().flags;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Flags::default()));
    }
}
