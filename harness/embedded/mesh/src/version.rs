//! Which version of the model a pod's program is: the tag of its image says it.

use serde_json::Value;

use crate::names::VERSION;

/// Version of a container of a pod; [`VERSION`] where the image has no tag.
pub(crate) fn of_container<'a>(pod: &'a Value, container: &str) -> &'a str {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|field| pod["spec"][field].as_array().into_iter().flatten());
    containers
        .filter(|found| found["name"] == container)
        .find_map(|found| found["image"].as_str()?.rsplit_once(':'))
        // What stands behind the colon of `registry:5000/image` is no tag.
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.contains('/'))
        .unwrap_or(VERSION)
}

#[cfg(test)]
mod tests {
    use super::of_container;
    use crate::names::VERSION;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("model.linkerd/proxy:model-2.21", "model-2.21")]
    #[case("model.linkerd/proxy", VERSION)]
    #[case("registry:5000/proxy", VERSION)]
    fn the_tag_is_the_version(#[case] image: &str, #[case] version: &str) {
        let pod = json!({"spec": {
            "containers": [{"name": "app", "image": "app:1"}],
            "initContainers": [{"name": "linkerd-proxy", "image": image}],
        }});
        assert_eq!(of_container(&pod, "linkerd-proxy"), version);
        assert_eq!(of_container(&pod, "nobody"), VERSION);
    }
}
