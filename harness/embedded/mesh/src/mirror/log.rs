//! Log lines in the real controller's format.

use std::fmt::Write as _;

use jiff::Timestamp;
use meshproof_cluster::program::LogSink;

/// Writes lines such as `time="…" level=info msg="…" cluster=east`.
#[derive(Clone)]
pub(super) struct Logger {
    sink: LogSink,
    fields: String,
}

impl Logger {
    pub(super) fn new(sink: LogSink) -> Self {
        Self {
            sink,
            fields: String::new(),
        }
    }

    /// The same log with one more field on every line.
    pub(super) fn with(&self, key: &str, value: &str) -> Self {
        Self {
            sink: self.sink.clone(),
            fields: format!("{} {key}={}", self.fields, bare_or_quoted(value)),
        }
    }

    pub(super) fn info(&self, message: impl AsRef<str>) {
        self.line("info", message.as_ref());
    }

    pub(super) fn warn(&self, message: impl AsRef<str>) {
        self.line("warning", message.as_ref());
    }

    pub(super) fn error(&self, message: impl AsRef<str>) {
        self.line("error", message.as_ref());
    }

    pub(super) fn fatal(&self, message: impl AsRef<str>) {
        self.line("fatal", message.as_ref());
    }

    fn line(&self, level: &str, message: &str) {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        (self.sink)(&format!(
            "time=\"{now}\" level={level} msg={}{}",
            quoted(message),
            self.fields
        ));
    }
}

fn bare_or_quoted(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if !text.is_empty() && text.chars().all(bare) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::Logger;
    use std::sync::{Arc, Mutex};

    #[test]
    fn lines_look_like_the_recorded_ones() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let log = Logger::new(Arc::new(move |line: &str| {
            sink.lock().unwrap().push(line.to_owned());
        }));
        log.with("cluster", "east").info("Received: \"x\"");
        log.with("lock", "linkerd-multicluster/a").with("err", "").warn("a\nb");
        let lines = lines.lock().unwrap();
        let after_time = |index: usize| lines[index].split_once(' ').unwrap().1.to_owned();
        assert!(lines[0].starts_with("time=\"20"));
        assert_eq!(after_time(0), r#"level=info msg="Received: \"x\"" cluster=east"#);
        assert_eq!(
            after_time(1),
            r#"level=warning msg="a\nb" lock=linkerd-multicluster/a err="""#
        );
    }
}
