//! Names that tell that what they name is a secret, and values that can't be one.

/// Words that tell it by themselves.
const TELLING: [&str; 27] = [
    "password",
    "passwords",
    "passwd",
    "pwd",
    "passphrase",
    "passcode",
    "token",
    "tokens",
    "jwt",
    "secret",
    "secrets",
    "credential",
    "credentials",
    "creds",
    "apikey",
    "accesskey",
    "privatekey",
    "secretkey",
    "authkey",
    "signature",
    "cookie",
    "authorization",
    "auth",
    "bearer",
    "pgpassword",
    "dockerconfigjson",
    "dockercfg",
];
/// Words that tell it in front of or behind `key`.
const KEYS: [&str; 20] = [
    "api",
    "access",
    "private",
    "secret",
    "signing",
    "encryption",
    "master",
    "account",
    "shared",
    "client",
    "ssh",
    "tls",
    "issuer",
    "data",
    "pem",
    "license",
    "storage",
    "host",
    "deploy",
    "auth",
];
/// Last words of names that name something about a secret.
const ABOUT: [&str; 32] = [
    "name",
    "names",
    "namespace",
    "ref",
    "refs",
    "file",
    "files",
    "path",
    "dir",
    "mount",
    "type",
    "kind",
    "ttl",
    "seconds",
    "expiry",
    "expiration",
    "expires",
    "audience",
    "audiences",
    "count",
    "length",
    "size",
    "version",
    "policy",
    "enabled",
    "required",
    "review",
    "reviews",
    "number",
    "status",
    "age",
    "method",
];
/// Headers that hold secrets and whose name does not tell.
pub(super) const HEADERS: [&str; 6] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-amz-security-token",
    "x-forwarded-client-cert",
];

/// The words of a name: `clientSecret`, `CLIENT_SECRET` and `client-secret` have the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_lower = false;
    for c in name.chars() {
        let breaks = !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && before_lower);
        if breaks && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        before_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether what a name names is a secret.
#[must_use]
pub(super) fn tells(name: &str) -> bool {
    if name.len() > 200 {
        return false;
    }
    let words = words(name);
    let Some(last) = words.last() else { return false };
    if ABOUT.contains(&last.as_str()) {
        return false;
    }
    words.iter().any(|word| TELLING.contains(&word.as_str()))
        || (words.len() > 1
            && words.iter().any(|word| {
                word == "pass" || word == "pat" || word == "keypem" || word == "otp" || word == "sas" || word == "dsn"
            }))
        || (words.iter().any(|word| word == "key" || word == "keys")
            && words.iter().any(|word| KEYS.contains(&word.as_str())))
}

/// Whether a header holds a secret.
#[must_use]
pub(super) fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    HEADERS.contains(&name.as_str()) || tells(&name)
}

/// Whether a value can't be a secret, whatever it is the value of: a switch, a small number or duration, an address, the
/// name of a host in a cluster, a reference to another variable.
#[must_use]
pub(super) fn is_harmless(value: &str) -> bool {
    const WORDS: [&str; 17] = [
        "", "true", "false", "yes", "no", "on", "off", "null", "none", "info", "warn", "warning", "debug", "error",
        "trace", "default", "json",
    ];
    if WORDS.contains(&value.to_ascii_lowercase().as_str()) {
        return true;
    }
    if value.starts_with("$(") && value.ends_with(')') {
        return true;
    }
    let is_short_number = value.len() <= 8
        && value.starts_with(|c: char| c.is_ascii_digit())
        && value.chars().filter(char::is_ascii_digit).count() <= 5
        && value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len() <= 2;
    is_short_number || value.split(',').all(is_address)
}

fn is_address(value: &str) -> bool {
    if value.parse::<std::net::SocketAddr>().is_ok() || value.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    if let Some((address, length)) = value.split_once('/') {
        return address.parse::<std::net::IpAddr>().is_ok() && length.parse::<u8>().is_ok();
    }
    let (host, port) = value.split_once(':').unwrap_or((value, "0"));
    let host = host.trim_end_matches('.');
    port.parse::<u16>().is_ok()
        && (host.ends_with(".svc")
            || host.ends_with(".svc.cluster.local")
            || host == "cluster.local"
            || host == "localhost")
        && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::{is_harmless, is_secret_header, tells};

    #[test]
    fn names_tell_in_every_spelling() {
        for name in [
            "password",
            "DB_PASSWORD",
            "dbPassword",
            "clientSecret",
            "imagePullSecret",
            "--token",
            "client-key-data",
            "AWS_SECRET_ACCESS_KEY",
            "api_key",
            "apiKey",
            "X-Api-Key",
            "identity.issuer.tls.keyPEM",
            "DB_PASS",
            "GITHUB_PAT",
            ".dockerconfigjson",
            "credentials",
        ] {
            assert!(tells(name), "{name}");
        }
        for name in [
            "secretName",
            "secretKeyRef.name",
            "tokenExpirationSeconds",
            "key",
            "app",
            "pass",
            "keyRef",
            "publicName",
            "token_file",
            "kind",
            "",
        ] {
            assert!(!tells(name), "{name}");
        }
        assert!(is_secret_header("Cookie") && is_secret_header("X-API-Key") && !is_secret_header("l5d-client-id"));
    }

    #[test]
    fn switches_numbers_and_addresses_are_harmless() {
        for value in [
            "true",
            "8080",
            "10s",
            "100Mi",
            "10.0.0.1:80",
            "10.0.0.0/8,172.16.0.0/12",
            "$(_pod_name)",
            "a.b.svc:80",
        ] {
            assert!(is_harmless(value), "{value}");
        }
        for value in ["hunter2", "12345678", "CANARY", "a.example.com", "$(x)y"] {
            assert!(!is_harmless(value), "{value}");
        }
    }
}
