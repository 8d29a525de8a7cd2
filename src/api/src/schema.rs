//! Hand-written pieces of schema.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A Kubernetes quantity: a string or a whole number.
pub fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Bytes, as a Kubernetes quantity such as 20Gi.",
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [
            {"rule": "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
             "message": "must be a positive quantity, for example 20Gi"}
        ]
    })
}

/// A positive duration in Go's notation.
pub fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [
            {"rule": "self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) > duration('0s')", "message": "must be a positive duration, for example 15m or 72h"}
        ]
    })
}

/// An optional [`duration`].
pub fn optional_duration(generator: &mut SchemaGenerator) -> Schema {
    duration(generator)
}

/// A map of resource names to quantities.
pub fn resource_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": 32, "x-kubernetes-validations": [
            {"rule": "isQuantity(self) && !quantity(self).isLessThan(quantity('0'))",
             "message": "must be a quantity, for example 100m or 256Mi"}]},
        "maxProperties": 8,
        "x-kubernetes-validations": [
            {"rule": "self.all(k, k in ['cpu', 'memory'])", "message": "only cpu and memory can be set"}
        ]
    })
}

/// The status of an object that its controller has not seen, which the API server fills in where there is none. No object has
/// this generation, so that kstatus doesn't take it for one that is as declared.
pub fn unseen() -> serde_json::Value {
    serde_json::json!({"observedGeneration": -1})
}

/// Any JSON object, kept as it is.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
