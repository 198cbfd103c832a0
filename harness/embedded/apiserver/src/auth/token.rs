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

/// All valid tokens of a cluster, and what the server remembers of those that it has checked.
pub(crate) struct TokenTable {
    tokens: HashMap<String, (UserInfo, TokenBinding)>,
    /// For so long a token that was accepted is accepted without another look.
    remembered_for: jiff::SignedDuration,
    /// Accepted tokens, and until when.
    remembered: HashMap<String, (UserInfo, jiff::Timestamp)>,
}

/// Who is behind a token that is accepted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) user: UserInfo,
    /// The Secret that the token stands in, when the server has looked just now.
    pub(crate) looked_up_in: Option<String>,
}

/// Tokens to remember before those that have expired are forgotten.
const MANY: usize = 1024;

impl fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenTable({} tokens)", self.tokens.len())
    }
}

impl TokenTable {
    pub(crate) fn new(remembered_for: std::time::Duration) -> Self {
        Self {
            tokens: HashMap::new(),
            remembered_for: remembered_for.try_into().unwrap_or(jiff::SignedDuration::ZERO),
            remembered: HashMap::new(),
        }
    }

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

    /// The user behind a token at `now`: one that is valid, or that was when it was looked at a short while ago.
    pub(crate) fn check(&mut self, token: &str, now: jiff::Timestamp) -> Option<Accepted> {
        if let Some((user, until)) = self.remembered.get(token)
            && now < *until
        {
            return Some(Accepted {
                user: user.clone(),
                looked_up_in: None,
            });
        }
        let valid = self
            .tokens
            .get(token)
            .filter(|(_, binding)| binding.expires.is_none_or(|expires| now < expires));
        let Some((user, binding)) = valid else {
            self.remembered.remove(token);
            return None;
        };
        let accepted = Accepted {
            user: user.clone(),
            looked_up_in: binding.secret_uid.clone(),
        };
        if self.remembered.len() >= MANY {
            self.remembered.retain(|_, (_, until)| now < *until);
        }
        if let Ok(until) = now.checked_add(self.remembered_for) {
            self.remembered.insert(token.to_owned(), (accepted.user.clone(), until));
        }
        Some(accepted)
    }

    /// Forgets that a token was accepted.
    pub(crate) fn forget(&mut self, token: &str) {
        self.remembered.remove(token);
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
    use std::time::Duration;

    #[test]
    fn tokens_end_with_what_they_are_bound_to() {
        let mut table = TokenTable::new(Duration::ZERO);
        let now = jiff::Timestamp::UNIX_EPOCH;
        let later = now + jiff::SignedDuration::from_secs(60);
        let plain = table.issue(user(), bound(None, None));
        let in_secret = table.issue(user(), bound(Some("s1"), None));
        let short = table.issue(user(), bound(None, Some(later)));
        assert_eq!(table.check(&plain, now).unwrap().user.name, "system:serviceaccount:a:b");
        assert!(table.check(&short, now).is_some());
        assert!(table.check(&short, later).is_none());
        table.revoke_secret("s1");
        assert!(table.check(&in_secret, now).is_none());
        assert!(table.check(&plain, now).is_some());
        table.revoke_account("u1");
        assert!(table.check(&plain, now).is_none());
        assert!(!format!("{table:?}").contains(&short));
    }

    #[test]
    fn an_accepted_token_is_accepted_for_a_while_after_its_end() {
        let mut table = TokenTable::new(Duration::from_secs(10));
        let at = |seconds| jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds);
        let token = table.issue(user(), bound(Some("s1"), None));
        let unused = table.issue(user(), bound(Some("s1"), None));
        assert_eq!(table.check(&token, at(0)).unwrap().looked_up_in.as_deref(), Some("s1"));
        assert_eq!(table.check(&token, at(5)).unwrap().looked_up_in, None);
        table.revoke_secret("s1");
        assert!(
            table.check(&token, at(9)).is_some(),
            "counted from the look, not from the last use"
        );
        assert!(table.check(&token, at(10)).is_none());
        assert!(table.check(&unused, at(1)).is_none(), "nobody had used it");
    }

    fn user() -> UserInfo {
        UserInfo::service_account("a", "b", "u1")
    }

    fn bound(secret: Option<&str>, expires: Option<jiff::Timestamp>) -> TokenBinding {
        TokenBinding {
            account_uid: Some("u1".into()),
            secret_uid: secret.map(str::to_owned),
            expires,
        }
    }
}
