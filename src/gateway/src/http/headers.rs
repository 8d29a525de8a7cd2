//! What a proxy does to the headers of what it passes on (RFC 9110, section 7.6).

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What else a visitor could say of where it comes from.
const CLAIMS: [HeaderName; 4] = [
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-real-ip"),
];

/// Whoever is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    value: HeaderValue,
    node: String,
}

impl Peer {
    /// The peer with this address.
    pub fn new(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        // An address is always a header value.
        let value = HeaderValue::from_str(&ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        let node = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("\"[{ip}]\""),
        };
        Self { address, value, node }
    }
}

/// Removes what is about this connection and not about the message.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, CONNECTION)
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            // Nobody may have the proxy remove what a message can't do without.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if headers.remove(TRANSFER_ENCODING).is_some() {
        // RFC 9112, section 6.3: it goes over Content-Length, which must not be passed on.
        headers.remove(CONTENT_LENGTH);
    }
    for name in
        [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION]
    {
        headers.remove(name);
    }
}

/// The protocol that a client asks to change to.
pub fn upgrade(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let asks = version == Version::HTTP_11
        && tokens(headers, CONNECTION).any(|name| name.eq_ignore_ascii_case("upgrade"));
    let protocol = asks.then(|| headers.get(UPGRADE)).flatten()?;
    // HTTP/2 in this way is obsolete (RFC 9113, section 3.1), and a way past a proxy's rules.
    let is_h2c = protocol.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("h2c"));
    (!is_h2c).then(|| protocol.clone())
}

/// Says which protocol the connection is to change to.
pub fn change(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(UPGRADE, protocol);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Whether the client speaks gRPC, which needs HTTP/2 up to the service.
pub fn is_grpc(headers: &HeaderMap, version: Version) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let of = |value: &HeaderValue| {
        value
            .as_bytes()
            .strip_prefix(GRPC)
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    };
    version == Version::HTTP_2 && headers.get(CONTENT_TYPE).is_some_and(of)
}

/// Whether an answer is a stream of events, which come when they happen.
pub fn are_events(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// Whether the visitor's browser came by TLS. Of itself a visitor may say so.
pub fn is_https(headers: &HeaderMap) -> bool {
    headers.get(X_FORWARDED_PROTO).is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Keeps of `TE` what is about the message: whether trailers are understood.
pub fn keep_trailers(headers: &mut HeaderMap) {
    const TRAILERS: &str = "trailers";
    if headers.contains_key(TE) {
        let understood = tokens(headers, TE).any(|token| token.eq_ignore_ascii_case(TRAILERS));
        headers.remove(TE);
        if understood {
            headers.insert(TE, HeaderValue::from_static(TRAILERS));
        }
    }
}

/// Says who sent the request, how, and to which host.
pub fn forward(headers: &mut HeaderMap, peer: &Peer, host: &HeaderValue, believe: bool) {
    if !believe {
        for name in
            [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, FORWARDED].into_iter().chain(CLAIMS)
        {
            headers.remove(name);
        }
    }
    let before = joined(headers, &X_FORWARDED_FOR);
    headers.insert(X_FORWARDED_FOR, appended(before, peer.value.clone(), &peer.value));
    let scheme = headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http")).clone();
    let host = headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone()).clone();
    let (scheme, host) = (scheme.to_str().unwrap_or("http"), host.to_str().unwrap_or_default());
    let is_plain = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b';' | b','))
    };
    if is_plain(scheme) && is_plain(host) {
        let element = format!("for={};host=\"{host}\";proto={scheme}", peer.node);
        if let Ok(element) = HeaderValue::from_str(&element) {
            let before = joined(headers, &FORWARDED);
            headers.insert(FORWARDED, appended(before, element.clone(), &element));
        }
    }
    // Answered by the gateway itself as soon as the service takes the body.
    headers.remove(EXPECT);
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut values = headers.get_all(name).into_iter().map(HeaderValue::as_bytes).peekable();
    values.peek()?;
    Some(values.collect::<Vec<_>>().join(&b", "[..]))
}

