//! The tokens that a request brings, which are taken out of it: no Spark gets to see one.

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{AUTHORIZATION, COOKIE},
    request::Parts,
    uri::PathAndQuery,
};
use spark_client::access::Token;

/// Header, besides `Authorization`, that carries a token.
pub const HEADER: HeaderName = HeaderName::from_static("sparks-token");
/// Cookie and parameter of a signed link that carry a token.
pub const NAME: &str = "sparks-token";

/// More tokens than this, and the rest is not looked at. A page of another Spark can set a few cookies for the whole domain.
const MOST: usize = 16;

/// How a token came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// In the address.
    Link,
    /// In a header.
    Header,
    /// In a cookie: by a browser, perhaps at the will of a page of somebody else.
    Cookie,
}

/// The tokens of a request, not looked at yet.
pub type Presented = Vec<(Carrier, String)>;

/// Takes all tokens out of a request.
pub fn take(head: &mut Parts) -> Presented {
    let mut found = Vec::new();
    take_from_uri(&mut head.uri, &mut found);
    take_from_headers(&mut head.headers, &mut found);
    take_from_cookies(&mut head.headers, &mut found);
    found.truncate(MOST);
    found
}

fn take_from_uri(uri: &mut Uri, found: &mut Presented) {
    let Some(query) = uri.query().filter(|query| query.contains(NAME)) else { return };
    let mut kept = String::with_capacity(query.len());
    let before = found.len();
    for pair in query.split('&') {
        match pair.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('=')) {
            Some(token) => found.push((Carrier::Link, token.to_owned())),
            None => {
                kept.push(if kept.is_empty() { '?' } else { '&' });
                kept.push_str(pair);
            }
        }
    }
    if found.len() > before {
        let path = format!("{}{kept}", uri.path());
        let mut parts = std::mem::take(uri).into_parts();
        // A part of what was a path and query is one again.
        parts.path_and_query = PathAndQuery::try_from(path).ok();
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

fn take_from_headers(headers: &mut HeaderMap, found: &mut Presented) {
    if headers.contains_key(HEADER) {
        let values = headers.get_all(HEADER).into_iter().filter_map(|value| value.to_str().ok());
        found.extend(values.map(|value| (Carrier::Header, value.trim().to_owned())));
        headers.remove(HEADER);
    }
    let ours: Vec<_> = headers.get_all(AUTHORIZATION).into_iter().filter_map(bearer).collect();
    if !ours.is_empty() {
        found.extend(ours.into_iter().map(|token| (Carrier::Header, token)));
        retain(headers, AUTHORIZATION, |value| bearer(value).is_none());
    }
}

/// A token of ours, for whichever Spark. Other bearer tokens are the service's own business.
fn bearer(value: &HeaderValue) -> Option<String> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && Token::parse(token).is_some()).then(|| token.to_owned())
}

fn retain(headers: &mut HeaderMap, name: HeaderName, keep: impl Fn(&HeaderValue) -> bool) {
    let kept: Vec<_> = headers.get_all(&name).into_iter().filter(|value| keep(value)).cloned().collect();
    headers.remove(&name);
    for value in kept {
        headers.append(name.clone(), value);
    }
}

/// Cookies may come in one header or, by HTTP/2, in many; they leave in one (RFC 9113, section 8.2.3).
fn take_from_cookies(headers: &mut HeaderMap, found: &mut Presented) {
    let is_ours = |value: &HeaderValue| contains(value.as_bytes(), NAME.as_bytes());
    let mut values = headers.get_all(COOKIE).into_iter();
    let (Some(first), second) = (values.next(), values.next()) else { return };
    if second.is_none() && !is_ours(first) {
        return;
    }
    let mut kept = Vec::new();
    for pair in headers.get_all(COOKIE).into_iter().flat_map(|value| value.as_bytes().split(|b| *b == b';')) {
        let pair = pair.trim_ascii();
        match token_of(pair) {
            Some(token) => found.push((Carrier::Cookie, token)),
            None if pair.is_empty() => {}
            None => {
                if !kept.is_empty() {
                    kept.extend_from_slice(b"; ");
                }
                kept.extend_from_slice(pair);
            }
        }
    }
    headers.remove(COOKIE);
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&kept)
    {
        headers.insert(COOKIE, value);
    }
}

