//! Whether a request may reach a Spark.

use http::{HeaderMap, Method, header::ORIGIN, request::Parts};
use jiff::Timestamp;
use spark_client::access::{Refused, Token};
use sparks_api::Spark;

use super::{
    credentials::{Carrier, Presented},
    failure::Failure,
    host::{Target, without_port},
    keys::{Keys, Unavailable},
};

/// By what right a request comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// The Spark is open to everybody.
    Public,
    /// A token that came in this way.
    Token {
        /// How it came.
        carrier: Carrier,
        /// The token.
        token: String,
        /// When it expires.
        expires: Timestamp,
    },
}

/// Finds the right by which a request may come. A Spark that doesn't exist is treated as one that is private, in words and in
/// time, until somebody shows a token of its namespace.
pub async fn admit(
    keys: &dyn Keys,
    target: &Target,
    spark: Option<&Spark>,
    presented: Presented,
    is_foreign: bool,
) -> Result<Right, Failure> {
    if spark.and_then(|spark| spark.status.as_ref()).is_some_and(|status| status.public) {
        return Ok(Right::Public);
    }
    let mut refusal = Failure::SignIn(target.clone());
    for (carrier, text) in presented {
        let Some(token) = Token::parse(&text) else { continue };
        if carrier == Carrier::Cookie && is_foreign || !token.scope().covers(&target.namespace, &target.name)
        {
            continue;
        }
        match verify(keys, &target.namespace, &token).await.map_err(|_| Failure::CannotCheck)? {
            Ok(()) => {
                let expires = token.expires();
                return Ok(Right::Token { carrier, expires, token: text });
            }
            // Told only to who had a valid token once.
            Err(Refused::Expired) => refusal = Failure::Expired(target.clone()),
            Err(_) => {}
        }
    }
    Err(refusal)
}

/// Whether the key of a namespace signed a token that has not expired. A key that did not may have been replaced.
pub async fn verify(
    keys: &dyn Keys,
    namespace: &str,
    token: &Token<'_>,
) -> Result<Result<(), Refused>, Unavailable> {
    let Some(key) = keys.key(namespace).await? else { return Ok(Err(Refused::Forged)) };
    match key.verify(token, Timestamp::now()) {
        Err(Refused::Forged) => {}
        verdict => return Ok(verdict),
    }
    let renewed = keys.key_after(namespace, &key).await?;
    Ok(renewed.map_or(Err(Refused::Forged), |key| key.verify(token, Timestamp::now())))
}

/// Whether a page of another host had a browser send this. Its cookie doesn't count then: all Sparks are the same *site* to a
/// browser, so that `SameSite` alone would let the page of one act on another.
pub fn is_foreign(head: &Parts, host: &str) -> bool {
    let header = |name: &str| text(&head.headers, name);
    if let Some(origin) = head.headers.get(ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        let same = origin.and_then(without_port).zip(without_port(host));
        return same.is_none_or(|(origin, host)| !origin.eq_ignore_ascii_case(host));
    }
    let is_elsewhere = matches!(header("sec-fetch-site"), Some("cross-site" | "same-site"));
    let is_link = header("sec-fetch-mode") == Some("navigate") && head.method == Method::GET;
    is_elsewhere && !is_link
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;

    use super::*;

    fn foreign(method: Method, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_foreign(&request.body(()).unwrap().into_parts().0, "api--team.example.com:8080")
    }

    #[test]
    fn a_page_of_another_spark_is_foreign_though_a_browser_calls_it_the_same_site() {
        assert!(foreign(Method::POST, &[("origin", "http://evil--x.example.com:8080")]));
        assert!(foreign(Method::GET, &[("origin", "null")]));
        assert!(foreign(Method::GET, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]));
        assert!(foreign(Method::POST, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
    }

    #[test]
    fn its_own_pages_links_and_programs_are_not_foreign() {
        assert!(!foreign(Method::POST, &[("origin", "https://API--team.example.com")]));
        assert!(!foreign(Method::POST, &[("origin", "http://api--team.example.com:8080")]));
        assert!(!foreign(Method::GET, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        assert!(!foreign(Method::GET, &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")]));
        assert!(!foreign(Method::DELETE, &[]));
    }
}
