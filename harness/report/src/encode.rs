//! Text from outside (files, clusters, journals) on its way to people and to programs that read logs. There is one encoder
//! per sink; none lets a text end its line, colour a terminal, turn the reading direction, give orders to a build server, or
//! bring markup.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

use crate::model::Report;

/// What it takes as one at the start of a line (`::add-mask::…`).
const ORDER_AT_START: &str = "::";
/// What stands before further lines of a text, so that they are not taken for lines of ours.
const CONTINUED: &str = "\n    | ";

/// Whether a character does something else than being seen.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// A picture of such a character: `␛`, or its number.
fn picture(c: char, out: &mut String) {
    match u32::from(c) {
        code @ 0..=0x1f => out.push(char::from_u32(0x2400 + code).unwrap_or('␀')),
        0x7f => out.push('␡'),
        code => {
            out.push_str("\\u{");
            let _ = write!(out, "{code:x}");
            out.push('}');
        }
    }
}

fn pictured(text: &str, keeps: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| acts(c) && !keeps(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) && !keeps(c) {
            picture(c, &mut out);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A text of one or several lines, of which nothing acts but the line breaks.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    pictured(text, |c| c == '\n' || c == '\t')
}

/// A text on one line: line breaks are pictures as well.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    pictured(text, |c| c == '\t')
}

/// A text for a terminal or a log, in a line of ours: its further lines are marked as being its own.
#[must_use]
pub fn field(text: &str) -> String {
    lines(text.trim_end()).replace('\n', CONTINUED)
}

/// Lines of ours for a terminal or a log, whose texts went through [`field`]: no line gives an order to a build server.
#[must_use]
pub fn terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for part in lines(text).split_inclusive('\n') {
        let blank = part.len() - part.trim_start().len();
        let (front, rest) = part.split_at(blank);
        out.push_str(front);
        if rest.starts_with(ORDER_AT_START) {
            out.push('\\');
        }
        let mut before = ' ';
        let mut rest = rest.chars().peekable();
        while let Some(c) = rest.next() {
            // What a build server takes as an order wherever it stands: `##[…]`, `##vso[…]`, `##teamcity[…]`; `## heading` is none.
            let is_order = c == '#' && before == '#' && rest.peek().is_some_and(|next| !next.is_whitespace());
            if is_order {
                out.push(' ');
            }
            out.push(c);
            before = c;
        }
    }
    out
}

/// JSON for a terminal or a log: what acts is escaped as JSON does, which means the same to who reads it as JSON.
#[must_use]
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        if (acts(c) && c != '\n') || (c == '#' && before == '#') {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

/// A text in Markdown, in a paragraph or a cell of a table: letters and nothing else.
#[must_use]
pub fn markdown(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut out = String::with_capacity(text.len());
    let text = words.join(" ");
    let text = line(&text);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Mentions, and what a renderer would make a link of by itself.
            '@' => out.push_str("&#64;"),
            ':' if rest.peek() == Some(&'/') => out.push_str("&#58;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    // `www.` is a link without any sign of one.
    out.replace("www.", "www&#46;")
}

/// A name or place in Markdown, in the type of code as long as it looks like one.
#[must_use]
pub fn markdown_code(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':' | '#' | '+');
    if !text.is_empty() && text.chars().all(is_plain) {
        format!("`{text}`")
    } else {
        markdown(text)
    }
}

/// A text in JUnit: only what XML can hold, and no line that consumers read as an attachment or property.
#[must_use]
pub fn junit(text: &str) -> String {
    lines(text).replace("[[", "[ [")
}

/// The report with all its texts as people may see them. [`Report`] itself holds them as they are, and so does
/// `report.json`. Nothing when a report can't be copied, which only a bug can cause.
#[must_use]
pub fn printable(report: &Report) -> Option<Report> {
    fn each(value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(changed) = lines(text) {
                    *text = changed;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(each),
            Value::Object(map) => {
                if map.keys().any(|key| matches!(lines(key), Cow::Owned(_))) {
                    *map = std::mem::take(map)
                        .into_iter()
                        .map(|(key, value)| (lines(&key).into_owned(), value))
                        .collect();
                }
                map.values_mut().for_each(each);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut value = serde_json::to_value(report).ok()?;
    each(&mut value);
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{acts, field, json, junit, line, lines, markdown, markdown_code, terminal};

    const EVIL: &str =
        "a\n::add-mask::pass\npass: 59 scenarios\u{1b}[2J\u{1b}]0;owned\u{7} \u{9b}31m\u{202e}x ##[error]y";

    #[test]
    fn what_acts_becomes_a_picture() {
        assert_eq!(line("a\nb\u{1b}[31m\u{7f}\u{202e}\u{9b}"), "a␊b␛[31m␡\\u{202e}\\u{9b}");
        assert_eq!(lines("größe\n\tx"), "größe\n\tx");
        assert_eq!(field("a\nb\r\nc\n"), "a\n    | b␍\n    | c");
    }

    #[test]
    fn nothing_gives_orders_to_a_build_server() {
        let shown = terminal(&format!("x\n  ::error::y\n{}", field(EVIL)));
        assert!(shown.contains("\n  \\::error::y\n"), "{shown}");
        assert!(!shown.contains("##") && !shown.contains('\u{1b}'), "{shown}");
        for line in shown.lines() {
            assert!(!line.trim_start().starts_with("::"), "{line}");
            assert!(!line.starts_with("pass:"), "{line}");
        }
    }

    #[test]
    fn headings_are_no_orders() {
        assert_eq!(
            terminal("## links\n##[group]a ###vso[b]\n"),
            "## links\n# #[group]a # # #vso[b]\n"
        );
    }

    #[test]
    fn json_means_the_same() {
        let text = serde_json::to_string(EVIL).unwrap();
        let shown = json(&text);
        assert!(!shown.chars().any(acts) && !shown.contains("##"), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), EVIL);
    }

    #[test]
    fn markdown_has_no_markup_of_others() {
        let shown = markdown("[x](javascript:alert(1)) ![](http://a.b) <img src=x> `c` **b** @all www.x.y | z\n# h");
        for markup in ["[x]", "](", "<img", "**", "@", "http:", "www.", "\n", " | ", " `c`"] {
            assert!(!shown.contains(markup), "{markup} in {shown}");
        }
        assert_eq!(markdown_code("scenarios/a_b.yaml:9"), "`scenarios/a_b.yaml:9`");
        assert_eq!(markdown_code("a`b|c\nd"), "a\\`b\\|c d");
    }

    #[test]
    fn no_attachment_comes_from_outside() {
        assert!(!junit("x\n[[ATTACHMENT|/etc/passwd]]").contains("[["));
    }

    proptest! {
        #[test]
        fn no_text_acts(text in any::<String>()) {
            prop_assert!(!line(&text).chars().any(|c| acts(c) && c != '\t'));
            prop_assert!(!markdown(&text).chars().any(acts));
            prop_assert!(!terminal(&field(&text)).chars().any(|c| acts(c) && c != '\n' && c != '\t'));
            let quoted = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&json(&quoted)).unwrap(), text);
        }
    }
}
