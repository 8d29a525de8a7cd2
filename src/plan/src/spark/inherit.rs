//! What a fork takes over from its source.

use sparks_api::{Inherited, SparkSpec};

/// The spec after inheritance: what `own` doesn't say is `base`'s.
#[must_use]
pub fn effective(own: &SparkSpec, base: Option<&Inherited>) -> Inherited {
    let base = base.cloned().unwrap_or_default();
    Inherited {
        disk: own.disk.clone().or(base.disk),
        resources: own.resources.clone().or(base.resources),
        volumes: own.volumes.clone().or(base.volumes),
        service: own.service.clone().or(base.service),
    }
}

/// The spec with everything inherited written out, so that it means the same when the source is gone.
#[must_use]
pub fn saved_spec(own: &SparkSpec, effective: &Inherited) -> SparkSpec {
    SparkSpec {
        disk: effective.disk.clone(),
        resources: effective.resources.clone(),
        volumes: effective.volumes.clone(),
        service: effective.service.clone(),
        ..own.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparks_api::Service;

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
    fn a_saved_spec_needs_no_source() {
        let base = Inherited { service: service(80), ..Default::default() };
        let own = SparkSpec::default();
        assert_eq!(saved_spec(&own, &effective(&own, Some(&base))).service, service(80));
    }
}
