//! Reading a file that somebody names: devices, pipes and folders have no end or no content, and what is too large is none of
//! the files that are meant.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// Reads a plain file of at most `most` bytes; a link is followed. Nothing else is opened.
///
/// # Errors
/// When it is no such file, or can't be read.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let wrong = |what: String| Err(io::Error::new(ErrorKind::InvalidInput, what));
    let found = path.metadata()?;
    if !found.is_file() {
        return wrong("it is no plain file".to_owned());
    }
    let mut content = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return wrong(format!("it is larger than {most} bytes"));
    }
    Ok(content)
}

/// As [`read`], as text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{read, read_text};

    #[test]
    fn only_plain_files_of_sensible_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "12345678").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::fs::write(at("bytes"), [0xff, 0xfe]).unwrap();
        assert!(
            std::process::Command::new("mkfifo")
                .arg(at("pipe"))
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(read_text(&at("file"), 8).unwrap(), "12345678");
        assert_eq!(read(&at("link"), 8).unwrap().len(), 8);
        assert!(read(&at("file"), 7).unwrap_err().to_string().contains("larger than 7"));
        assert!(read_text(&at("bytes"), 8).is_err());
        for path in [
            "/dev/zero",
            "/",
            at("pipe").to_str().unwrap(),
            at("absent").to_str().unwrap(),
        ] {
            assert!(read(Path::new(path), 8).is_err(), "{path}");
        }
    }
}
