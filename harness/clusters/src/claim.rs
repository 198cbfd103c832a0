//! Folders of state that one process at a time has: each holds a lock that ends with the process, and the lock's file says
//! whose folder it is. Only what says so, in exactly this form and with its folder's own name, is of our making; nothing
//! else is ever removed, and what somebody else put beside it stays. Files are private: made anew with their mode and
//! renamed, so that neither an old mode nor a link that stands in their place decides who reads them.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// File in a folder of ours that is locked while its process lives, and says that the folder is ours.
pub const LOCK: &str = "lock";
/// End of the name of a file that is about to get its right name.
const NEW: &str = ".new";
/// Most bytes of a file of state.
const LARGEST: u64 = 4 << 20;

/// Why a folder can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has it.
    #[error("another process uses it")]
    InUse,
    /// It is not of our making.
    #[error("{}: {why}; it is not of meshproof's making and stays as it is", path.display())]
    Foreign {
        /// What is there.
        path: PathBuf,
        /// Why it can't be ours.
        why: String,
    },
    /// It can't be read or written.
    #[error("{}: {error}", path.display())]
    Unusable {
        /// Where.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl ClaimError {
    fn foreign(path: &Path, why: impl Into<String>) -> Self {
        Self::Foreign {
            path: path.to_owned(),
            why: why.into(),
        }
    }

    fn unusable(path: &Path, error: io::Error) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            error,
        }
    }
}

/// The right to a folder, while this lives.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    lock: File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Closing would not do: a command that another thread starts just now has a copy of the file until it is replaced by
        // its program, and the lock stays as long as any copy does.
        let _ = self.lock.unlock();
    }
}

impl Claim {
    /// Takes a folder, making it when it is not there. One that is there is taken when it is ours, or when it holds nothing
    /// but names of ours (`own`).
    ///
    /// # Errors
    /// When somebody has it, when it is not ours, or when it can't be written.
    pub fn take(folder: &Path, own: impl Fn(&str) -> bool) -> Result<Self, ClaimError> {
        // Whoever had it may remove it between our opening its lock and taking it; then it is made again.
        for _ in 0..10 {
            let unusable = |error| ClaimError::unusable(folder, error);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(unusable)?;
            if !folder.symlink_metadata().map_err(unusable)?.is_dir() {
                return Err(ClaimError::foreign(folder, "is a link"));
            }
            let path = folder.join(LOCK);
            let marked = is_marked(folder);
            if !marked && let Some(other) = foreign(folder, &own).map_err(unusable)?.pop() {
                return Err(ClaimError::foreign(&other, "is in the way"));
            }
            let lock = match open_lock(&path) {
                Err(ClaimError::Unusable { error, .. }) if error.kind() == ErrorKind::NotFound => continue,
                other => other?,
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(ClaimError::InUse),
                Err(TryLockError::Error(error)) => return Err(ClaimError::unusable(&path, error)),
            }
            if !same_file(&lock, &path) {
                continue;
            }
            if !marked {
                fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(unusable)?;
                write_mark(&lock, folder).map_err(|error| ClaimError::unusable(&path, error))?;
            }
            return Ok(Self {
                folder: folder.to_owned(),
                lock,
            });
        }
        Err(ClaimError::InUse)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file of the folder, private, whole or not at all.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        write_private(&path, content)?;
        Ok(path)
    }

    /// Removes the files of these names, the lock and the folder. What else is in it stays, and the folder with it.
    ///
    /// # Errors
    /// [`ClaimError::Foreign`] with what stays; [`ClaimError::Unusable`] when something can't be removed.
    pub fn remove(self, own: impl Fn(&str) -> bool) -> Result<(), ClaimError> {
        let folder = &self.folder;
        let names = entries(folder).map_err(|error| ClaimError::unusable(folder, error))?;
        for name in names.iter().filter(|name| *name != LOCK && is_own(name, &own)) {
            let path = folder.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(ClaimError::unusable(&path, error)),
                _ => {}
            }
        }
        if let Some(other) = foreign(folder, &own)
            .map_err(|error| ClaimError::unusable(folder, error))?
            .pop()
        {
            return Err(ClaimError::foreign(&other, "was put into a folder of state"));
        }
        let lock = folder.join(LOCK);
        fs::remove_file(&lock).map_err(|error| ClaimError::unusable(&lock, error))?;
        fs::remove_dir(folder).map_err(|error| ClaimError::unusable(folder, error))
    }
}

/// What a folder is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Ours, and its process lives.
    Alive,
    /// Ours, and its process is gone.
    Dead,
    /// Not ours, for this reason.
    Foreign(String),
}

