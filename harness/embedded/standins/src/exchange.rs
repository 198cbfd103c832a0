//! One call of a command: what it was given, and where its output goes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Mutex, mpsc};

/// Most bytes of one frame from a command: more is no command of ours.
const MOST: u32 = 64 * 1024 * 1024;

/// What a command was called with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    /// Name that it was called by, e.g. `kind`.
    pub(crate) tool: String,
    /// Its arguments, without the name.
    pub(crate) arguments: Vec<String>,
    /// Its working directory.
    pub(crate) directory: PathBuf,
    /// The environment variables that commands look at, as far as they are set.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Call {
    /// A path that the caller gave, from its working directory.
    pub(crate) fn path(&self, given: &str) -> PathBuf {
        self.directory.join(given)
    }

    /// Reads a file that the caller named.
    pub(crate) fn read(&self, given: &str) -> Result<String, Failure> {
        std::fs::read_to_string(self.path(given))
            .map_err(|error| Failure::new(format!("open {given}: {}", go_error(&error))))
    }
}

/// The words of Go's standard library for the usual errors of files.
fn go_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AlreadyExists => "file exists".to_owned(),
        _ => error.to_string(),
    }
}

/// A command's refusal: what it says, and its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    /// A refusal with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            message: message.into(),
        }
    }

    /// The same with words in front, as Go wraps errors.
    pub(crate) fn within(self, context: &str) -> Self {
        Self {
            message: format!("{context}: {}", self.message),
            ..self
        }
    }
}

/// What the stand-in does not do. Exit code 126, as for a command that cannot be executed, so that no test takes it for an
/// answer of the real command.
pub(crate) fn not_modelled(what: &str) -> Failure {
    Failure {
        code: 126,
        message: format!("stand-in: {what} is not modelled"),
    }
}

/// Reads the arguments of a call. Options and subcommands that the stand-in does not have are [`not_modelled`], because the
/// real command may have them; anything else that is wrong is refused with `code`.
pub(crate) fn parse<T: clap::Parser>(call: &Call, code: u8) -> Result<T, Failure> {
    use clap::error::ErrorKind;
    let words = std::iter::once(&call.tool).chain(&call.arguments);
    T::try_parse_from(words).map_err(|error| {
        let message = error.to_string().trim_end().to_owned();
        match error.kind() {
            ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => Failure {
                code: 126,
                message: format!("stand-in: {message}"),
            },
            ErrorKind::DisplayHelp => Failure { code: 0, message },
            _ => Failure { code, message },
        }
    })
}

/// The `(kind, bytes)` frames of `forward.rs`.
pub(crate) type Frame = (u8, Vec<u8>);

/// Where a command's output goes and its input comes from.
pub(crate) struct Terminal {
    output: mpsc::UnboundedSender<Frame>,
    input: Mutex<mpsc::UnboundedReceiver<Option<Vec<u8>>>>,
}

impl Terminal {
    pub(crate) fn new(output: mpsc::UnboundedSender<Frame>, input: mpsc::UnboundedReceiver<Option<Vec<u8>>>) -> Self {
        Self {
            output,
            input: Mutex::new(input),
        }
    }

    /// Prints to standard output.
    pub(crate) fn out(&self, text: &str) {
        self.send(b'O', text.as_bytes().to_vec());
    }

    /// Prints to standard error.
    pub(crate) fn err(&self, text: &str) {
        self.send(b'R', text.as_bytes().to_vec());
    }

    /// Prints a line to standard output.
    pub(crate) fn line(&self, text: &str) {
        self.out(&format!("{text}\n"));
    }

    /// Prints a line to standard error.
    pub(crate) fn note(&self, text: &str) {
        self.err(&format!("{text}\n"));
    }

    /// All of standard input.
    pub(crate) async fn input(&self) -> String {
        self.send(b'?', Vec::new());
        let mut input = self.input.lock().await;
        let mut bytes = Vec::new();
        while let Some(Some(piece)) = input.recv().await {
            bytes.extend(piece);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends the command.
    pub(crate) fn exit(&self, code: u8) {
        self.send(b'X', vec![code]);
    }

    fn send(&self, kind: u8, bytes: Vec<u8>) {
        // A caller that is gone is noticed by its connection.
        let _ = self.output.send((kind, bytes));
    }
}

/// Reads one frame.
pub(crate) async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let kind = from.read_u8().await?;
    let length = from.read_u32_le().await?;
    if length > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await?;
    Ok((kind, bytes))
}

/// A frame as bytes.
pub(crate) fn frame((kind, bytes): &Frame) -> Vec<u8> {
    let mut out = vec![*kind];
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(bytes);
    out
}

/// Reads a call up to its end; `None` when it does not have the token.
pub(crate) async fn read_call(from: &mut (impl AsyncRead + Unpin), token: &str) -> io::Result<Option<Call>> {
    let mut call = Call::default();
    let mut words = Vec::new();
    let mut known = false;
    loop {
        let (kind, bytes) = read_frame(from).await?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match kind {
            b'T' => known = text == token,
            b'A' => words.push(text),
            b'W' => Path::new(&text).clone_into(&mut call.directory),
            b'E' => {
                if let Some((name, value)) = text.split_once('=') {
                    call.variables.insert(name.to_owned(), value.to_owned());
                }
            }
            b'.' => break,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of an unknown kind")),
        }
    }
    if !known || words.is_empty() {
        return Ok(None);
    }
    call.tool = words.remove(0);
    call.arguments = words;
    Ok(Some(call))
}
