//! CPU and memory of pods.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};
use sparks_api::Resources;

use crate::quantity::nanos;

type List = BTreeMap<String, Quantity>;

/// Size of a pod that says nothing else.
const DEFAULT_REQUESTS: [(&str, &str); 2] = [("cpu", "5m"), ("memory", "16Mi")];
const DEFAULT_LIMITS: [(&str, &str); 2] = [("cpu", "2"), ("memory", "2Gi")];

/// What a pod gets: `wanted` over the defaults, always Burstable, because the quality-of-service class of a pod can't
/// change in a resize (<https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/>).
#[must_use]
pub fn requirements(wanted: Option<&Resources>) -> ResourceRequirements {
    let over = |defaults: [(&str, &str); 2], list: Option<&List>| -> List {
        let mut all: List = defaults.iter().map(|(k, v)| ((*k).to_owned(), Quantity((*v).into()))).collect();
        all.extend(list.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        all
    };
    let mut requests = over(DEFAULT_REQUESTS, wanted.and_then(|r| r.requests.as_ref()));
    let mut limits = over(DEFAULT_LIMITS, wanted.and_then(|r| r.limits.as_ref()));
    raise_limits(&requests, &mut limits);
    keep_burstable(&mut requests, &limits);
    ResourceRequirements { requests: Some(requests), limits: Some(limits), ..Default::default() }
}

/// A request above the default limit raises that limit; the API server refuses it otherwise.
fn raise_limits(requests: &List, limits: &mut List) {
    for (name, request) in requests {
        if let Some(limit) = limits.get_mut(name)
            && nanos(limit) < nanos(request)
        {
            *limit = request.clone();
        }
    }
}

/// Equal requests and limits would make the pod Guaranteed: ask for a thousandth of a CPU less.
fn keep_burstable(requests: &mut List, limits: &List) {
    let equal = |name: &str| requests.get(name).and_then(nanos) == limits.get(name).and_then(nanos);
    if equal("cpu") && equal("memory") {
        let milli = requests.get("cpu").and_then(nanos).unwrap_or_default() / 1_000_000 - 1;
        requests.insert("cpu".into(), Quantity(format!("{}m", milli.max(0))));
    }
}

/// Whether both mean the same amounts.
#[must_use]
pub fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    let amounts = |list: &Option<List>| -> BTreeMap<String, Option<i128>> {
        list.iter().flatten().map(|(name, quantity)| (name.clone(), nanos(quantity))).collect()
    };
    amounts(&a.requests) == amounts(&b.requests) && amounts(&a.limits) == amounts(&b.limits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn list(cpu: &str, memory: &str) -> Option<List> {
        Some(
            [("cpu".to_owned(), Quantity(cpu.into())), ("memory".to_owned(), Quantity(memory.into()))].into(),
        )
    }

    #[test]
    fn a_pod_is_burstable_even_when_requests_equal_limits() {
        let got =
            requirements(Some(&Resources { requests: list("1", "1Gi"), limits: list("1000m", "1024Mi") }));
        assert_eq!(got.requests.unwrap()["cpu"].0, "999m");
    }

    #[test]
    fn a_request_above_the_default_limit_raises_it() {
        let got = requirements(Some(&Resources { requests: list("4", "8Gi"), limits: None }));
        assert_eq!(got.limits.unwrap()["memory"].0, "8Gi");
    }

    #[test]
    fn amounts_are_compared_and_not_their_spelling() {
        let of = |cpu: &str| ResourceRequirements { limits: list(cpu, "1Gi"), ..Default::default() };
        assert!(same(&of("1"), &of("1000m")) && !same(&of("1"), &of("2")));
    }
}
