//! Secrets in free text, by how they look and by the words in front of them.

use std::borrow::Cow;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::{Captures, Regex};

use super::{Redactor, is_hidden, names};
use meshproof_verdict::question::HIDDEN;

/// How often Base64 is looked into.
const DEEPEST: usize = 2;
/// What stands for a text that can't be looked at.
const NOTHING: &str = "<a text that could not be looked at for secrets, not shown>";

/// How secrets look.
struct Rules {
    pem: Regex,
    encoded_pem: Regex,
    jwt: Regex,
    known_forms: Regex,
    scheme: Regex,
    user_info: Regex,
    set: Regex,
}

/// Signs of tokens that have a form of their own.
const FORMS: [&str; 14] = [
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "AIza",
    "npm_",
    "hvs.",
    "sk-",
];
/// Signs of schemes of HTTP's authentication.
const SCHEMES: [&str; 6] = ["earer", "EARER", "asic", "ASIC", "egotiate", "EGOTIATE"];

static RULES: LazyLock<Result<Rules, regex::Error>> = LazyLock::new(|| {
    Ok(Rules {
        pem: Regex::new(r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)")?,
        // Base64 of `-----BEGIN`, possibly over several lines.
        encoded_pem: Regex::new(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]*(?:(?:\\n|\\r|\n|\r)+[ \t]*[A-Za-z0-9+/=]{16,})*")?,
        jwt: Regex::new(r"eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]+){1,2}|eyJ[A-Za-z0-9_./+=-]{17,}")?,
        known_forms: Regex::new(
            r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}\b|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|AIza[\w-]{30,}|npm_[A-Za-z0-9]{30,}|hvs\.[\w-]{20,}|sk-[A-Za-z0-9_-]{24,})",
        )?,
        scheme: Regex::new(r"(?i)\b(bearer|basic|negotiate)(\s+)([A-Za-z0-9._~+/=:-]+)")?,
        user_info: Regex::new(r#"([A-Za-z][A-Za-z0-9+.-]*://)([^\s/?#@"'<>\\]+)@"#)?,
        set: Regex::new(r#"(--[a-z-]*set(?:-[a-z]+)?[=\s]+['"]?)((?:<not shown: [0-9a-f]{8}>|[^\s'"])+)"#)?,
    })
});

/// The text without what looks like a secret. Twice the same as once.
pub(super) fn clean(redactor: &Redactor, text: &str, depth: usize) -> String {
    if text.len() < 4 || is_hidden(text) {
        return text.to_owned();
    }
    let Ok(rules) = RULES.as_ref() else {
        return NOTHING.to_owned();
    };
    let mut text = Cow::Borrowed(text);
    // Expressions are slow, so each is tried only on texts that have a sign of it.
    let mut replace = |signs: &[&str], regex: &Regex, by: &dyn Fn(&Captures<'_>) -> String| {
        if signs.iter().any(|sign| text.contains(sign))
            && let Cow::Owned(changed) = regex.replace_all(&text, |captures: &Captures<'_>| by(captures))
        {
            text = Cow::Owned(changed);
        }
    };
    let group = |captures: &Captures<'_>, number: usize| -> String {
        captures
            .get(number)
            .map_or_else(String::new, |found| found.as_str().to_owned())
    };
    let whole = |captures: &Captures<'_>| redactor.mark_known(&group(captures, 0));
    replace(&["PRIVATE KEY"], &rules.pem, &whole);
    replace(&["LS0tLS1CRUdJTi"], &rules.encoded_pem, &|captures| {
        let found = group(captures, 0);
        let packed: String = found.replace("\\n", "").replace("\\r", "").split_whitespace().collect();
        match decoded(&packed) {
            Some(text) if !text.contains("PRIVATE KEY") => found,
            _ => redactor.mark_known(&found),
        }
    });
    replace(&["eyJ"], &rules.jwt, &whole);
    replace(&FORMS, &rules.known_forms, &whole);
    replace(&SCHEMES, &rules.scheme, &|captures| {
        let (scheme, token) = (group(captures, 1), group(captures, 3));
        if is_credential(&scheme, &token) {
            format!("{scheme}{}{}", group(captures, 2), redactor.mark_known(&token))
        } else {
            group(captures, 0)
        }
    });
    replace(&["://"], &rules.user_info, &|captures| {
        let info = group(captures, 2);
        redactor.remember(info.split_once(':').map_or(info.as_str(), |(_, password)| password));
        format!("{}{}@", group(captures, 1), redactor.mark(&info))
    });
    replace(&["set ", "set=", "set-"], &rules.set, &|captures| {
        format!(
            "{}{}",
            group(captures, 1),
            set_values(redactor, &group(captures, 2), Values::Telling)
        )
    });
    if let Some(changed) = named_values(redactor, &text) {
        text = Cow::Owned(changed);
    }
    if let Some(changed) = flag_values(redactor, &text) {
        text = Cow::Owned(changed);
    }
    if depth < DEEPEST
        && let Some(changed) = encoded(redactor, &text, depth)
    {
        text = Cow::Owned(changed);
    }
    text.into_owned()
}

