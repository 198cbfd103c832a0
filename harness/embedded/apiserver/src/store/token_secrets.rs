//! Bearer tokens of service accounts: issued on request and into secrets of type `kubernetes.io/service-account-token`,
//! revoked with the secret or the account. The use of a token from a secret is noted on the secret, as the API server does
//! since Kubernetes 1.28 (`LegacyServiceAccountTokenTracking`, `pkg/serviceaccount/legacy.go`).

use super::state::{ObjectKey, State};
use super::{Propagation, Subresource, Writer, write};
use crate::auth::token::{TokenBinding, UserInfo};
use crate::resource::StorageKey;
use crate::{Status, gvr};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Issues a token that ends with the account, with the secret (when it stands in one) or at a time.
pub(super) fn issue(
    state: &mut State,
    namespace: &str,
    name: &str,
    expires: Option<jiff::Timestamp>,
) -> Result<String, Status> {
    let key = account_key(namespace, name);
    let account = state
        .object(&key)
        .ok_or_else(|| Status::not_found("", "serviceaccounts", name))?;
    let uid = account["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let user = UserInfo::service_account(namespace, name, &uid);
    Ok(state.tokens.issue(
        user,
        TokenBinding {
            account_uid: Some(uid),
            secret_uid: None,
            expires,
        },
    ))
}

impl super::Store {
    /// A bearer token of a service account that expires.
    pub(crate) fn issue_token_until(
        &self,
        namespace: &str,
        name: &str,
        expires: jiff::Timestamp,
    ) -> Result<String, Status> {
        issue(&mut self.lock(), namespace, name, Some(expires))
    }

    /// The user behind a bearer token.
    pub(crate) fn authenticate(&self, token: &str) -> Option<UserInfo> {
        let (mut state, now) = (self.lock(), jiff::Timestamp::now());
        let accepted = state.tokens.check(token, now)?;
        if let Some(secret) = accepted.looked_up_in
            && !note_use(&mut state, &secret, now)
        {
            state.tokens.forget(token);
            return None;
        }
        Some(accepted.user)
    }
}

/// Notes on a token's secret that it was used today. Tells whether the token may be used: one whose secret is marked as invalid
/// may not.
fn note_use(state: &mut State, secret_uid: &str, now: jiff::Timestamp) -> bool {
    let Some(key) = state.by_uid(secret_uid).cloned() else {
        return false;
    };
    let Some(secret) = state.object(&key).cloned() else {
        return false;
    };
    let day = |time: jiff::Timestamp| time.strftime("%Y-%m-%d").to_string();
    let (today, tomorrow) = (day(now), day(now + jiff::SignedDuration::from_hours(24)));
    let labels = &secret["metadata"]["labels"];
    // Clocks of several servers differ.
    if labels[LAST_USED] != today.as_str() && labels[LAST_USED] != tomorrow.as_str() {
        let writer = Writer {
            manager: "kube-apiserver".into(),
            dry_run: false,
        };
        let (namespace, part) = (Some(key.namespace.as_str()), Subresource::Main);
        let noted = write::modify(state, &writer, &gvr::SECRETS, namespace, &key.name, part, |secret| {
            secret["metadata"]["labels"][LAST_USED] = json!(today);
            Ok(true)
        });
        if let Err(status) = noted {
            tracing::debug!(secret = key.name, %status, "the use of its token is not noted");
        }
        state.settle();
    }
    labels[INVALID_SINCE].as_str().is_none_or(str::is_empty)
}

/// Fills a new token secret, if its account exists.
pub(super) fn fill(state: &mut State, key: &ObjectKey, secret: &Value) {
    if secret["type"] != TOKEN_TYPE || !secret["data"]["token"].is_null() {
        return;
    }
    let Some(account_name) = secret["metadata"]["annotations"][ACCOUNT_NAME].as_str() else {
        return;
    };
    let Some(account) = state.object(&account_key(&key.namespace, account_name)) else {
        return;
    };
    let account_uid = account["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let wanted = secret["metadata"]["annotations"][ACCOUNT_UID].as_str();
    if wanted.is_some_and(|wanted| wanted != account_uid) {
        return;
    }
    let user = UserInfo::service_account(&key.namespace, account_name, &account_uid);
    let secret_uid = secret["metadata"]["uid"].as_str().map(str::to_owned);
    let token = state.tokens.issue(
        user,
        TokenBinding {
            account_uid: Some(account_uid.clone()),
            secret_uid,
            expires: None,
        },
    );
    let mut new = secret.clone();
    if !new["data"].is_object() {
        new["data"] = json!({});
    }
    new["data"]["token"] = json!(STANDARD.encode(token));
    new["data"]["ca.crt"] = json!(STANDARD.encode(&state.config.ca_pem));
    new["data"]["namespace"] = json!(STANDARD.encode(&key.namespace));
    new["metadata"]["annotations"][ACCOUNT_UID] = json!(account_uid);
    state.put(key, new);
}

/// Fills the secrets that were created before their account.
pub(super) fn fill_waiting(state: &mut State, account: &ObjectKey) {
    for key in secrets_of(state, account) {
        if let Some(secret) = state.object(&key).cloned() {
            fill(state, &key, &secret);
        }
    }
}

pub(super) fn revoke_secret(state: &mut State, secret: &Value) {
    if let Some(uid) = secret["metadata"]["uid"].as_str() {
        state.tokens.revoke_secret(uid);
    }
}

/// Ends all tokens of a removed account and deletes its token secrets.
pub(super) fn revoke_account(state: &mut State, key: &ObjectKey, account: &Value) {
    let uid = account["metadata"]["uid"].as_str().unwrap_or_default();
    state.tokens.revoke_account(uid);
    for secret_key in secrets_of(state, key) {
        let same = state.object(&secret_key).is_some_and(|s| {
            s["metadata"]["annotations"][ACCOUNT_UID]
                .as_str()
                .is_none_or(|u| u == uid)
        });
        if same {
            state.delete_quietly(&secret_key, Propagation::Background);
        }
    }
}

fn secrets_of(state: &State, account: &ObjectKey) -> Vec<ObjectKey> {
    let storage = StorageKey::new("", "secrets");
    let Some(table) = state.table(&storage) else {
        return Vec::new();
    };
    let first = (account.namespace.clone(), String::new());
    table
        .objects
        .range(first..)
        .take_while(|((namespace, _), _)| *namespace == account.namespace)
        .filter(|(_, s)| s["type"] == TOKEN_TYPE && s["metadata"]["annotations"][ACCOUNT_NAME] == account.name.as_str())
        .map(|((namespace, name), _)| ObjectKey {
            storage: storage.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
        })
        .collect()
}

fn account_key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey {
        storage: StorageKey::new("", "serviceaccounts"),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}
