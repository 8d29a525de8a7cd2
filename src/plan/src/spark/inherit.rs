//! What a fork takes over from its source.

use sparks_api::{Inherited, Service, SparkSpec, Ssh};

/// The spec after inheritance: what `own` doesn't say is `base`'s.
#[must_use]
pub fn effective(own: &SparkSpec, base: Option<&Inherited>) -> Inherited {
    let base = base.cloned().unwrap_or_default();
    Inherited {
        disk: own.disk.clone().or(base.disk),
        resources: own.resources.clone().or(base.resources),
        volumes: own.volumes.clone().or(base.volumes),
        service: own.service.clone().or(base.service.map(private)),
        ssh: own.ssh.clone().or(base.ssh),
    }
}

/// Whoever forks a public service has not said that the fork may be seen by everybody.
fn private(service: Service) -> Service {
    Service { public: false, ..service }
}

/// What a fork in another namespace takes over: not who may enter, and no Secrets. Its people never let those of the
/// source in, names of Secrets mean others there, and the source's command must not get those.
pub(super) fn abroad(inherited: Inherited) -> Inherited {
    let nobody = |ssh: Ssh| Ssh { authorized_keys: None, authorized_keys_from: None, ..ssh };
    let nothing = |service: Service| Service { env_from: None, ..service };
    Inherited { ssh: inherited.ssh.map(nobody), service: inherited.service.map(nothing), ..inherited }
}

/// The spec with everything inherited written out, so that it means the same when the source is gone.
#[must_use]
pub fn saved_spec(own: &SparkSpec, effective: &Inherited) -> SparkSpec {
    SparkSpec {
        disk: effective.disk.clone(),
        resources: effective.resources.clone(),
        volumes: effective.volumes.clone(),
        service: effective.service.clone(),
        ssh: effective.ssh.clone(),
        ..own.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(port: i32) -> Option<Service> {
        Some(Service { port, ..Default::default() })
    }

    #[test]
    fn a_fork_keeps_what_it_says_and_takes_the_rest() {
        let base = Inherited { service: service(80), ..Default::default() };
        assert_eq!(effective(&SparkSpec::default(), Some(&base)).service, service(80));
        let own = SparkSpec { service: service(81), ..Default::default() };
        assert_eq!(effective(&own, Some(&base)).service, service(81));
    }

    #[test]
    fn the_fork_of_a_public_service_is_private_until_it_says_otherwise() {
        let public = Service { public: true, ..Default::default() };
        let base = Inherited { service: Some(public.clone()), ..Default::default() };
        let shown = |own: Option<Service>| {
            effective(&SparkSpec { service: own, ..Default::default() }, Some(&base))
                .service
                .map(|s| s.public)
        };
        assert_eq!((shown(None), shown(Some(public.clone()))), (Some(false), Some(true)));
    }

    #[test]
    fn a_saved_spec_needs_no_source() {
        let base = Inherited { service: service(80), ..Default::default() };
        let own = SparkSpec::default();
        assert_eq!(saved_spec(&own, &effective(&own, Some(&base))).service, service(80));
    }
}
