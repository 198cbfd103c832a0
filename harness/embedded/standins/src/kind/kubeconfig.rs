//! kind's dealings with kubeconfig files: one lock file beside the file, entries of other clusters left alone.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_yaml::{Mapping, Value};

use crate::exchange::{Call, Failure};
use crate::world::Container;

/// Pauses before each try to lock a kubeconfig, as kind makes them.
const TRIES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(50),
    Duration::from_millis(100),
];

/// The file that a command works on. Unlike kind, never the one in the home directory: a test that forgets to name a file
/// must not write into the files of whoever runs it.
pub(super) fn path(call: &Call, option: Option<&str>) -> Result<PathBuf, Failure> {
    let variable = call.variables.get("KUBECONFIG").map(String::as_str);
    match option.or(variable).filter(|path| !path.is_empty()) {
        Some(path) => Ok(call.path(path)),
        None => Err(crate::exchange::not_modelled(
            "writing ~/.kube/config (give --kubeconfig or set KUBECONFIG); it",
        )),
    }
}

/// The kubeconfig of a node's cluster, with the names that kind gives; `internal` has the address inside of the network.
pub(super) async fn of(node: &Container, internal: bool) -> Result<String, Failure> {
    let served = node.served.lock().await;
    let cluster = served.as_ref().ok_or_else(|| {
        let name = &node.name;
        Failure::new(format!(
            "failed to get cluster internal kubeconfig: command \"docker exec --privileged {name} cat \
             /etc/kubernetes/admin.conf\" failed with error: exit status 1"
        ))
    })?;
    let url = internal.then(|| format!("https://{}:6443", node.name));
    let own = cluster.api().admin_kubeconfig(url.as_deref());
    let mut value: Value = serde_yaml::from_str(&own).map_err(|error| unreadable(&error))?;
    let name: Value = format!("kind-{}", node.cluster).into();
    for list in ["clusters", "users", "contexts"] {
        value[list][0]["name"] = name.clone();
    }
    value["contexts"][0]["context"]["cluster"] = name.clone();
    value["contexts"][0]["context"]["user"] = name.clone();
    value["current-context"] = name;
    print(&value)
}

fn unreadable(error: &serde_yaml::Error) -> Failure {
    Failure::new(format!("failed to decode kubeconfig: {error}"))
}

fn print(value: &Value) -> Result<String, Failure> {
    serde_yaml::to_string(value).map_err(|error| unreadable(&error))
}

/// Puts a cluster into a file and makes it the current one.
pub(super) async fn export(path: &Path, cluster: &str, own: &str) -> Result<(), Failure> {
    let own: Value = serde_yaml::from_str(own).map_err(|error| unreadable(&error))?;
    change(path, |file| {
        remove(file, cluster);
        for list in ["clusters", "users", "contexts"] {
            let entries = file.entry(list.into()).or_insert_with(|| Value::Sequence(Vec::new()));
            if let (Some(entries), Some(new)) = (entries.as_sequence_mut(), own[list].as_sequence()) {
                entries.extend(new.iter().cloned());
            } else {
                *entries = own[list].clone();
            }
        }
        for key in ["apiVersion", "kind", "current-context"] {
            file.insert(key.into(), own[key].clone());
        }
        true
    })
    .await
}

/// Takes a cluster out of a file, if it and the file exist.
pub(super) async fn forget(path: &Path, cluster: &str) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    change(path, |file| remove(file, cluster))
        .await
        .map_err(|failure| failure.within("failed to update kubeconfig"))
}

/// Whether there was anything.
fn remove(file: &mut Mapping, cluster: &str) -> bool {
    let name = Value::from(format!("kind-{cluster}"));
    let mut changed = false;
    for list in ["clusters", "users", "contexts"] {
        if let Some(entries) = file.get_mut(list).and_then(Value::as_sequence_mut) {
            let before = entries.len();
            entries.retain(|entry| entry.get("name") != Some(&name));
            changed |= entries.len() != before;
        }
    }
    if file.get("current-context") == Some(&name) {
        file.insert("current-context".into(), "".into());
        changed = true;
    }
    changed
}

async fn change(path: &Path, edit: impl FnOnce(&mut Mapping) -> bool) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let _lock = Lock::take(path).await?;
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let mut file: Mapping = if text.trim().is_empty() {
        Mapping::new()
    } else {
        serde_yaml::from_str(&text).map_err(|error| unreadable(&error))?
    };
    if edit(&mut file) {
        let text = print(&Value::Mapping(file))?;
        write_in_place(path, &text).map_err(failed)?;
    }
    Ok(())
}

/// As kind does it: no other file is made, and on a full disk the file has lost what it held.
fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// `<file>.lock`, as client-go and kind make it.
struct Lock(PathBuf);

impl Lock {
    async fn take(path: &Path) -> Result<Self, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
        for pause in TRIES {
            tokio::time::sleep(pause).await;
            match fs::OpenOptions::new().write(true).create_new(true).open(&lock) {
                Ok(_) => return Ok(Self(lock)),
                Err(refused) => error = refused,
            }
        }
        let text = match error.kind() {
            io::ErrorKind::AlreadyExists => "file exists".to_owned(),
            _ => error.to_string(),
        };
        Err(Failure::new(format!(
            "failed to lock config file: open {}: {text}",
            lock.display()
        )))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock that stays is told by the next command.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{export, forget};

    fn entry(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: kind-{name}, cluster: {{server: https://{name}}}}}]\n\
             users: [{{name: kind-{name}, user: {{token: t}}}}]\n\
             contexts: [{{name: kind-{name}, context: {{cluster: kind-{name}, user: kind-{name}}}}}]\n\
             current-context: kind-{name}\n"
        )
    }

    #[tokio::test]
    async fn entries_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/config");
        export(&path, "west", &entry("west")).await.unwrap();
        export(&path, "east", &entry("east")).await.unwrap();
        export(&path, "east", &entry("east")).await.unwrap();
        let read = || -> serde_yaml::Value { serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap() };
        assert_eq!(read()["contexts"].as_sequence().unwrap().len(), 2, "no entry twice");
        assert_eq!(read()["current-context"], "kind-east");
        forget(&path, "east").await.unwrap();
        assert_eq!(read()["clusters"].as_sequence().unwrap().len(), 1);
        assert_eq!(read()["clusters"][0]["name"], "kind-west");
        assert_eq!(read()["current-context"], "");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_lock_that_somebody_holds_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(folder.path().join("config.lock"), "").unwrap();
        let failure = export(&path, "west", &entry("west")).await.unwrap_err();
        assert!(
            failure.message.ends_with("config.lock: file exists"),
            "{}",
            failure.message
        );
    }
}
