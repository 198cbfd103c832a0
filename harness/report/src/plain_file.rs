//! The one way to files that a journal names. A journal may come from anybody: what it names is read only if it is a plain
//! file below the run's folder, reached through folders alone. Links, pipes, devices and ways out are refused, and nothing
//! that is opened can block.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

/// Most files that one folder of a run may have, all together: what is more is nothing that a run wrote.
const MOST_FILES: usize = 100_000;
/// Deepest folder below one of the run's folders.
const DEEPEST: usize = 16;

/// Opens a plain file below `folder` for reading. The folder itself may be a link: the user named it.
///
/// # Errors
/// `InvalidInput` when the name leads out of the folder, or to something that is no plain file; else as files are opened.
pub(crate) fn open(folder: &Path, name: &str) -> io::Result<File> {
    let parts = parts(name)?;
    let Some((file, folders)) = parts.split_last() else {
        return Err(refused("it has no name"));
    };
    let parent = enter(folder, folders)?;
    plain(&parent, file)?;
    // Between the look and the opening it may have become something else: neither followed nor waited for, and looked at
    // again.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = File::from(rustix::fs::openat(&parent, *file, flags, Mode::empty())?);
    if opened.metadata()?.is_file() {
        Ok(opened)
    } else {
        Err(refused("it is no plain file; it was not read"))
    }
}

/// Everything below `name` in `folder` that is no folder, by its path in it, sorted. Links are named, not followed.
///
/// # Errors
/// `InvalidInput` when the name leads out of the folder or there is more than a run makes; else as folders are read.
pub(crate) fn below(folder: &Path, name: &str) -> io::Result<Vec<String>> {
    let parts = parts(name)?;
    match enter(folder, &parts) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let root = folder.join(name);
    let mut files = Vec::new();
    let mut open = vec![(root.clone(), 0)];
    while let Some((folder, depth)) = open.pop() {
        if depth > DEEPEST {
            return Err(refused("folders lie deeper in it than a run makes them"));
        }
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push((entry.path(), depth + 1));
                continue;
            }
            if files.len() == MOST_FILES {
                return Err(refused("it has more files than a run makes"));
            }
            let path = entry.path();
            let relative = path.strip_prefix(&root).unwrap_or(&path);
            files.push(relative.to_string_lossy().into_owned());
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Parts of a name that leads nowhere but down.
fn parts(name: &str) -> io::Result<Vec<&str>> {
    let parts: Vec<&str> = name.split('/').collect();
    let leaves = |part: &&str| part.is_empty() || *part == "." || *part == ".." || part.contains(['\\', '\0']);
    if parts.iter().any(leaves) {
        return Err(refused("its file lies outside of the run's folder; it was not read"));
    }
    Ok(parts)
}

fn enter(folder: &Path, parts: &[&str]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(folder, flags, Mode::empty())?;
    for part in parts {
        at = rustix::fs::openat(&at, *part, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|error| {
            let error = io::Error::from(error);
            if error.kind() == io::ErrorKind::NotFound {
                error
            } else {
                refused("the way to it is no folder; it was not read")
            }
        })?;
    }
    Ok(at)
}

fn plain(parent: &OwnedFd, file: &str) -> io::Result<()> {
    let stat = rustix::fs::statat(parent, file, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(refused("it is a link; it was not followed")),
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
            Err(refused("it is a pipe or device; it was not read"))
        }
        _ => Err(refused("it is no plain file; it was not read")),
    }
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::{CWD, FileType, Mode};

    use super::{below, open};

    fn folder() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("run/ledgers/a")).unwrap();
        std::fs::write(place.path().join("outside"), "outside").unwrap();
        std::fs::write(place.path().join("run/ledgers/a/rows"), "rows").unwrap();
        place
    }

    fn read(run: &Path, name: &str) -> Result<String, String> {
        let mut text = String::new();
        open(run, name)
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_err(|error| error.to_string())?;
        Ok(text)
    }

    #[test]
    fn plain_files_below_the_folder_are_read() {
        let place = folder();
        let run = place.path().join("run");
        assert_eq!(read(&run, "ledgers/a/rows").as_deref(), Ok("rows"));
        assert_eq!(
            open(&run, "ledgers/b").unwrap_err().kind(),
            std::io::ErrorKind::NotFound
        );
        symlink(&run, place.path().join("link")).unwrap();
        assert_eq!(
            read(&place.path().join("link"), "ledgers/a/rows").as_deref(),
            Ok("rows")
        );
    }

    #[test]
    fn nothing_else_is_opened() {
        let place = folder();
        let run = place.path().join("run");
        symlink("../../outside", run.join("ledgers/to-outside")).unwrap();
        symlink("/dev/zero", run.join("ledgers/zero")).unwrap();
        symlink("a", run.join("ledgers/folder")).unwrap();
        rustix::fs::mknodat(
            CWD,
            run.join("ledgers/pipe"),
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        for name in [
            "../outside",
            "/etc/passwd",
            "ledgers/../../outside",
            "",
            "ledgers//a",
            "./ledgers/a/rows",
            "a\0b",
        ] {
            let refused = read(&run, name).unwrap_err();
            assert!(refused.contains("outside of the run's folder"), "{name}: {refused}");
        }
        for name in ["ledgers/to-outside", "ledgers/zero"] {
            assert!(read(&run, name).unwrap_err().contains("is a link"), "{name}");
        }
        assert!(read(&run, "ledgers/folder/rows").unwrap_err().contains("the way to it"));
        assert!(read(&run, "ledgers/pipe").unwrap_err().contains("pipe or device"));
        assert!(read(&run, "ledgers").unwrap_err().contains("no plain file"));
        assert_eq!(below(&run, "evidence").unwrap(), Vec::<String>::new());
        assert_eq!(
            below(&run, "ledgers").unwrap(),
            ["a/rows", "folder", "pipe", "to-outside", "zero"]
        );
        assert!(below(&run, "ledgers/folder").is_err());
        assert!(below(&run, "..").is_err());
    }
}
