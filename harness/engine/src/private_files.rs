//! Files of a run: made anew, readable by nobody else whatever the umask, and there after a loss of power.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a folder and all above it that are missing, private.
///
/// # Errors
/// As folders are made; also when there is something else of that name.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        // Another scenario was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => return Ok(()),
        Err(error) => return Err(error),
    }
    sync_parent(folder)
}

/// Makes a private file that was not there, for writing. Links are not followed: the name must be free.
///
/// # Errors
/// As files are made, also when the name is taken.
pub fn create_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // A umask takes rights away; nothing may be missing for the owner.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes the name of a file or folder durable: without it a file whose content is on disk may have no name after a crash.
///
/// # Errors
/// Of the medium.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::{create_file, create_folder, sync_parent};

    #[test]
    fn files_and_folders_are_private_and_names_must_be_free() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        create_folder(&folder).unwrap();
        create_folder(&folder).unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&place.path().join("a"))), (0o700, 0o700));
        let file = folder.join("c");
        create_file(&file).unwrap();
        sync_parent(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
        assert!(create_file(&file).is_err(), "what is there is not overwritten");
        symlink(place.path().join("elsewhere"), folder.join("link")).unwrap();
        assert!(create_file(&folder.join("link")).is_err(), "links are not followed");
        assert!(!place.path().join("elsewhere").exists());
    }
}