fn appended(before: Option<Vec<u8>>, alone: HeaderValue, last: &HeaderValue) -> HeaderValue {
    let Some(mut all) = before else { return alone };
    all.extend_from_slice(b", ");
    all.extend_from_slice(last.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(all)).unwrap_or(alone)
}

/// The elements of a header that is a list of tokens.
pub fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs =
            all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn headers_of_the_connection_are_not_passed_on_nor_those_that_it_names() {
        let mut all = headers(&[
            ("connection", "keep-alive, X-Mine"),
            ("connection", "close"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic YTpi"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut all);
        assert_eq!(names(&all), ["accept"]);
    }

    #[test]
    fn a_client_can_not_have_host_and_length_removed() {
        let mut all =
            headers(&[("connection", "host, content-length"), ("host", "h"), ("content-length", "1")]);
        strip_hop_by_hop(&mut all);
        assert_eq!(names(&all), ["content-length", "host"]);
    }

    #[test]
    fn a_length_beside_a_transfer_encoding_is_not_passed_on() {
        let mut all = headers(&[("content-length", "5"), ("transfer-encoding", "chunked")]);
        strip_hop_by_hop(&mut all);
        assert!(all.is_empty());
    }

    #[test]
    fn only_http_1_1_upgrades_and_never_to_http_2() {
        let asks = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade(&asks, Version::HTTP_11).unwrap(), "websocket");
        assert!(upgrade(&asks, Version::HTTP_10).is_none());
        assert!(upgrade(&headers(&[("upgrade", "websocket")]), Version::HTTP_11).is_none());
        assert!(
            upgrade(&headers(&[("connection", "upgrade"), ("upgrade", "H2C")]), Version::HTTP_11).is_none()
        );
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (content, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", content)]), Version::HTTP_2), is, "{content}");
        }
        assert!(!is_grpc(&headers(&[("content-type", "application/grpc")]), Version::HTTP_11));
    }

    #[test]
    fn of_te_only_trailers_are_kept() {
        let mut all = headers(&[("te", "gzip, Trailers")]);
        keep_trailers(&mut all);
        assert_eq!(text(&all, "te"), "trailers");
        let mut all = headers(&[("te", "gzip")]);
        keep_trailers(&mut all);
        assert!(all.is_empty());
    }

    const CLAIMED: [(&str, &str); 6] = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "front.example.com"),
        ("forwarded", "for=1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("x-forwarded-port", "443"),
    ];

    #[test]
    fn what_a_stranger_says_of_where_it_comes_from_is_replaced() {
        let mut all = headers(&CLAIMED);
        let peer = Peer::new("[::ffff:10.0.0.9]:5000".parse().unwrap());
        forward(&mut all, &peer, &HeaderValue::from_static("a--b.example.com:8080"), false);
        assert_eq!(names(&all), ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
        assert_eq!(text(&all, "x-forwarded-for"), "10.0.0.9");
        assert_eq!(text(&all, "x-forwarded-proto"), "http");
        assert_eq!(text(&all, "x-forwarded-host"), "a--b.example.com:8080");
        assert_eq!(text(&all, "forwarded"), "for=10.0.0.9;host=\"a--b.example.com:8080\";proto=http");
    }

    #[test]
    fn what_a_proxy_says_is_kept_and_the_proxy_is_added() {
        let mut all = headers(&CLAIMED);
        let peer = Peer::new("[2001:db8::1]:5000".parse().unwrap());
        forward(&mut all, &peer, &HeaderValue::from_static("a--b.example.com"), true);
        assert_eq!(text(&all, "x-forwarded-for"), "1.1.1.1, 2001:db8::1");
        assert_eq!(text(&all, "x-forwarded-proto"), "https");
        assert_eq!(text(&all, "x-forwarded-host"), "front.example.com");
        assert_eq!(
            text(&all, "forwarded"),
            "for=1.1.1.1, for=\"[2001:db8::1]\";host=\"front.example.com\";proto=https"
        );
        assert_eq!(text(&all, "x-real-ip"), "1.1.1.1");
    }
}
