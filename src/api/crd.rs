//! The custom resource definitions of Kubernetes, generated from the schemas.

use crate::api::schema::Kind;
use serde_json::{Value, json};

/// The definition of one kind, as `kubectl apply` takes it.
pub fn definition(kind: Kind) -> Value {
    let mut definition = plain(kind);
    let schema = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema");
    if let (Kind::BackupPolicy, Some(Value::Object(schema))) = (kind, schema) {
        schema.insert("x-kubernetes-validations".to_owned(), name_rules());
    }
    definition
}

fn plain(kind: Kind) -> Value {
    let singular = kind.as_str().to_lowercase();
    let plural =
        if kind == Kind::BackupPolicy { "backuppolicies".to_owned() } else { format!("{singular}s") };
    let short = match kind {
        Kind::BackupPolicy => "bsp",
        Kind::Backup => "bsb",
        Kind::Restore => "bsr",
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.backstay.dev")},
        "spec": {
            "group": "backstay.dev",
            "names": {
                "kind": kind.as_str(),
                "listKind": format!("{}List", kind.as_str()),
                "plural": plural,
                "singular": singular,
                "shortNames": [short],
                "categories": ["backstay"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(kind),
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec(kind),
                        "status": status(),
                    },
                }},
            }],
        },
    })
}

/// The specification, with the rules that are told at once; all others are told in the status.
fn spec(kind: Kind) -> Value {
    let mut spec = structural(kind.spec_schema());
    for (pointer, rule, message) in rules(kind) {
        if let Some(Value::Object(schema)) = spec.pointer_mut(pointer) {
            let rules = schema.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
            if let Value::Array(rules) = rules {
                rules.push(json!({"rule": rule, "message": message}));
            }
        }
    }
    if kind == Kind::BackupPolicy {
        // The controller's own defaults may say it.
        for pointer in ["", "/properties/destination"] {
            if let Some(Value::Object(schema)) = spec.pointer_mut(pointer) {
                schema.remove("required");
            }
        }
    }
    spec
}

/// What must hold, below a part of a specification, and what is told when it does not.
fn rules(kind: Kind) -> &'static [(&'static str, &'static str, &'static str)] {
    match kind {
        Kind::BackupPolicy => &[
            (
                "",
                "has(self.mongodb) || (has(self.volumes) && size(self.volumes) > 0)",
                "the policy backs up nothing; give mongodb, volumes or both",
            ),
            (
                "/properties/mongodb",
                "has(self.uri) != has(self.uriFrom)",
                "needs uri (without a password) or uriFrom (a Secret), and not both",
            ),
            (
                "/properties/volumes/items",
                "has(self.claimName) && !has(self.volumeName) && !has(self.hostPath)",
                "on Kubernetes a volume is a claim: write claimName, and neither volumeName nor hostPath",
            ),
        ],
        Kind::Backup => &[
            ("", "self.policy == oldSelf.policy", "a Backup stays with its policy; make another one"),
            (
                "",
                "!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)",
                "a run that was told to stop stops; make another Backup",
            ),
        ],
        Kind::Restore => &[
            ("", "self == oldSelf", "a Restore is carried out once, as it was made; make another one"),
            (
                "/properties/from",
                "has(self.policy) || has(self.location)",
                "needs policy (one of this namespace), or location and instance",
            ),
        ],
    }
}

/// Names of policies are parts of names of runs and snapshots.
fn name_rules() -> Value {
    json!([{
        "rule": "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$')",
        "message": "the name of a policy has at most 50 characters: lower case letters, digits and inner dashes",
    }])
}

/// The conditions in the form that everybody knows; the rest as the controller writes it.
fn status() -> Value {
    let text = |most: u32| json!({"type": "string", "maxLength": most});
    let condition = json!({
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": text(316),
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": text(1024),
            "message": text(32768),
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        },
    });
    json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"conditions": {
            "type": "array", "maxItems": 16, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
            "items": condition,
        }},
    })
}

fn columns(kind: Kind) -> Value {
    let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let wide =
        |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path, "priority": 1});
    match kind {
        Kind::BackupPolicy => json!([
            column("Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status"),
            column("Fresh", "string", ".status.conditions[?(@.type==\"Fresh\")].status"),
            column("Last success", "date", ".status.lastSuccess.completionTime"),
            // A date that is to come would be printed as invalid.
            column("Next", "string", ".status.nextRunTime"),
            column("Bytes", "integer", ".status.lastSuccess.sourceBytes"),
            wide("Message", ".status.message"),
        ]),
        Kind::Backup => json!([
            column("Policy", "string", ".spec.policy"),
            column("Phase", "string", ".status.phase"),
            column("Started", "date", ".status.startTime"),
            column("Ended", "date", ".status.completionTime"),
            wide("Message", ".status.message"),
        ]),
        Kind::Restore => json!([
            column("From", "string", ".spec.from.policy"),
            column("Snapshot", "string", ".status.snapshot"),
            column("Phase", "string", ".status.phase"),
            column("Started", "date", ".status.startTime"),
            column("Ended", "date", ".status.completionTime"),
            wide("Message", ".status.message"),
        ]),
    }
}

/// Without what a definition must not say: it prunes unknown fields by itself, and knows no words of ours.
fn structural(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, value)| {
                *name != "x-values" && !(*name == "additionalProperties" && **value == json!(false))
            });
            kept.map(|(name, value)| (name.clone(), structural(value))).collect()
        }
        Value::Array(items) => items.iter().map(structural).collect(),
        other => other.clone(),
    }
}
