//! Questions that an API server answers at once: access reviews, and what must not be admitted.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use kube::core::DynamicObject;
use meshproof_spec::scenario::{AccessSubject, RejectedSubject};
use meshproof_verdict::question::Observation;

use crate::api::{ErrorClass, classify, describe};
use crate::problem::Problem;
use crate::scene::{REQUEST_TIME, Scene};
use crate::steps::objects::{Place, manifests};

/// Asks what a user may do.
pub(crate) async fn access(scene: &Scene, access: &AccessSubject) -> Result<Observation, Problem> {
    let cluster = scene.cluster(&access.r#in.0)?;
    let (resource, subresource) = match access.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (access.resource.as_str(), None),
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(access.user.clone()),
            groups: Some(groups(&access.user)),
            resource_attributes: Some(ResourceAttributes {
                group: Some(access.group.clone().unwrap_or_default()),
                namespace: access.namespace.clone(),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(access.verb.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client.clone());
    let what = format!("{}: review access of {}", cluster.name, access.user);
    let parameters = PostParams::default();
    let answer = scene
        .run
        .requests
        .send(&what, REQUEST_TIME, || reviews.create(&parameters, &review))
        .await?;
    let status = answer.status.unwrap_or_default();
    Ok(Observation::Access {
        allowed: status.allowed,
        reason: status.reason.unwrap_or_default(),
    })
}

/// Groups that the API server gives to a user by its name alone.
fn groups(user: &str) -> Vec<String> {
    let mut groups = vec!["system:authenticated".to_owned()];
    let account = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    if let Some((namespace, _)) = account {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    groups
}

/// Tries to have an object admitted, without keeping it, or to have the mesh uninstalled.
pub(super) async fn rejected(scene: &Scene, rejected: &RejectedSubject) -> Result<Observation, Problem> {
    if rejected.uninstall {
        return uninstall(scene, &rejected.r#in.0).await;
    }
    let mut last = None;
    for manifest in manifests(scene, rejected.manifest.as_ref(), rejected.file.as_deref())? {
        let place = Place::of_manifest(scene, &rejected.r#in.0, &manifest).await?;
        let api = place.api(scene)?;
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let object: DynamicObject = serde_json::from_value(manifest).map_err(|error| {
            crate::problem::harness("manifest-incomplete", error.to_string(), Some("complete the manifest"))
        })?;
        let what = place.what("create (dry run)");
        let answer = scene
            .run
            .requests
            .send(&what, REQUEST_TIME, || async {
                match api.create(&parameters, &object).await {
                    Ok(_) => Ok(Observation::Admission {
                        accepted: true,
                        status: 201,
                        message: String::new(),
                    }),
                    Err(error) => match (&error, classify(&error)) {
                        (_, ErrorClass::Transient) => Err(error),
                        (kube::Error::Api(status), _) => Ok(Observation::Admission {
                            accepted: false,
                            status: status.code,
                            message: describe(&error),
                        }),
                        _ => Err(error),
                    },
                }
            })
            .await?;
        let accepted = matches!(answer, Observation::Admission { accepted: true, .. });
        last = Some(answer);
        // One object that is refused is enough: together they are not admitted.
        if !accepted {
            break;
        }
    }
    last.ok_or_else(|| crate::problem::harness("manifest-incomplete", "there is no object", Some("write a manifest")))
}

/// Runs the mesh's own procedure, which has to refuse.
async fn uninstall(scene: &Scene, cluster: &str) -> Result<Observation, Problem> {
    match scene.testbed.driver.uninstall(scene.cluster(cluster)?).await {
        Ok(()) => Ok(Observation::Admission {
            accepted: true,
            status: 200,
            message: "it was uninstalled".to_owned(),
        }),
        Err(problem) if problem.code == "uninstall-refused" => Ok(Observation::Admission {
            accepted: false,
            status: 409,
            message: problem.message,
        }),
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn a_service_account_is_in_the_groups_of_its_namespace() {
        assert_eq!(groups("jane"), ["system:authenticated"]);
        assert_eq!(
            groups("system:serviceaccount:shop:store"),
            [
                "system:authenticated",
                "system:serviceaccounts",
                "system:serviceaccounts:shop"
            ]
        );
    }
}
