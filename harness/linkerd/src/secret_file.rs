//! Secrets that a tool takes only as a file: mode 0600, gone when no longer needed.

use std::io::Write;

use meshproof_engine::problem::{self, Problem};
use tempfile::NamedTempFile;

/// A file that only this user can read and that is removed when dropped.
pub(crate) struct SecretFile(NamedTempFile);

impl SecretFile {
    /// Writes `content` into a new file; `what` names it for people.
    pub(crate) fn write(what: &str, content: &str) -> Result<Self, Problem> {
        let written = || {
            // Made with mode 0600.
            let mut file = tempfile::Builder::new().prefix("meshproof-").tempfile()?;
            file.write_all(content.as_bytes())?;
            file.flush()?;
            Ok(Self(file))
        };
        written().map_err(|error: std::io::Error| {
            problem::environment(
                "file-not-written",
                format!("{what}: no temporary file: {error}"),
                Some("see whether the folder for temporary files (TMPDIR) exists and has room"),
            )
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> String {
        self.0.path().to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::SecretFile;

    #[test]
    fn nobody_else_can_read_it_and_it_goes() {
        let file = SecretFile::write("a key", "secret").unwrap();
        let path = file.path();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!std::path::Path::new(&path).exists());
    }
}
