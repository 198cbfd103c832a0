//! Undoing one change of an object: the same while its scenario runs, and by another process after a run was killed.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use kube::Client;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
pub use meshproof_verdict::disturbance::OpenDisturbance;
use meshproof_verdict::disturbance::{DisturbedObject, Undo};
use serde_json::{Value, json};

use crate::api::{ErrorClass, Requests, dynamic};
use crate::ownership::delete_own;
use crate::problem::{self, Problem};
use crate::redaction::Redactor;

/// Between two looks at an object that is on its way out (wall time).
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The resource of a disturbed object.
#[must_use]
pub(crate) fn resource_of(object: &DisturbedObject) -> ApiResource {
    let (group, version) = object
        .api_version
        .split_once('/')
        .unwrap_or(("", object.api_version.as_str()));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &object.kind), &object.plural)
}

/// Undoes a change of an object; what is undone already is left as it is. `private_dir` has what is secret, and `run` is the run
/// whose labels tell what it made.
///
/// # Errors
/// When it is not undone within `within` (scenario time).
pub async fn restore(
    requests: &Requests,
    client: &Client,
    object: &DisturbedObject,
    undo: &Undo,
    run: &str,
    private_dir: Option<&Path>,
    within: Duration,
) -> Result<(), Problem> {
    let api = dynamic(client, &resource_of(object), object.namespace.as_deref());
    let (what, name) = (format!("{undo} {object}"), object.name.as_str());
    match undo {
        Undo::Delete => delete_own(requests, &what, within, &api, name, run).await.map(drop),
        Undo::Merge(merge) => match requests.merge(&what, within, &api, name, merge).await {
            Ok(_) => Ok(()),
            Err(error) if error.class == ErrorClass::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        },
        Undo::Create(original) => {
            let original: DynamicObject = serde_json::from_value(original.clone())
                .map_err(|error| problem::harness("undo-unreadable", format!("{what}: {error}"), None))?;
            let parameters = PostParams::default();
            requests
                .send(&what, within, || async {
                    loop {
                        match api.create(&parameters, &original).await {
                            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
                            other => return other.map(drop),
                        }
                        // One on its way out is not the one that is wanted.
                        match api.get_opt(name).await? {
                            Some(present) if present.metadata.deletion_timestamp.is_none() => return Ok(()),
                            _ => tokio::time::sleep(LOOK_AGAIN).await,
                        }
                    }
                })
                .await?;
            Ok(())
        }
        Undo::Release { holder } => {
            let free = json!({"spec": {"holderIdentity": ""}});
            let lease = requests.send(&what, within, || api.get_opt(name)).await?;
            let held_by = lease
                .as_ref()
                .and_then(|lease| lease.data.pointer("/spec/holderIdentity"))
                .and_then(Value::as_str);
            if held_by == Some(holder.as_str()) {
                requests.merge(&what, within, &api, name, &free).await?;
            }
            Ok(())
        }
        Undo::Private { file } => {
            let undo = read_private(private_dir, file)?;
            Box::pin(restore(requests, client, object, &undo, run, None, within)).await
        }
    }
}

/// What the journal may hold of an undoing: nothing that others may not read. The rest goes to a private file, durable before
/// this returns.
///
/// # Errors
/// Code `undo-private` when there is no folder for such a file, or it can't be written.
pub(crate) fn writable(
    redactor: &Redactor,
    private_dir: Option<&Path>,
    id: u64,
    object: &DisturbedObject,
    undo: &Undo,
) -> Result<Undo, Problem> {
    let secret = match undo {
        // Whole objects have environment variables, arguments and annotations that nobody knows.
        Undo::Create(_) => true,
        Undo::Merge(patch) => object.kind == "Secret" || redactor.object(patch).get() != patch,
        Undo::Delete | Undo::Release { .. } | Undo::Private { .. } => false,
    };
    if !secret {
        return Ok(undo.clone());
    }
    let refused = |why: &str| {
        problem::harness(
            "undo-private",
            format!("{object} can't be changed: what undoes it may hold secrets, and can't be kept in private: {why}"),
            Some("run it with a folder for state that can be written"),
        )
    };
    let folder = private_dir.ok_or_else(|| refused("this run has no folder for it"))?;
    let file = format!("undo-{id}.json");
    write_private(&folder.join(&file), undo).map_err(|error| refused(&error.to_string()))?;
    Ok(Undo::Private { file })
}

fn write_private(path: &Path, undo: &Undo) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(&serde_json::to_vec(undo)?)?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn read_private(folder: Option<&Path>, file: &str) -> Result<Undo, Problem> {
    let unreadable = |why: String| {
        problem::harness(
            "undo-private",
            format!("what undoes a change is in the private file {file}, which can't be read: {why}"),
            Some("undo the change by hand"),
        )
    };
    let plain = !file.contains(['/', '\\']) && file.starts_with("undo-");
    let folder = folder
        .filter(|_| plain)
        .ok_or_else(|| unreadable("it is none of this run's state".to_owned()))?;
    let text = std::fs::read(folder.join(file)).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use crate::redaction::Redactor;
    use meshproof_verdict::disturbance::{DisturbedObject, Undo};
    use serde_json::json;

    use super::{read_private, writable};

    fn object(kind: &str) -> DisturbedObject {
        DisturbedObject {
            api_version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
            namespace: Some("mesh".to_owned()),
            name: "x".to_owned(),
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_secrets_held_goes_to_a_private_file_and_never_to_the_journal() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for (id, (kind, undo)) in [
            ("Secret", Undo::Merge(json!({"data": {"token": "c2VjcmV0"}}))),
            ("Deployment", Undo::Create(json!({"metadata": {"name": "x"}}))),
        ]
        .into_iter()
        .enumerate()
        {
            let written = writable(&Redactor::new(), Some(folder.path()), id as u64, &object(kind), &undo).unwrap();
            let Undo::Private { file } = &written else {
                panic!("{written:?} goes to the journal");
            };
            let mode = std::fs::metadata(folder.path().join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(read_private(Some(folder.path()), file).unwrap(), undo);
            let refused = writable(&Redactor::new(), None, 7, &object(kind), &undo).unwrap_err();
            assert_eq!(refused.code, "undo-private");
        }
        let open = Undo::Merge(json!({"spec": {"replicas": 1}}));
        assert_eq!(
            writable(&Redactor::new(), None, 1, &object("Deployment"), &open).unwrap(),
            open
        );
    }

    #[test]
    fn a_journal_names_no_files_of_others() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["../undo-1.json", "/etc/passwd", "undo-/../x", "lock"] {
            assert!(read_private(Some(folder.path()), file).is_err(), "{file}");
        }
    }
}
