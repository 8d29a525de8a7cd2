//! The Service by a Spark's own name.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use sparks_api::{Reason, Spark, labels};

use crate::{
    known::{Known, owned_by},
    progress::Blocked,
};

/// Port of a Spark that says nothing else.
pub(super) const DEFAULT_PORT: i32 = 8080;

/// A headless Service: the name resolves to the pod itself, and thousands of Sparks cost kube-proxy nothing.
#[must_use]
pub fn service(spark: &Known<Spark>, port: i32) -> Service {
    let label = (labels::SPARK.to_owned(), spark.name().to_owned());
    let ports = vec![ServicePort {
        name: Some("http".into()),
        port,
        target_port: Some(IntOrString::Int(port)),
        ..Default::default()
    }];
    Service {
        metadata: ObjectMeta {
            name: Some(spark.name().into()),
            namespace: Some(spark.namespace().into()),
            labels: Some([label.clone()].into()),
            owner_references: Some(vec![owned_by(spark)]),
            ..Default::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            selector: Some([label].into()),
            ports: Some(ports),
            ..Default::default()
        }),
        status: None,
    }
}

/// The Service's name belongs to somebody else.
#[must_use]
pub fn name_taken(name: &str) -> Blocked {
    let message =
        format!("a Service {name} exists and is not this Spark's: delete it, or choose another name");
    Blocked::new(Reason::NameTaken, message)
}
