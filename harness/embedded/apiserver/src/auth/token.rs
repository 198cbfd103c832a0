//! Bearer tokens and the users behind them. Tokens are random and opaque; nothing can be read from them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// The group that may do everything.
pub(crate) const MASTERS: &str = "system:masters";

/// An authenticated user.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct UserInfo {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with these groups, and the group of all authenticated users.
    pub(crate) fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|&g| g.to_owned()).collect();
        groups.push("system:authenticated".into());
        Self {
            name: name.to_owned(),
            groups,
            ..Self::default()
        }
    }

    pub(crate) fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let namespace_group = format!("system:serviceaccounts:{namespace}");
        let mut user = Self::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &namespace_group],
        );
        uid.clone_into(&mut user.uid);
        user
    }

    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|g| g == MASTERS)
    }
}

/// What ends a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TokenBinding {
    pub(crate) account_uid: Option<String>,
    pub(crate) secret_uid: Option<String>,
    pub(crate) expires: Option<jiff::Timestamp>,
}

/// All valid tokens of a cluster.
#[derive(Default)]
pub(crate) struct TokenTable {
    tokens: HashMap<String, (UserInfo, TokenBinding)>,
}

impl fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenTable({} tokens)", self.tokens.len())
    }
}

impl TokenTable {
    /// Makes a new token for a user.
    pub(crate) fn issue(&mut self, user: UserInfo, binding: TokenBinding) -> String {
        let mut bytes = [0_u8; 32];
        rand::rng().fill_bytes(&mut bytes);
        let token = URL_SAFE_NO_PAD.encode(bytes);
        self.tokens.insert(token.clone(), (user, binding));
        token
    }

    /// Accepts a token that was chosen elsewhere.
    pub(crate) fn accept(&mut self, token: &str, user: UserInfo) {
        self.tokens.insert(token.to_owned(), (user, TokenBinding::default()));
    }

    /// The user behind a token that is valid at `now`.
    pub(crate) fn user(&self, token: &str, now: jiff::Timestamp) -> Option<&UserInfo> {
        let (user, binding) = self.tokens.get(token)?;
        binding.expires.is_none_or(|expires| now < expires).then_some(user)
    }

    pub(crate) fn revoke_secret(&mut self, uid: &str) {
        self.tokens
            .retain(|_, (_, binding)| binding.secret_uid.as_deref() != Some(uid));
    }

    pub(crate) fn revoke_account(&mut self, uid: &str) {
        self.tokens
            .retain(|_, (_, binding)| binding.account_uid.as_deref() != Some(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_with_what_they_are_bound_to() {
        let mut table = TokenTable::default();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let later = now + jiff::SignedDuration::from_secs(60);
        let user = || UserInfo::service_account("a", "b", "u1");
        let bound = |secret: Option<&str>, expires| TokenBinding {
            account_uid: Some("u1".into()),
            secret_uid: secret.map(str::to_owned),
            expires,
        };
        let plain = table.issue(user(), bound(None, None));
        let in_secret = table.issue(user(), bound(Some("s1"), None));
        let short = table.issue(user(), bound(None, Some(later)));
        assert_eq!(table.user(&plain, now).unwrap().name, "system:serviceaccount:a:b");
        assert!(table.user(&short, now).is_some());
        assert!(table.user(&short, later).is_none());
        table.revoke_secret("s1");
        assert!(table.user(&in_secret, now).is_none());
        assert!(table.user(&plain, now).is_some());
        table.revoke_account("u1");
        assert!(table.user(&plain, now).is_none());
        assert!(!format!("{table:?}").contains(&short));
    }
}
