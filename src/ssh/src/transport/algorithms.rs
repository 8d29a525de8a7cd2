//! Which algorithms there are, in which order, and how long a key lasts.

use std::{borrow::Cow, time::Duration};

use russh::{Limits, MethodKind, MethodSet, Preferred, SshId, cipher, client, compression, kex, mac, server};

use super::{Algorithm, Certificate, EcdsaCurve, HashAlg, ID, PrivateKey};

/// How many bytes a key may protect at a server: RFC 4253, section 9.
const SERVER_REKEYS_AFTER: usize = 1 << 30;
/// The same at a client, which leaves it to the server to be the first: OpenSSH's own bound for AES, 2^32 blocks.
const CLIENT_REKEYS_AFTER: usize = 64 << 30;

/// A rejected login takes at least this long, so that its time doesn't tell whether there is such a user. Short,
/// because an agent with many keys waits for each.
const REJECTION: Duration = Duration::from_millis(50);

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// Host keys, and the users' keys that a server tells its clients to be fine. No SHA-1.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
];

/// The server's order counts, where the client is near ([`super::server`]): OpenSSH before 10 prefers
/// chacha20-poly1305 and AES-CTR, both far slower than AES-GCM where the processor has instructions for AES.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
    cipher::CHACHA20_POLY1305,
];
const CIPHERS_WITHOUT_AES_INSTRUCTIONS: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];

/// Encrypt-then-MAC first. The others are for libssh2 of before 1.11, which curl has in many distributions.
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

/// For clients that ask for it (`ssh -C`), and from the login on, as sshd.
const COMPRESSION: &[compression::Name] = &[compression::NONE, compression::ZLIB_LEGACY];

/// A server for public keys and certificates, with a host certificate for clients that ask for one (its key has to be
/// among `keys`). Without a time limit of its own: that is [`guarded`]'s.
pub fn server(keys: Vec<PrivateKey>, certificates: Vec<Certificate>) -> server::Config {
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed(ID)),
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        auth_rejection_time: REJECTION,
        // OpenSSH's first attempt is the method "none", to be told which ones there are.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        certificates,
        limits: limits(SERVER_REKEYS_AFTER),
        preferred: Preferred { compression: Cow::Borrowed(COMPRESSION), ..preferred() },
        inactivity_timeout: None,
        keepalive_interval: None,
        // All that is left for a handle's messages once a session is taken over.
        event_buffer_size: 1,
        ..server::Config::default()
    }
}

/// A client that leaves it to the server to begin key exchanges.
pub fn client() -> client::Config {
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed(ID)),
        limits: limits(CLIENT_REKEYS_AFTER),
        preferred: preferred(),
        inactivity_timeout: None,
        keepalive_interval: None,
        ..client::Config::default()
    }
}

/// By volume only, as OpenSSH does by default: an idle connection stays idle.
fn limits(bytes: usize) -> Limits {
    Limits { rekey_write_limit: bytes, rekey_read_limit: bytes, rekey_time_limit: Duration::MAX }
}

fn preferred() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(KEYS),
        cipher: Cow::Borrowed(if has_aes_instructions() {
            CIPHERS
        } else {
            CIPHERS_WITHOUT_AES_INSTRUCTIONS
        }),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}