/// Replaces Base64 of texts that hold secrets.
fn encoded(redactor: &Redactor, text: &str, depth: usize) -> Option<String> {
    const SHORTEST: usize = 16;
    let mut out = Pieces::new(text);
    let bytes = text.as_bytes();
    let is_part = |at: usize| {
        bytes
            .get(at)
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'_' | b'-'))
    };
    let mut at = 0;
    while at < bytes.len() {
        if !is_part(at) {
            at += 1;
            continue;
        }
        let mut end = at;
        while is_part(end) {
            end += 1;
        }
        let length = end - at;
        while length >= SHORTEST && end - at < length + 2 && bytes.get(end) == Some(&b'=') {
            end += 1;
        }
        if length >= SHORTEST
            && let Some(found) = text.get(at..end)
            && let Some(inside) = decoded(found)
            && clean(redactor, &inside, depth + 1) != inside
        {
            out.replace(at, end, &redactor.mark_known(found));
        }
        at = end;
    }
    out.finish()
}

/// A text of which pieces are replaced from front to back.
struct Pieces<'a> {
    text: &'a str,
    out: String,
    copied: usize,
}

impl<'a> Pieces<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            out: String::new(),
            copied: 0,
        }
    }

    fn replace(&mut self, from: usize, to: usize, by: &str) {
        self.out.push_str(self.text.get(self.copied..from).unwrap_or_default());
        self.out.push_str(by);
        self.copied = to;
    }

    /// The new text; nothing when nothing was replaced.
    fn finish(mut self) -> Option<String> {
        if self.copied == 0 {
            return None;
        }
        self.out.push_str(self.text.get(self.copied..).unwrap_or_default());
        Some(self.out)
    }
}

/// Which values of `--set name=value,other=value` are left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// All: nobody knows what a user sets.
    All,
    /// Those whose name tells, or that look like a secret: what the harness itself sets is shown.
    Telling,
}

/// `--set name=value,other=value` without values.
pub(super) fn set_values(redactor: &Redactor, pairs: &str, values: Values) -> String {
    let mut before = false;
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((name, value)) => {
            before = values == Values::All || names::tells(name);
            if names::is_harmless(value) {
                format!("{name}={value}")
            } else if before {
                if value.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase()) {
                    redactor.remember(value);
                }
                format!("{name}={}", redactor.mark(value))
            } else {
                pair.to_owned()
            }
        }
        // A comma inside of a value is `\\,` for Helm: what follows it belongs to the value before.
        None if before => redactor.mark(pair),
        None => pair.to_owned(),
    };
    pairs.split(',').map(hidden).collect::<Vec<_>>().join(",")
}

/// Whether what follows a scheme of HTTP's authentication is a credential and not the next word of a sentence.
fn is_credential(scheme: &str, token: &str) -> bool {
    const NEXT_WORDS: [&str; 9] = [
        "token",
        "tokens",
        "auth",
        "authentication",
        "authorization",
        "credentials",
        "scheme",
        "of",
        "realm",
    ];
    if NEXT_WORDS.contains(&token.to_ascii_lowercase().trim_end_matches(['.', ':', ','])) {
        return false;
    }
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => decoded(token).is_some_and(|text| text.contains(':')),
        "negotiate" => token.len() >= 16,
        _ => true,
    }
}

