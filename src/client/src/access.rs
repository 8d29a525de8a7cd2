//! Tokens of private Sparks: who has one of a namespace's key reaches the service through the gateway.
//!
//! A token is a JSON Web Token (RFC 7519) with HMAC-SHA256, so that any language mints one: `aud` is `sparks`, `sub` is
//! `NAMESPACE/NAME` or `NAMESPACE/*`, and `exp` is there. The key is in the Secret [`SECRET`] of the namespace; whoever
//! may read that Secret may let in others, and deleting it ends all tokens.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use ring::{hmac, rand};
use serde::{Deserialize, Serialize};

use crate::error::Subject;
use crate::{Error, Result, Sparks};

/// Name of the Secret that holds a namespace's key.
pub const SECRET: &str = "sparks-access";
/// Key in that Secret's data: [`KEY_BYTES`] or more random bytes, used as they are.
pub const SECRET_KEY: &str = "key";
/// Bytes of a key that is made here, and fewest of any key (RFC 7518, section 3.2).
pub const KEY_BYTES: usize = 32;
/// The `aud` of every token.
pub const AUDIENCE: &str = "sparks";
/// Path on a Spark's own host at which the gateway carries SSH to it, for who has a token,
pub const SSH_PATH: &str = "/.sparks/ssh";
/// and what the connection is upgraded to there.
pub const SSH_PROTOCOL: &str = "sparks-ssh";
/// More than any token has.
pub const MAX_TOKEN_BYTES: usize = 1024;

/// More than any key has; a Secret could hold a megabyte.
const MAX_KEY_BYTES: usize = 4096;
const ALGORITHM: &str = "HS256";
/// `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// What a token opens: a Spark, or all of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The namespace.
    pub namespace: String,
    /// The Spark; all of the namespace when empty.
    pub name: Option<String>,
}

impl Scope {
    /// One Spark.
    #[must_use]
    pub fn spark(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: Some(name.into()) }
    }

    /// All Sparks of a namespace.
    #[must_use]
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: None }
    }

    /// Whether it opens this Spark.
    #[must_use]
    pub fn covers(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name.as_deref().is_none_or(|own| own == name)
    }

    fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let name = (name != "*").then(|| name.to_owned());
        (!namespace.is_empty() && name.as_deref() != Some(""))
            .then(|| Self { namespace: namespace.into(), name })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name.as_deref().unwrap_or("*"))
    }
}

/// Why a token doesn't open anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another key signed it, or none.
    #[error("the token is not valid")]
    Forged,
    /// It is for another Spark.
    #[error("the token is for another Spark")]
    Foreign,
    /// It was valid.
    #[error("the token has expired")]
    Expired,
}

/// Why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The Secret has no such entry.
    #[error("it has no entry \"{SECRET_KEY}\"")]
    Missing,
    /// The key is too short to be safe, or too long to be a key.
    #[error("its entry \"{SECRET_KEY}\" has {0} bytes, and must have at least {KEY_BYTES}")]
    Length(usize),
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: &'a str,
    /// Extensions that a reader must know (RFC 7515, section 4.1.11); this one knows none.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Serialize)]
struct Claims {
    aud: Audience,
    sub: String,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn is_ours(&self) -> bool {
        match self {
            Self::One(one) => one == AUDIENCE,
            Self::Many(all) => all.iter().any(|one| one == AUDIENCE),
        }
    }
}

/// A text that looks like one of our tokens. What it says counts only after [`Key::verify`].
pub struct Token<'a> {
    signed: &'a str,
    tag: Vec<u8>,
    scope: Scope,
    expires: i64,
    begins: Option<i64>,
}

impl<'a> Token<'a> {
    /// Reads a token; nothing when the text is none of ours.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (signed, tag) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        if !claims.aud.is_ours() || !is_supported(header) {
            return None;
        }
        let scope = Scope::parse(&claims.sub)?;
        Some(Self { signed, tag: BASE64.decode(tag).ok()?, scope, expires: claims.exp, begins: claims.nbf })
    }

    /// What it says it opens.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// When it says it expires.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        Timestamp::from_second(self.expires).unwrap_or(Timestamp::MIN)
    }
}

