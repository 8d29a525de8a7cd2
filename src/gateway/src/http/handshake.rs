//! The handshake with a Spark for a websocket that came by HTTP/2.
//!
//! HTTP/1.1 has a key, and an answer that only a websocket's server gives (RFC 6455, section 1.3). HTTP/2 has neither
//! (RFC 8441, section 5), so the gateway makes the key and looks at the answer. Envoy, when it turns a websocket of HTTP/1.1
//! into one of HTTP/2, leaves the visitor's key in it and brings back what answers it; such a key is the Spark's to answer.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{
    HeaderMap, HeaderValue,
    header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY},
};
use ring::{
    digest::{Context, SHA1_FOR_LEGACY_USE_ONLY},
    rand,
};

/// Bytes of a key.
const KEY: usize = 16;
/// What the server appends to the key (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake.
pub struct Handshake {
    key: HeaderValue,
    is_clients: bool,
}

impl Handshake {
    /// For the websocket that these headers ask for.
    pub fn of(headers: &HeaderMap) -> Self {
        let clients = headers.get(SEC_WEBSOCKET_KEY).cloned();
        Self { is_clients: clients.is_some(), key: clients.unwrap_or_else(fresh) }
    }

    /// Shows the Spark the key.
    pub fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(SEC_WEBSOCKET_KEY, self.key.clone());
    }

    /// Whether the Spark's answer fits the key.
    pub fn is_answered(&self, headers: &HeaderMap) -> bool {
        let mut answers = headers.get_all(SEC_WEBSOCKET_ACCEPT).into_iter();
        answers.next().is_some_and(|answer| answer.as_bytes() == self.answer().as_bytes())
            && answers.next().is_none()
    }

    /// Leaves the client the answer only if the key was its own.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if !self.is_clients {
            headers.remove(SEC_WEBSOCKET_ACCEPT);
        }
    }

    fn answer(&self) -> String {
        let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        digest.update(self.key.as_bytes());
        digest.update(GUID);
        BASE64.encode(digest.finish())
    }
}

fn fresh() -> HeaderValue {
    let random = rand::generate::<[u8; KEY]>(&rand::SystemRandom::new());
    // It keeps answers of an earlier handshake from being taken for this one's, and guards no secret.
    let key = BASE64.encode(random.map_or([0; KEY], rand::Random::expose));
    // Base64 is always a header value.
    HeaderValue::from_str(&key).unwrap_or(HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    /// The example of RFC 6455, section 1.3.
    fn example() -> Handshake {
        Handshake::of(&headers("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ=="]))
    }

    #[test]
    fn only_what_fits_the_key_is_an_answer() {
        const RIGHT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let is_answered =
            |answers: &[&'static str]| example().is_answered(&headers("sec-websocket-accept", answers));
        assert!(is_answered(&[RIGHT]));
        assert!(!is_answered(&[]));
        assert!(!is_answered(&["dGhlIHNhbXBsZSBub25jZQ=="]));
        assert!(!is_answered(&[RIGHT, RIGHT]));
    }

    #[test]
    fn a_key_is_fresh_and_has_sixteen_bytes_and_its_answer_is_not_the_clients() {
        let (one, other) = (Handshake::of(&HeaderMap::new()), Handshake::of(&HeaderMap::new()));
        assert_ne!(one.key, other.key);
        assert_eq!(BASE64.decode(one.key.as_bytes()).unwrap().len(), KEY);
        let mut answer = headers("sec-websocket-accept", &["x"]);
        one.tell(&mut answer);
        assert!(answer.is_empty());
    }

    #[test]
    fn who_brings_a_key_has_its_answer() {
        let (mut asked, mut answer) = (HeaderMap::new(), headers("sec-websocket-accept", &["x"]));
        example().ask(&mut asked);
        example().tell(&mut answer);
        assert_eq!(
            (&asked["sec-websocket-key"], answer.len()),
            (&"dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap(), 1)
        );
    }
}