fn token_of(pair: &[u8]) -> Option<String> {
    let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let (name, value) = pair.split_at(at);
    let is_ours = name.trim_ascii() == NAME.as_bytes();
    is_ours
        .then(|| String::from_utf8_lossy(value.strip_prefix(b"=").unwrap_or(value).trim_ascii()).into_owned())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;
    use jiff::Timestamp;
    use spark_client::access::{Key, Scope};

    use super::*;

    fn token() -> String {
        Key::new(&[1; 32]).unwrap().mint(&Scope::spark("a", "b"), Timestamp::MAX)
    }

    fn taken(uri: &str, headers: &[(&str, &str)]) -> (Parts, Presented) {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        let found = take(&mut head);
        (head, found)
    }

    #[test]
    fn a_token_in_the_address_is_taken_out_and_the_rest_stays_as_it_was() {
        for (uri, left) in [
            ("/a?sparks-token=T", "/a"),
            ("/a?sparks-token=T&b=1", "/a?b=1"),
            ("/a?b=%20&sparks-token=T&c", "/a?b=%20&c"),
            ("http://h/a?b=1&sparks-token=T", "http://h/a?b=1"),
            ("//evil.org/?sparks-token=T", "//evil.org/"),
        ] {
            let (head, found) = taken(uri, &[]);
            assert_eq!((head.uri.to_string().as_str(), found), (left, vec![(Carrier::Link, "T".into())]));
        }
        for uri in ["/a", "/a?", "/a?b=sparks-token", "/sparks-token=T", "/a?xsparks-token=T", "*"] {
            let (head, found) = taken(uri, &[]);
            assert_eq!((head.uri.to_string().as_str(), found), (uri, vec![]));
        }
    }

    #[test]
    fn a_bearer_token_of_ours_is_taken_whatever_it_opens_and_one_of_the_service_stays() {
        let (head, found) = taken("/", &[("authorization", &format!("bearer  {}", token()))]);
        assert_eq!((head.headers.len(), found), (0, vec![(Carrier::Header, token())]));
        for own in ["Bearer abc", "Bearer a.b.c", "Basic YTpi", "x"] {
            let (head, found) = taken("/", &[("authorization", own)]);
            assert_eq!((head.headers[AUTHORIZATION].to_str().unwrap(), found), (own, vec![]));
        }
        let both = [("authorization", "Basic YTpi"), ("authorization", &format!("Bearer {}", token()))];
        let (head, _) = taken("/", &both);
        let left: Vec<_> = head.headers.get_all(AUTHORIZATION).iter().collect();
        assert_eq!(left, ["Basic YTpi"]);
    }

    #[test]
    fn the_header_is_always_taken() {
        let (head, found) = taken("/", &[("sparks-token", "T"), ("Sparks-Token", "\u{e9}"), ("a", "b")]);
        assert_eq!((head.headers.len(), found), (1, vec![(Carrier::Header, "T".into())]));
    }

    #[test]
    fn the_cookie_is_taken_out_of_the_others() {
        for (cookie, left) in [
            ("sparks-token=T", None),
            ("a=1; sparks-token=T; b=2", Some("a=1; b=2")),
            ("sparks-token=T;a=1;;", Some("a=1")),
            ("a=1; sparks-token=T", Some("a=1")),
            ("a=1; sparks-token = T", Some("a=1")),
        ] {
            let (head, found) = taken("/", &[("cookie", cookie)]);
            assert_eq!(head.headers.get(COOKIE).map(|value| value.to_str().unwrap()), left, "{cookie}");
            assert_eq!(found, [(Carrier::Cookie, "T".into())]);
        }
        let (head, found) = taken("/", &[("cookie", "a=sparks-token;  xsparks-token=T")]);
        assert!(found.is_empty());
        assert_eq!(head.headers[COOKIE], "a=sparks-token; xsparks-token=T");
    }

    #[test]
    fn cookies_in_many_headers_become_one() {
        let (head, found) = taken("/", &[("cookie", "a=1"), ("cookie", "sparks-token=T"), ("cookie", "b=2")]);
        assert_eq!(found, [(Carrier::Cookie, "T".into())]);
        assert_eq!(head.headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn a_thousand_tokens_are_taken_out_and_few_are_looked_at() {
        let cookies = "sparks-token=T; ".repeat(1000);
        let (head, found) = taken("/", &[("cookie", &cookies)]);
        assert_eq!((head.headers.len(), found.len()), (0, MOST));
    }
}