fn is_supported(header: &str) -> bool {
    if header == HEADER {
        return true;
    }
    let Ok(decoded) = BASE64.decode(header) else { return false };
    serde_json::from_slice::<Header<'_>>(&decoded)
        .is_ok_and(|header| header.alg == ALGORITHM && header.crit.is_none())
}

/// The key of a namespace.
pub struct Key(hmac::Key);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Takes these bytes as a key.
    ///
    /// # Errors
    /// When there are too few.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        match bytes.len() {
            KEY_BYTES..=MAX_KEY_BYTES => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))),
            other => Err(KeyError::Length(other)),
        }
    }

    /// The key that a Secret holds.
    ///
    /// # Errors
    /// When it holds none.
    pub fn of(secret: &Secret) -> Result<Self, KeyError> {
        let data = secret.data.as_ref().and_then(|data| data.get(SECRET_KEY));
        Self::new(&data.ok_or(KeyError::Missing)?.0)
    }

    /// A token that opens `scope` until `expires`.
    #[must_use]
    pub fn mint(&self, scope: &Scope, expires: Timestamp) -> String {
        let claims = Claims {
            aud: Audience::One(AUDIENCE.into()),
            sub: scope.to_string(),
            exp: expires.as_second(),
            nbf: None,
        };
        // Strings and a number are always JSON.
        let claims = serde_json::to_vec(&claims).unwrap_or_default();
        let mut token = format!("{HEADER}.{}", BASE64.encode(claims));
        let tag = hmac::sign(&self.0, token.as_bytes());
        token.push('.');
        BASE64.encode_string(tag, &mut token);
        token
    }

    /// Checks that this key signed the token, in constant time, and that it is valid now.
    ///
    /// # Errors
    /// [`Refused::Forged`] and, only for a token that this key signed, [`Refused::Expired`].
    pub fn verify(&self, token: &Token<'_>, now: Timestamp) -> Result<(), Refused> {
        hmac::verify(&self.0, token.signed.as_bytes(), &token.tag).map_err(|_| Refused::Forged)?;
        let now = now.as_second();
        let is_valid = now < token.expires && token.begins.is_none_or(|begins| begins <= now);
        if is_valid { Ok(()) } else { Err(Refused::Expired) }
    }

    /// Checks a token that is to open this Spark. Gives the time at which it expires.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open(
        &self,
        token: &str,
        namespace: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Timestamp, Refused> {
        let token = Token::parse(token).ok_or(Refused::Forged)?;
        if !token.scope.covers(namespace, name) {
            return Err(Refused::Foreign);
        }
        self.verify(&token, now)?;
        Ok(token.expires())
    }
}

impl Sparks {
    /// The key of this namespace, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::AccessKey`] when the Secret holds no key, and what the API server refuses.
    pub async fn access_key(&self) -> Result<Key> {
        let api = self.api::<Secret>();
        let failed = |error| self.access_subject().error(error);
        let secret = match api.get_opt(SECRET).await.map_err(failed)? {
            Some(secret) => secret,
            None => match api.create(&PostParams::default(), &new_secret()?).await {
                Ok(secret) => secret,
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    api.get(SECRET).await.map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            },
        };
        Key::of(&secret).map_err(|why| Error::AccessKey { namespace: self.namespace().into(), why })
    }

    fn access_subject(&self) -> Subject {
        Subject { kind: "secret", name: SECRET.into(), namespace: self.namespace().into() }
    }
}

