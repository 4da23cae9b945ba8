//! The custom resource definitions of Kubernetes, generated from the schemas.

use crate::api::schema::Kind;
use serde_json::{Value, json};

/// The definition of one kind, as `kubectl apply` takes it.
pub fn definition(kind: Kind) -> Value {
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
                        "spec": structural(kind.spec_schema()),
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            }],
        },
    })
}

fn columns(kind: Kind) -> Value {
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    match kind {
        Kind::BackupPolicy => json!([
            column("Ready", ".status.conditions[?(@.type==\"Ready\")].status"),
            column("Last success", ".status.lastSuccess.completionTime"),
            column("Next", ".status.nextRunTime"),
        ]),
        Kind::Backup => json!([column("Policy", ".spec.policy"), column("Phase", ".status.phase")]),
        Kind::Restore => json!([column("From", ".spec.from.policy"), column("Phase", ".status.phase")]),
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
