//! Syntax of names, labels and uids, with the wording of `k8s.io/apimachinery/pkg/util/validation`.

use rand::Rng;

const DNS_1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS_1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// The part of `generateName` that is kept, so that the name fits a DNS label with its suffix.
const GENERATE_NAME_KEEPS: usize = 58;
/// Kubernetes' alphabet for random suffixes: no vowels, so no words.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn dns_label_chars(label: &str) -> bool {
    let bytes = label.as_bytes();
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(|&b| alphanumeric(b))
        && bytes.last().is_some_and(|&b| alphanumeric(b))
        && bytes.iter().all(|&b| alphanumeric(b) || b == b'-')
}

/// At most 253 characters, labels joined by dots.
pub(crate) fn dns_1123_subdomain(name: &str) -> Result<(), String> {
    if name.len() > 253 {
        return Err("must be no more than 253 characters".into());
    }
    if name.split('.').all(dns_label_chars) {
        Ok(())
    } else {
        Err(DNS_1123_SUBDOMAIN.into())
    }
}

/// At most 63 characters; what namespaces need.
pub(crate) fn dns_1123_label(name: &str) -> Result<(), String> {
    if name.len() > 63 {
        return Err("must be no more than 63 characters".into());
    }
    if dns_label_chars(name) {
        Ok(())
    } else {
        Err(DNS_1123_LABEL.into())
    }
}

/// At most 63 characters, starting with a letter; what Services need.
pub(crate) fn dns_1035_label(name: &str) -> Result<(), String> {
    if name.len() > 63 {
        return Err("must be no more than 63 characters".into());
    }
    let starts_with_letter = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if starts_with_letter && dns_label_chars(name) {
        Ok(())
    } else {
        Err(DNS_1035_LABEL.into())
    }
}

/// Names that become a segment of a path: what RBAC objects need.
pub(crate) fn path_segment(name: &str) -> Result<(), String> {
    match name {
        "." | ".." => Err(format!("may not be '{name}'")),
        name if name.contains('/') => Err("may not contain '/'".into()),
        name if name.contains('%') => Err("may not contain '%'".into()),
        _ => Ok(()),
    }
}

fn qualified_chars(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `[prefix/]name` of labels, annotations and finalizers.
pub(crate) fn label_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if prefix.is_empty() {
                return Err("prefix part must be non-empty".into());
            }
            dns_1123_subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Err("name part must be non-empty".into());
    }
    if name.len() > 63 {
        return Err("name part must be no more than 63 characters".into());
    }
    if qualified_chars(name) {
        Ok(())
    } else {
        Err(QUALIFIED_NAME.into())
    }
}

/// Empty or at most 63 characters.
pub(crate) fn label_value(value: &str) -> Result<(), String> {
    if value.len() > 63 {
        return Err("must be no more than 63 characters".into());
    }
    if value.is_empty() || qualified_chars(value) {
        Ok(())
    } else {
        Err(LABEL_VALUE.into())
    }
}

/// Names of service and container ports: at most 15 characters, a letter among them.
pub(crate) fn port_name(name: &str) -> Result<(), String> {
    if name.len() > 15 {
        return Err("must be no more than 15 characters".into());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        return Err("must not contain consecutive hyphens".into());
    }
    if dns_label_chars(name) {
        Ok(())
    } else {
        Err("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into())
    }
}

/// A name from a `generateName`: five random characters behind it.
pub(crate) fn generate(base: &str) -> String {
    let cut = (0..=GENERATE_NAME_KEEPS.min(base.len()))
        .rev()
        .find(|&i| base.is_char_boundary(i))
        .unwrap_or(0);
    let mut name = base[..cut].to_owned();
    let mut rng = rand::rng();
    for _ in 0..5 {
        name.push(char::from(SUFFIX_ALPHABET[rng.random_range(0..SUFFIX_ALPHABET.len())]));
    }
    name
}

/// A random (version 4) UUID.
pub(crate) fn new_uid() -> String {
    let mut b: [u8; 16] = rand::rng().random();
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("web", true, true, true)]
    #[case("a.b", true, false, false)]
    #[case("1web", true, true, false)]
    #[case("Web", false, false, false)]
    #[case("web-", false, false, false)]
    #[case("", false, false, false)]
    #[case("a..b", false, false, false)]
    fn dns_names(#[case] name: &str, #[case] subdomain: bool, #[case] label: bool, #[case] service: bool) {
        assert_eq!(dns_1123_subdomain(name).is_ok(), subdomain);
        assert_eq!(dns_1123_label(name).is_ok(), label);
        assert_eq!(dns_1035_label(name).is_ok(), service);
    }

    #[test]
    fn service_names_end_at_63_characters() {
        assert!(dns_1035_label(&"a".repeat(63)).is_ok());
        assert_eq!(
            dns_1035_label(&"a".repeat(64)).unwrap_err(),
            "must be no more than 63 characters"
        );
    }

    #[rstest]
    #[case("app", true)]
    #[case("example.com/app", true)]
    #[case("/app", false)]
    #[case("Example.com/app", false)]
    #[case("a/b/c", false)]
    #[case("app_1.x", true)]
    fn label_keys(#[case] key: &str, #[case] ok: bool) {
        assert_eq!(label_key(key).is_ok(), ok);
    }

    #[test]
    fn generated_names_fit_a_label() {
        let name = generate(&"x".repeat(80));
        assert_eq!(name.len(), 63);
        assert_ne!(generate("a-"), generate("a-"));
        assert_eq!(new_uid().len(), 36);
    }
}