fn new_secret() -> Result<Secret> {
    let bytes = rand::generate::<[u8; KEY_BYTES]>(&rand::SystemRandom::new());
    let bytes = bytes.map_err(|_| Error::Io(std::io::Error::other("the system gives no random numbers")))?;
    let data = [(SECRET_KEY.into(), ByteString(bytes.expose().to_vec()))];
    let metadata = ObjectMeta { name: Some(SECRET.into()), ..Default::default() };
    Ok(Secret { metadata, data: Some(data.into()), ..Default::default() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(&[7; KEY_BYTES]).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn signed(header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let tag = hmac::sign(&key().0, signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(tag))
    }

    const CLAIMS: &str = r#"{"aud":"sparks","sub":"team-a/api","exp":100}"#;

    #[test]
    fn a_token_opens_its_spark_until_it_expires() {
        let token = key().mint(&Scope::spark("team-a", "api"), at(100));
        assert!(token.len() < MAX_TOKEN_BYTES);
        assert_eq!(key().open(&token, "team-a", "api", at(99)), Ok(at(100)));
        assert_eq!(key().open(&token, "team-a", "api", at(100)), Err(Refused::Expired));
        assert_eq!(key().open(&token, "team-a", "other", at(99)), Err(Refused::Foreign));
        assert_eq!(key().open(&token, "team-b", "api", at(99)), Err(Refused::Foreign));
    }

    #[test]
    fn a_token_of_a_namespace_opens_all_its_sparks_and_no_others() {
        let token = key().mint(&Scope::namespace("team-a"), at(100));
        assert!(key().open(&token, "team-a", "api", at(1)).is_ok());
        assert_eq!(key().open(&token, "team-b", "api", at(1)), Err(Refused::Foreign));
    }

    #[test]
    fn what_another_key_signed_is_refused_before_its_expiry_is_told() {
        let other = Key::new(&[8; KEY_BYTES]).unwrap();
        let token = other.mint(&Scope::spark("team-a", "api"), at(1));
        assert_eq!(key().open(&token, "team-a", "api", at(99)), Err(Refused::Forged));
    }

    #[test]
    fn a_changed_token_is_refused() {
        let token = key().mint(&Scope::spark("team-a", "api"), at(100));
        for index in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(key().open(&changed, "team-a", "api", at(1)).is_err(), "byte {index}");
        }
    }

    #[test]
    fn tokens_of_other_libraries_are_accepted_if_the_algorithm_is_hs256() {
        assert!(
            key()
                .open(&signed(r#"{"typ":"JWT","alg":"HS256","kid":"1"}"#, CLAIMS), "team-a", "api", at(1))
                .is_ok()
        );
        let many = r#"{"iat":5,"aud":["x","sparks"],"sub":"team-a/*","exp":100,"nbf":10}"#;
        let many = signed(r#"{"alg":"HS256"}"#, many);
        assert!(key().open(&many, "team-a", "api", at(10)).is_ok());
        assert_eq!(key().open(&many, "team-a", "api", at(9)), Err(Refused::Expired));
        for header in
            [r#"{"alg":"none"}"#, r#"{"alg":"HS384"}"#, r#"{"alg":"HS256","crit":["b64"]}"#, "{}", "x"]
        {
            assert_eq!(
                key().open(&signed(header, CLAIMS), "team-a", "api", at(1)),
                Err(Refused::Forged),
                "{header}"
            );
        }
    }

    #[test]
    fn what_is_no_token_of_ours_is_told_apart_without_a_key() {
        let bare = CLAIMS.replace("sparks", "else");
        let without_end = r#"{"aud":"sparks","sub":"team-a/api"}"#;
        let long = format!("{}{}", signed(r#"{"alg":"HS256"}"#, CLAIMS), "A".repeat(MAX_TOKEN_BYTES));
        let header = r#"{"alg":"HS256"}"#;
        for text in ["", ".", "..", "a.b.c", &signed(header, &bare), &signed(header, without_end), &long] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
        for subject in ["team-a", "/api", "team-a/", ""] {
            let claims = CLAIMS.replace("team-a/api", subject);
            assert!(Token::parse(&signed(header, &claims)).is_none(), "{subject}");
        }
        assert!(Token::parse(&signed(header, CLAIMS)).is_some());
    }

    #[test]
    fn a_short_key_is_no_key() {
        assert_eq!(Key::new(&[0; KEY_BYTES - 1]).unwrap_err(), KeyError::Length(KEY_BYTES - 1));
        assert_eq!(Key::of(&Secret::default()).unwrap_err(), KeyError::Missing);
        let made = new_secret().unwrap();
        assert!(Key::of(&made).is_ok());
        assert_ne!(made.data, new_secret().unwrap().data);
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", key()), "Key(…)");
    }
}
