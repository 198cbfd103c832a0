//! Secrets in free text, by how they look and by the words in front of them.

use std::borrow::Cow;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::{Captures, Regex};

use super::{Redactor, is_hidden, names};

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
    header: Regex,
    user_info: Regex,
    set: Regex,
    flag: Regex,
    name: Regex,
    base64: Regex,
}

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
        header: Regex::new(
            r#"(?im)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token)(\\?["'])?(\s*[:=]\s*)(\\?["'])?([^"'\r\n,}\]\\]+)"#,
        )?,
        user_info: Regex::new(r#"([A-Za-z][A-Za-z0-9+.-]*://)([^\s/?#@"'<>\\]+)@"#)?,
        set: Regex::new(r#"(--[a-z-]*set(?:-[a-z]+)?[=\s]+['"]?)([^\s'"]+)"#)?,
        flag: Regex::new(r#"(?i)(^|[\s'"\[,])(--?[a-z][a-z0-9.-]*)(=|\s+|['"],\s*['"])([^\s'"\],]+)"#)?,
        name: Regex::new(r#"([A-Za-z_.][A-Za-z0-9_.-]*)(\\*["'])?(\s*[:=]\s*)(\\*["'])?"#)?,
        base64: Regex::new(r"[A-Za-z0-9+/_-]{16,}={0,2}")?,
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
    let mut replace = |regex: &Regex, by: &dyn Fn(&Captures<'_>) -> String| {
        if let Cow::Owned(changed) = regex.replace_all(&text, |captures: &Captures<'_>| by(captures)) {
            text = Cow::Owned(changed);
        }
    };
    let group = |captures: &Captures<'_>, number: usize| -> String {
        captures
            .get(number)
            .map_or_else(String::new, |found| found.as_str().to_owned())
    };
    let whole = |captures: &Captures<'_>| redactor.mark_known(&group(captures, 0));
    replace(&rules.pem, &whole);
    replace(&rules.encoded_pem, &|captures| {
        let found = group(captures, 0);
        let packed: String = found.replace("\\n", "").replace("\\r", "").split_whitespace().collect();
        match decoded(&packed) {
            Some(text) if !text.contains("PRIVATE KEY") => found,
            _ => redactor.mark_known(&found),
        }
    });
    replace(&rules.jwt, &whole);
    replace(&rules.known_forms, &whole);
    replace(&rules.scheme, &|captures| {
        let (scheme, token) = (group(captures, 1), group(captures, 3));
        if is_credential(&scheme, &token) {
            format!("{scheme}{}{}", group(captures, 2), redactor.mark_known(&token))
        } else {
            group(captures, 0)
        }
    });
    replace(&rules.header, &|captures| {
        let value = group(captures, 5);
        // What a scheme was recognised in is replaced already, and so is `<not shown>` itself.
        let value = if value.contains(meshproof_verdict::question::HIDDEN) || names::is_harmless(value.trim()) {
            value
        } else {
            redactor.mark_known(&value)
        };
        let front: String = (1..=4).map(|number| group(captures, number)).collect();
        format!("{front}{value}")
    });
    replace(&rules.user_info, &|captures| {
        let info = group(captures, 2);
        redactor.remember(info.split_once(':').map_or(info.as_str(), |(_, password)| password));
        format!("{}{}@", group(captures, 1), redactor.mark(&info))
    });
    replace(&rules.set, &|captures| {
        format!("{}{}", group(captures, 1), set_values(redactor, &group(captures, 2)))
    });
    replace(&rules.flag, &|captures| {
        let value = group(captures, 4);
        if names::tells(&group(captures, 2)) && !value.starts_with('-') && !value.starts_with('<') {
            let front: String = (1..=3).map(|number| group(captures, number)).collect();
            format!("{front}{}", redactor.mark_known(&value))
        } else {
            group(captures, 0)
        }
    });
    if let Some(changed) = named_values(redactor, rules, &text) {
        text = Cow::Owned(changed);
    }
    if depth < DEEPEST {
        let mut replace = |regex: &Regex| {
            let changed = regex.replace_all(&text, |captures: &Captures<'_>| {
                let found = group(captures, 0);
                match decoded(&found) {
                    Some(inside) if clean(redactor, &inside, depth + 1) != inside => redactor.mark_known(&found),
                    _ => found,
                }
            });
            if let Cow::Owned(changed) = changed {
                text = Cow::Owned(changed);
            }
        };
        replace(&rules.base64);
    }
    text.into_owned()
}

/// Values of `--set name=value,other=value`, without the values.
pub(super) fn set_values(redactor: &Redactor, pairs: &str) -> String {
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if names::is_harmless(value) => format!("{name}={value}"),
        Some((name, value)) => format!("{name}={}", redactor.mark(value)),
        None => redactor.mark(pair),
    };
    if pairs.starts_with('<') {
        return pairs.to_owned();
    }
    // A comma inside of a value is `\,` for Helm: what follows it has no name and is hidden as well.
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

/// Replaces values behind names that tell: `password: x`, `"token":"x"`, `API_KEY=x`, `?token=x`.
fn named_values(redactor: &Redactor, rules: &Rules, text: &str) -> Option<String> {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = rules.name.captures_at(text, at) {
        let (Some(whole), Some(name)) = (found.get(0), found.get(1)) else {
            break;
        };
        at = whole.end();
        if !names::tells(name.as_str()) {
            // The value may be a name itself: `a: token=x`.
            continue;
        }
        let separator = found.get(3).map_or("", |separator| separator.as_str());
        let quote = found.get(4).map(|quote| quote.as_str());
        let rest = text.get(at..).unwrap_or_default();
        let length = value_length(name.as_str(), separator, quote, rest);
        let value = rest.get(..length).unwrap_or_default();
        let is_secret = !value.is_empty()
            && !value.starts_with(['<', '{', '['])
            && !value.contains(meshproof_verdict::question::HIDDEN)
            && !names::is_harmless(value);
        if is_secret {
            out.push_str(text.get(copied..at).unwrap_or_default());
            out.push_str(&redactor.mark_known(value));
            at += length;
            copied = at;
        }
    }
    if copied == 0 {
        return None;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Some(out)
}

/// Bytes of a value that begins here.
fn value_length(name: &str, separator: &str, quote: Option<&str>, rest: &str) -> usize {
    if let Some(quote) = quote {
        return rest.find(quote).unwrap_or(rest.len());
    }
    let of_words = separator.contains(':') && name.to_ascii_lowercase().contains("pass");
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | ',' | ';' | '&' | '}' | ']' | ')' | '"' | '\'' | '`' | '\\'
        ) || (c.is_whitespace() && !of_words)
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