/// Whose a folder is. Nothing is opened but its lock, and only when that is a plain file.
#[must_use]
pub fn holder(folder: &Path) -> Holder {
    match folder.symlink_metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Holder::Foreign("it is no folder".to_owned()),
        Err(error) => return Holder::Foreign(error.to_string()),
    }
    if !is_marked(folder) && !is_unfinished(folder) {
        return Holder::Foreign(format!("it has no `{LOCK}` that says that it is meshproof's"));
    }
    let Ok(lock) = open_plain(&folder.join(LOCK)) else {
        return Holder::Dead;
    };
    let taken = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
    // Closing would not do: a command that is just being started has a copy of the file.
    let _ = lock.unlock();
    if taken { Holder::Alive } else { Holder::Dead }
}

/// Writes a file that only the user may read: anew and whole. What has its name, also a link, is replaced and not followed.
///
/// # Errors
/// When it can't be written.
pub fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(NEW);
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file
        .write_all(content.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // Half of it is of use to nobody. What is left of it all the same is told by its name.
        let _ = fs::remove_file(&new);
    }
    written
}

/// The name of the file that a file of this name is written to first.
#[must_use]
pub fn unfinished(name: &str) -> String {
    format!("{name}{NEW}")
}

/// The text of a plain file of state; `None` when there is none. Links, devices and pipes are refused unopened, and so is
/// what is larger than any file of state.
///
/// # Errors
/// When it is no such file, or can't be read.
pub fn read_private(path: &Path) -> io::Result<Option<String>> {
    let file = match open_plain(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {LARGEST} bytes")));
    }
    Ok(Some(text))
}

/// What stands in the lock of a folder of ours.
fn mark(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("meshproof: state of {name}\n")
}

fn is_marked(folder: &Path) -> bool {
    matches!(read_private(&folder.join(LOCK)), Ok(Some(text)) if text == mark(folder))
}

/// Whether a process was killed before it could say that the folder is its own: then there is nothing in it to lose.
fn is_unfinished(folder: &Path) -> bool {
    match entries(folder).as_deref() {
        Ok([]) => true,
        Ok([only]) if only == LOCK => {
            matches!(read_private(&folder.join(LOCK)), Ok(Some(text)) if mark(folder).starts_with(&text))
        }
        _ => false,
    }
}

fn write_mark(mut lock: &File, folder: &Path) -> io::Result<()> {
    lock.set_permissions(Permissions::from_mode(0o600))?;
    lock.set_len(0)?;
    lock.write_all(mark(folder).as_bytes())
}

/// What in a folder has no name of ours.
fn foreign(folder: &Path, own: &impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let others = entries(folder)?.into_iter().filter(|name| !is_own(name, own));
    Ok(others.map(|name| folder.join(name)).collect())
}

fn is_own(name: &str, own: &impl Fn(&str) -> bool) -> bool {
    name == LOCK || own(name) || name.strip_suffix(NEW).is_some_and(own)
}

/// Names in a folder, in order. One that is no text is told as well as it can be, and is never one of ours.
fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Opens a lock, making it when it is not there; never anything but a plain file.
fn open_lock(path: &Path) -> Result<File, ClaimError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(quiet())
        .open(path);
    let lock = opened.map_err(|error| ClaimError::unusable(path, error))?;
    match lock.metadata() {
        Ok(found) if found.is_file() => Ok(lock),
        Ok(_) => Err(ClaimError::foreign(path, "is no plain file")),
        Err(error) => Err(ClaimError::unusable(path, error)),
    }
}

fn open_plain(path: &Path) -> io::Result<File> {
    let no_file = || io::Error::new(ErrorKind::InvalidInput, "it is no plain file");
    // Opening a pipe or a device would already be something.
    if !path.symlink_metadata()?.is_file() {
        return Err(no_file());
    }
    let file = OpenOptions::new().read(true).custom_flags(quiet()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(no_file())
    }
}

/// Neither through a link, nor waiting for the other end of a pipe.
fn quiet() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY)
        .bits()
        .cast_signed()
}

