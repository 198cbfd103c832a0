//! Which of some rights the credentials of a client lack.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use meshproof_engine::plan::permission::Permission;

/// Reviews at a time.
const AT_A_TIME: usize = 16;

/// Those of the permissions that the client's user does not have, in the order given. Everybody may ask this about
/// themselves.
///
/// # Errors
/// When the API does not answer.
pub(crate) async fn refused(client: &Client, wanted: Vec<Permission>) -> Result<Vec<Permission>, kube::Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answers: Vec<Option<Permission>> = stream::iter(wanted)
        .map(|permission| {
            let reviews = reviews.clone();
            async move {
                let answer = reviews.create(&PostParams::default(), &review(&permission)).await?;
                let allowed = answer.status.is_some_and(|status| status.allowed);
                Ok::<_, kube::Error>((!allowed).then_some(permission))
            }
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    Ok(answers.into_iter().flatten().collect())
}

fn review(permission: &Permission) -> SelfSubjectAccessReview {
    let (resource, subresource) = match permission.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (permission.resource.as_str(), None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: permission.namespace.clone(),
                group: Some(permission.group.clone()),
                resource: Some(resource.to_owned()),
                subresource,
                name: permission.name.clone(),
                verb: Some(permission.verb.clone()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}