/// Replaces values behind names that tell: `password: x`, `"token":"x"`, `API_KEY=x`, `?token=x`, `cookie: a=b`.
fn named_values(redactor: &Redactor, text: &str) -> Option<String> {
    let mut out = Pieces::new(text);
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find([':', '='])) {
        let separator = at + found;
        at = separator + 1;
        if separator < out.copied {
            continue;
        }
        let Some(name) = name_before(text.get(out.copied..separator).unwrap_or_default()) else {
            continue;
        };
        if !names::tells(name) && !names::is_secret_header(name) {
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let rest = rest.get(blank..).unwrap_or_default();
        let quoted = rest.trim_start_matches('\\').starts_with(['"', '\'']);
        let quote = if quoted {
            rest.get(..rest.find(['"', '\'']).map_or(0, |end| end + 1))
                .unwrap_or_default()
        } else {
            ""
        };
        let from = at + blank + quote.len();
        let rest = text.get(from..).unwrap_or_default();
        let length = if quote.is_empty() {
            value_length(name, text.get(separator..=separator) == Some(":"), rest)
        } else {
            rest.find(quote).unwrap_or(rest.len())
        };
        let value = rest.get(..length).unwrap_or_default().trim_end();
        let is_secret = !value.is_empty()
            && !value.starts_with(['<', '{', '['])
            && !value.contains(HIDDEN)
            && !names::is_harmless(value);
        if is_secret {
            out.replace(from, from + value.len(), &redactor.mark_known(value));
            at = from + value.len();
        }
    }
    out.finish()
}

/// The name that ends here, in quotes or not.
fn name_before(text: &str) -> Option<&str> {
    let text = text.trim_end_matches([' ', '\t']);
    let text = text.trim_end_matches(['"', '\'']).trim_end_matches('\\');
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let start = text.rfind(|c: char| !is_part(c)).map_or(0, |at| {
        at + text
            .get(at..)
            .and_then(|rest| rest.chars().next())
            .map_or(1, char::len_utf8)
    });
    text.get(start..).filter(|name| !name.is_empty())
}

/// Replaces values behind flags that tell: `--token x`.
fn flag_values(redactor: &Redactor, text: &str) -> Option<String> {
    let mut out = Pieces::new(text);
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find("--")) {
        let from = at + found + 2;
        let rest = text.get(from..).unwrap_or_default();
        let length = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-')))
            .unwrap_or(rest.len());
        at = from + length;
        let name = rest.get(..length).unwrap_or_default();
        let after = text.get(at..).unwrap_or_default();
        // In lists of arguments there are quotes and a comma in between.
        let value = after.trim_start_matches([' ', '\t', '"', '\'', ',']);
        if !names::tells(name) || value.len() == after.len() {
            continue;
        }
        let start = text.len() - value.len();
        let length = value
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ']'))
            .unwrap_or(value.len());
        let value = value.get(..length).unwrap_or_default();
        if !value.is_empty() && !value.starts_with(['-', '<']) && !names::is_harmless(value) {
            out.replace(start, start + length, &redactor.mark_known(value));
            at = start + length;
        }
    }
    out.finish()
}

/// Bytes of a value without quotes that begins here.
fn value_length(name: &str, after_colon: bool, rest: &str) -> usize {
    let of_header = names::HEADERS.contains(&name.to_ascii_lowercase().as_str());
    let of_words = of_header || (after_colon && name.to_ascii_lowercase().contains("pass"));
    let ends = |c: char| {
        matches!(c, '\n' | '\r' | ',' | '}' | ']' | '"' | '\'' | '`' | '\\')
            || (matches!(c, '&' | ';' | ')') && !of_header)
            || (c.is_whitespace() && !of_words)
    };
    rest.find(ends).unwrap_or(rest.len())
}

/// What Base64 of either alphabet holds, if that is text.
fn decoded(encoded: &str) -> Option<String> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if encoded.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    let mut packed = encoded.trim_end_matches('=');
    if packed.len() % 4 == 1 {
        packed = packed.get(..packed.len().saturating_sub(1))?;
    }
    let bytes = GeneralPurpose::new(alphabet, LENIENT).decode(packed).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rules_can_be_read() {
        assert!(super::RULES.is_ok());
    }
}