fn same_file(open: &File, path: &Path) -> bool {
    match (open.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use super::{Claim, ClaimError, Holder, LOCK, entries, holder, read_private, write_private};

    fn own(name: &str) -> bool {
        name == "run" || name == "kubeconfig"
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn pipe(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    #[test]
    fn a_folder_is_one_processs_at_a_time_and_tells_whose_it_was() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("default");
        let claim = Claim::take(&folder, own).unwrap();
        assert!(matches!(Claim::take(&folder, own), Err(ClaimError::InUse)));
        assert_eq!(holder(&folder), Holder::Alive);
        claim.write("run", "x").unwrap();
        // A command that starts just now has a copy of the lock; it must not keep the folder.
        let copy = claim.lock.try_clone().unwrap();
        drop(claim);
        assert_eq!(holder(&folder), Holder::Dead);
        Claim::take(&folder, own).unwrap().remove(own).unwrap();
        assert!(!folder.exists());
        drop(copy);
    }

    #[test]
    fn what_does_not_say_that_it_is_ours_is_not() {
        let state = tempfile::tempdir().unwrap();
        let at = |name: &str| state.path().join(name);
        for folder in ["documents", "other", "linked", "piped", "copied"] {
            fs::create_dir(at(folder)).unwrap();
        }
        fs::write(at("documents").join("thesis.txt"), "precious").unwrap();
        fs::write(at("other").join(LOCK), "a lock of something else\n").unwrap();
        fs::write(at("other").join("run"), "/somewhere").unwrap();
        symlink(at("other").join(LOCK), at("linked").join(LOCK)).unwrap();
        pipe(&at("piped").join(LOCK));
        // A lock of ours in a folder that it does not name.
        fs::write(at("copied").join(LOCK), "meshproof: state of default\n").unwrap();
        fs::write(at("copied").join("run"), "/somewhere").unwrap();
        fs::write(at("file"), "").unwrap();
        symlink(at("documents"), at("link")).unwrap();
        for name in [
            "documents",
            "other",
            "linked",
            "piped",
            "copied",
            "file",
            "link",
            "nothing",
        ] {
            assert!(matches!(holder(&at(name)), Holder::Foreign(_)), "{name}");
        }
        // Nothing to lose: killed between making the folder and saying so.
        fs::create_dir(at("empty")).unwrap();
        assert_eq!(holder(&at("empty")), Holder::Dead);
        fs::write(at("empty").join(LOCK), "").unwrap();
        assert_eq!(holder(&at("empty")), Holder::Dead);
    }

    #[test]
    fn a_folder_with_other_things_is_not_taken_and_what_is_put_into_one_stays() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("documents");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("thesis.txt"), "precious").unwrap();
        let refused = Claim::take(&folder, own).unwrap_err();
        assert!(refused.to_string().contains("thesis.txt"), "{refused}");
        assert!(!folder.join(LOCK).exists());

        let folder = state.path().join("default");
        let claim = Claim::take(&folder, own).unwrap();
        claim.write("run", "x").unwrap();
        fs::write(folder.join("notes.txt"), "precious").unwrap();
        fs::create_dir(folder.join("kept")).unwrap();
        let left = claim.remove(own).unwrap_err();
        assert!(left.to_string().contains("notes.txt"), "{left}");
        assert_eq!(fs::read_to_string(folder.join("notes.txt")).unwrap(), "precious");
        assert!(!folder.join("run").exists() && folder.join("kept").exists());
    }

    #[test]
    fn files_are_private_whatever_stood_in_their_place() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("default");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(folder.join("kubeconfig"), "").unwrap();
        fs::set_permissions(folder.join("kubeconfig"), fs::Permissions::from_mode(0o666)).unwrap();
        let victim = state.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, folder.join("run")).unwrap();
        symlink(&victim, folder.join("run.new")).unwrap();
        symlink(&victim, folder.join(LOCK)).unwrap();
        assert!(
            Claim::take(&folder, own).is_err(),
            "a link in place of the lock is not followed"
        );
        fs::remove_file(folder.join(LOCK)).unwrap();

        let claim = Claim::take(&folder, own).unwrap();
        for name in ["kubeconfig", "run"] {
            let path = claim.write(name, "secret").unwrap();
            assert!(path.symlink_metadata().unwrap().is_file(), "{name}");
            assert_eq!(
                (mode(&path), fs::read_to_string(&path).unwrap()),
                (0o600, "secret".to_owned())
            );
        }
        assert_eq!((mode(&folder), mode(&folder.join(LOCK))), (0o700, 0o600));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn what_could_not_be_written_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("x");
        fs::create_dir_all(path.join("in the way")).unwrap();
        assert!(write_private(&path, "text").is_err());
        assert_eq!(entries(state.path()).unwrap(), ["x"]);
    }

    #[test]
    fn a_folder_that_was_only_half_said_to_be_ours_is_still_ours() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("default");
        fs::create_dir(&folder).unwrap();
        for (text, ours) in [("", true), ("meshproof: st", true), ("meshproof: x", false)] {
            fs::write(folder.join(LOCK), text).unwrap();
            assert_eq!(holder(&folder) == Holder::Dead, ours, "{text}");
        }
    }

    #[test]
    fn only_plain_files_of_sensible_size_are_read() {
        let state = tempfile::tempdir().unwrap();
        let at = |name: &str| state.path().join(name);
        write_private(&at("long"), "long content").unwrap();
        write_private(&at("long"), "short").unwrap();
        assert_eq!(read_private(&at("long")).unwrap().as_deref(), Some("short"));
        assert_eq!(read_private(&at("absent")).unwrap(), None);
        symlink(at("long"), at("link")).unwrap();
        symlink("/dev/zero", at("device")).unwrap();
        pipe(&at("pipe"));
        let large = fs::File::create(at("large")).unwrap();
        large.set_len(super::LARGEST + 1).unwrap();
        for name in ["link", "device", "pipe", "large", ""] {
            assert!(read_private(&at(name)).is_err(), "{name}");
        }
        assert!(read_private(Path::new("/dev/zero")).is_err());
    }
}
