//! What an upgrade applies.

use serde_json::{Value, json};

use crate::defect::{Defect, Defects};
use crate::names::{GATEWAY, NEXT_VERSION, VERSION};

/// Manifests of [`VERSION`] as `version` has them.
#[must_use]
pub fn of_version(version: &str, defects: &Defects, manifests: Vec<Value>) -> Vec<Value> {
    if version == NEXT_VERSION {
        next_version(defects, manifests)
    } else {
        manifests
    }
}

/// The manifests of the version that an upgrade goes to, made from those of [`VERSION`].
///
/// [`NEXT_VERSION`] does what the version before it does: what changes are the image tags, labels and annotations that tell
/// it, so that every Deployment is rolled out anew, as an upgrade of the real mesh does. Names, ports and selectors stay.
fn next_version(defects: &Defects, mut manifests: Vec<Value>) -> Vec<Value> {
    for manifest in &mut manifests {
        renew(manifest);
        if defects.has(Defect::UpgradeDropsTraffic)
            && manifest["kind"] == "Deployment"
            && manifest["metadata"]["name"] == GATEWAY
        {
            manifest["spec"]["strategy"] = json!({"type": "Recreate"});
        }
    }
    manifests
}

fn renew(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(VERSION) => *text = text.replace(VERSION, NEXT_VERSION),
        Value::Array(items) => items.iter_mut().for_each(renew),
        Value::Object(fields) => fields.values_mut().for_each(renew),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::next_version;
    use crate::defect::{Defect, Defects};
    use crate::install::{
        ControlPlaneValues, ControllerValues, MulticlusterValues, Trust, control_plane, multicluster,
    };
    use crate::names::{NEXT_VERSION, VERSION};

    fn manifests() -> Vec<Value> {
        let trust = Trust {
            anchors: "anchors".to_owned(),
            issuer_certificate: "certificate".to_owned(),
            issuer_key: "key".to_owned(),
        };
        let values = MulticlusterValues {
            controllers: vec![ControllerValues::new("east")],
            ..MulticlusterValues::default()
        };
        let mut all = control_plane(&ControlPlaneValues::new(trust));
        all.extend(multicluster(&Defects::default(), &values));
        all
    }

    fn identity(manifest: &Value) -> (&str, Option<&str>, Option<&str>) {
        let text = |field: &str| manifest["metadata"][field].as_str();
        (manifest["kind"].as_str().unwrap(), text("namespace"), text("name"))
    }

    #[test]
    fn the_version_changes_everywhere_and_no_object_gets_another_name() {
        let (before, after) = (manifests(), next_version(&Defects::default(), manifests()));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(identity(before), identity(after));
            assert!(!after.to_string().contains(VERSION), "{after}");
            let deployment = after["kind"] == "Deployment";
            // Every pod template differs, so that every Deployment is rolled out.
            assert_eq!(
                before["spec"]["template"] != after["spec"]["template"],
                deployment,
                "{after}"
            );
        }
        assert!(after.iter().any(|manifest| manifest.to_string().contains(NEXT_VERSION)));
    }

    #[test]
    fn the_gateway_is_replaced_without_a_gap_unless_a_defect_says_otherwise() {
        let strategy = |defects: &Defects| {
            let after = next_version(defects, manifests());
            let gateway = after
                .iter()
                .find(|manifest| identity(manifest).2 == Some("linkerd-gateway") && manifest["kind"] == "Deployment");
            gateway.unwrap()["spec"]["strategy"].clone()
        };
        assert_eq!(strategy(&Defects::default()), Value::Null);
        assert_eq!(
            strategy(&[Defect::UpgradeDropsTraffic].into_iter().collect())["type"],
            "Recreate"
        );
    }
}
