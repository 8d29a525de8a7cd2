//! User certificates: OpenSSH's PROTOCOL.certkeys.

use std::net::IpAddr;

use super::{AddressPatterns, Denied, Permissions};
use crate::transport::{
    Certificate, PublicKey,
    ssh_key::{Algorithm, certificate::CertType},
};

/// Principals of an installation-wide authority's certificate that let it into this Spark as `user`: the Spark, all of its
/// namespace, or all, each for every user or, with `USER+` before it, for one. The user's name alone is none: whoever is
/// root somewhere would be it everywhere.
#[must_use]
pub fn spark_principals(name: &str, namespace: &str, user: &str) -> Vec<String> {
    let places = [format!("{name}.{namespace}"), format!("*.{namespace}"), "*".to_owned()];
    places.iter().map(|place| format!("{user}+{place}")).chain(places.iter().cloned()).collect()
}

/// What a login with a certificate may do. Its signature is verified here too. Any one of `principals` must be among the
/// certificate's; one that names none is refused, as sshd does.
///
/// # Errors
/// [`Denied`] says why it is not good.
pub fn check_certificate(
    certificate: &Certificate,
    authorities: &[PublicKey],
    principals: &[&str],
    now: u64,
    peer: IpAddr,
) -> Result<Permissions, Denied> {
    if certificate.cert_type() != CertType::User {
        return Err(Denied::Kind);
    }
    if !authorities.iter().any(|authority| authority.key_data() == certificate.signature_key()) {
        return Err(Denied::Authority);
    }
    // As sshd's CASignatureAlgorithms: RSA with SHA-1 is none.
    if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
        return Err(Denied::WeakSignature);
    }
    certificate.verify_signature().map_err(|_| Denied::Signature)?;
    if now < certificate.valid_after() {
        return Err(Denied::NotYetValid);
    }
    if now >= certificate.valid_before() {
        return Err(Denied::Expired);
    }
    if !certificate.valid_principals().iter().any(|own| principals.contains(&own.as_str())) {
        return Err(Denied::Principal);
    }
    permissions(certificate, peer)
}

fn permissions(certificate: &Certificate, peer: IpAddr) -> Result<Permissions, Denied> {
    let has = |name: &str| certificate.extensions().contains_key(name);
    let mut permissions = Permissions {
        pty: has("permit-pty"),
        port_forwarding: has("permit-port-forwarding"),
        agent_forwarding: has("permit-agent-forwarding"),
        x11: has("permit-X11-forwarding"),
        user_rc: has("permit-user-rc"),
        expires: Some(certificate.valid_before()).filter(|&at| at != u64::MAX),
        ..Permissions::none()
    };
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "force-command" => permissions.force_command = Some(value.clone()),
            "source-address" => {
                let networks = AddressPatterns::parse(value).filter(AddressPatterns::are_networks);
                if !networks.ok_or(Denied::Malformed("source-address"))?.matches(peer) {
                    return Err(Denied::Address);
                }
            }
            other => return Err(Denied::CriticalOption(other.to_owned())),
        }
    }
    Ok(permissions)
}
