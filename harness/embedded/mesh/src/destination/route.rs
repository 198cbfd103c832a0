//! HTTPRoutes that are attached to Services, as the policy controller reads them.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::objects::{Key, key};

/// Name of the controller that answers in a route's status.
pub const POLICY_CONTROLLER: &str = "linkerd.io/policy-controller";

/// An HTTPRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// API group.
    pub group: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Identity of the object.
    pub uid: String,
    /// Creation time as written; the older route wins a tie.
    pub created: String,
    /// The Services it is attached to.
    pub parents: Vec<Parent>,
    /// Its rules, in the order in which they stand.
    pub rules: Vec<Rule>,
    /// What in it is not supported; such a route has no effect.
    pub unsupported: Option<String>,
}

/// A Service that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Namespace and name of the Service.
    pub service: Key,
    /// Only this port, or all.
    pub port: Option<u16>,
    /// The reference as it stands in the route.
    pub reference: Value,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// One of these must match; none means that every request does.
    pub matches: Vec<Match>,
    /// Changes to requests and responses.
    pub filters: Filters,
    /// Where requests go.
    pub backends: Vec<BackendRef>,
}

/// A condition on a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// Condition on the path.
    pub path: Option<PathMatch>,
    /// Headers that must have these values.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Method that the request must have.
    pub method: Option<Method>,
}

/// A condition on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole leading segments of the path.
    Prefix(String),
}

/// Header changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    /// Changes to the request.
    pub request: HeaderChanges,
    /// Changes to the response.
    pub response: HeaderChanges,
}

/// One header modifier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderChanges {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

/// A backend of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendRef {
    /// Namespace and name of the Service.
    pub service: Key,
    /// Port of the Service.
    pub port: u16,
    /// Weight; 1 when nothing is said.
    pub weight: u32,
    /// Changes for requests to this backend alone.
    pub filters: Filters,
}

impl HeaderChanges {
    /// Applies the changes.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }

    fn extend(&mut self, other: Self) {
        self.set.extend(other.set);
        self.add.extend(other.add);
        self.remove.extend(other.remove);
    }
}

impl Match {
    /// Whether a request matches.
    #[must_use]
    pub fn matches(&self, method: &Method, path: &str, headers: &HeaderMap) -> bool {
        let path_matches = match &self.path {
            None => true,
            Some(PathMatch::Exact(exact)) => path == exact,
            Some(PathMatch::Prefix(prefix)) => {
                let prefix = prefix.trim_end_matches('/');
                path.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        };
        path_matches
            && self.method.as_ref().is_none_or(|expected| expected == method)
            && self
                .headers
                .iter()
                .all(|(name, value)| headers.get_all(name).iter().any(|present| present == value))
    }

    /// Precedence among matches, greater first: exact path, longer prefix, method, number of headers.
    #[must_use]
    pub fn precedence(&self) -> (bool, usize, bool, usize) {
        let (exact, length) = match &self.path {
            None => (false, 0),
            Some(PathMatch::Exact(path)) => (true, path.len()),
            Some(PathMatch::Prefix(path)) => (false, path.len()),
        };
        (exact, length, self.method.is_some(), self.headers.len())
    }
}

impl Route {
    pub(crate) fn read(object: &Value) -> Self {
        let (namespace, name) = key(object);
        let group = object["apiVersion"]
            .as_str()
            .and_then(|version| version.split_once('/'));
        let metadata = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let rules: Result<Vec<_>, String> = array(&object["spec"]["rules"])
            .map(|rule| read_rule(rule, &namespace))
            .collect();
        let hostnames = array(&object["spec"]["hostnames"]).next().is_some();
        let (rules, unsupported) = match rules {
            Ok(_) if hostnames => (Vec::new(), Some("hostnames are not modelled".to_owned())),
            Ok(rules) => (rules, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        Self {
            group: group.map_or("", |(group, _)| group).to_owned(),
            uid: metadata("uid"),
            created: metadata("creationTimestamp"),
            parents: array(&object["spec"]["parentRefs"])
                .filter_map(|reference| read_parent(reference, &namespace))
                .collect(),
            rules,
            unsupported,
            namespace,
            name,
        }
    }

    /// What the policy controller says about this route in its status.
    #[must_use]
    pub fn status(&self, generation: Option<i64>, now: &str, service_exists: impl Fn(&Key) -> bool) -> Vec<Value> {
        let resolved = self
            .rules
            .iter()
            .flat_map(|rule| &rule.backends)
            .find(|backend| !service_exists(&backend.service));
        let condition = |kind: &str, ok: bool, reason: &str, message: &str| {
            json!({
                "type": kind, "status": if ok { "True" } else { "False" }, "reason": reason, "message": message,
                "lastTransitionTime": now, "observedGeneration": generation,
            })
        };
        let resolved_refs = match resolved {
            None => condition("ResolvedRefs", true, "ResolvedRefs", ""),
            Some(_) => condition("ResolvedRefs", false, "BackendNotFound", ""),
        };
        let accepted = |parent: &Parent| match &self.unsupported {
            Some(problem) => condition("Accepted", false, "UnsupportedValue", problem),
            None if service_exists(&parent.service) => condition("Accepted", true, "Accepted", ""),
            None => condition("Accepted", false, "NoMatchingParent", ""),
        };
        self.parents
            .iter()
            .map(|parent| {
                json!({
                    "controllerName": POLICY_CONTROLLER,
                    "parentRef": parent.reference,
                    "conditions": [accepted(parent), resolved_refs],
                })
            })
            .collect()
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}

/// A reference to a Service; other parents are none of the mesh's business.
fn read_parent(reference: &Value, namespace: &str) -> Option<Parent> {
    let group = reference["group"].as_str().unwrap_or("gateway.networking.k8s.io");
    if !matches!(group, "" | "core") || reference["kind"].as_str() != Some("Service") {
        return None;
    }
    Some(Parent {
        service: (
            reference["namespace"].as_str().unwrap_or(namespace).to_owned(),
            reference["name"].as_str()?.to_owned(),
        ),
        port: port(&reference["port"]),
        reference: reference.clone(),
    })
}

fn read_rule(rule: &Value, namespace: &str) -> Result<Rule, String> {
    for field in ["timeouts", "retry", "sessionPersistence"] {
        if !rule[field].is_null() {
            return Err(format!("rules[].{field} is not modelled"));
        }
    }
    Ok(Rule {
        matches: array(&rule["matches"]).map(read_match).collect::<Result<_, _>>()?,
        filters: read_filters(&rule["filters"])?,
        backends: array(&rule["backendRefs"])
            .map(|backend| read_backend(backend, namespace))
            .collect::<Result<_, _>>()?,
    })
}

fn read_match(value: &Value) -> Result<Match, String> {
    if array(&value["queryParams"]).next().is_some() {
        return Err("matches[].queryParams is not modelled".to_owned());
    }
    let path = match &value["path"] {
        Value::Null => None,
        path => {
            let text = path["value"].as_str().unwrap_or("/").to_owned();
            match path["type"].as_str().unwrap_or("PathPrefix") {
                "Exact" => Some(PathMatch::Exact(text)),
                "PathPrefix" => Some(PathMatch::Prefix(text)),
                other => return Err(format!("matches[].path.type {other} is not modelled")),
            }
        }
    };
    let mut headers = Vec::new();
    for header in array(&value["headers"]) {
        match header["type"].as_str().unwrap_or("Exact") {
            "Exact" => headers.push(read_header(header)?),
            other => return Err(format!("matches[].headers[].type {other} is not modelled")),
        }
    }
    let method = match value["method"].as_str() {
        None => None,
        Some(name) => Some(
            name.parse()
                .map_err(|_| format!("matches[].method {name} is no method"))?,
        ),
    };
    Ok(Match { path, headers, method })
}

fn read_header(header: &Value) -> Result<(HeaderName, HeaderValue), String> {
    let name = read_header_name(&header["name"])?;
    let text = header["value"].as_str().unwrap_or_default();
    let value = text
        .parse()
        .map_err(|_| format!("the header value {text:?} cannot be sent"))?;
    Ok((name, value))
}

fn read_header_name(name: &Value) -> Result<HeaderName, String> {
    let text = name.as_str().unwrap_or_default();
    text.parse().map_err(|_| format!("{text:?} is no header name"))
}

fn read_filters(filters: &Value) -> Result<Filters, String> {
    let mut all = Filters::default();
    for filter in array(filters) {
        match filter["type"].as_str().unwrap_or_default() {
            "RequestHeaderModifier" => all.request.extend(read_changes(&filter["requestHeaderModifier"])?),
            "ResponseHeaderModifier" => all.response.extend(read_changes(&filter["responseHeaderModifier"])?),
            other => return Err(format!("the filter {other} is not modelled")),
        }
    }
    Ok(all)
}

fn read_changes(changes: &Value) -> Result<HeaderChanges, String> {
    let headers = |field: &str| array(&changes[field]).map(read_header).collect::<Result<Vec<_>, _>>();
    Ok(HeaderChanges {
        set: headers("set")?,
        add: headers("add")?,
        remove: array(&changes["remove"])
            .map(read_header_name)
            .collect::<Result<_, _>>()?,
    })
}

fn read_backend(backend: &Value, namespace: &str) -> Result<BackendRef, String> {
    let (group, kind) = (
        backend["group"].as_str().unwrap_or(""),
        backend["kind"].as_str().unwrap_or("Service"),
    );
    if !matches!(group, "" | "core") || kind != "Service" {
        return Err(format!("a backend of kind {kind} is not modelled"));
    }
    let name = backend["name"].as_str().unwrap_or_default();
    let weight = match &backend["weight"] {
        Value::Null => 1,
        weight => weight
            .as_u64()
            .and_then(|weight| u32::try_from(weight).ok())
            .ok_or_else(|| format!("the weight {weight} of {name} is no number between 0 and 1000000"))?,
    };
    Ok(BackendRef {
        service: (
            backend["namespace"].as_str().unwrap_or(namespace).to_owned(),
            name.to_owned(),
        ),
        port: port(&backend["port"]).ok_or_else(|| format!("the backend {name} has no port"))?,
        weight,
        filters: read_filters(&backend["filters"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Match, PathMatch, Route};
    use http::{HeaderMap, Method};
    use serde_json::{Value, json};

    fn route(spec: &Value) -> Route {
        Route::read(&json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"namespace": "lab", "name": "split", "uid": "u"}, "spec": spec,
        }))
    }

    #[test]
    fn only_services_are_parents() {
        let route = route(&json!({"parentRefs": [
            {"group": "core", "kind": "Service", "name": "split", "port": 8080},
            {"name": "some-gateway"},
        ], "rules": [{"backendRefs": [{"name": "echo", "port": 8080, "weight": 70}, {"name": "echo-east", "port": 8080}]}]}));
        assert_eq!(route.parents.len(), 1);
        assert_eq!(route.parents[0].port, Some(8080));
        let weights: Vec<_> = route.rules[0].backends.iter().map(|backend| backend.weight).collect();
        assert_eq!(weights, [70, 1]);
        assert_eq!(route.group, "gateway.networking.k8s.io");
    }

    #[test]
    fn what_is_not_modelled_is_said_in_the_status_and_has_no_effect() {
        let route = route(&json!({
            "parentRefs": [{"group": "", "kind": "Service", "name": "split"}],
            "rules": [{"filters": [{"type": "URLRewrite"}]}],
        }));
        assert!(route.rules.is_empty());
        let status = route.status(None, "now", |_| true);
        assert_eq!(status[0]["conditions"][0]["reason"], "UnsupportedValue");
        assert!(
            status[0]["conditions"][0]["message"]
                .as_str()
                .unwrap()
                .contains("URLRewrite")
        );
    }

    #[test]
    fn a_missing_backend_is_said_in_the_status() {
        let route = route(&json!({
            "parentRefs": [{"group": "core", "kind": "Service", "name": "split"}],
            "rules": [{"backendRefs": [{"name": "nosuch", "port": 8080}]}],
        }));
        let status = route.status(None, "now", |service| service.1 == "split");
        assert_eq!(status[0]["conditions"][0]["status"], "True");
        assert_eq!(status[0]["conditions"][1]["reason"], "BackendNotFound");
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        let prefix = Match {
            path: Some(PathMatch::Prefix("/api".into())),
            ..Match::default()
        };
        for (path, expected) in [("/api", true), ("/api/x", true), ("/apix", false), ("/", false)] {
            assert_eq!(
                prefix.matches(&Method::GET, path, &HeaderMap::new()),
                expected,
                "{path}"
            );
        }
        let root = Match {
            path: Some(PathMatch::Prefix("/".into())),
            ..Match::default()
        };
        assert!(root.matches(&Method::GET, "/anything", &HeaderMap::new()));
    }

    #[test]
    fn headers_are_set_added_and_removed() {
        let route = route(
            &json!({"rules": [{"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {
            "set": [{"name": "x-mark", "value": "m1"}], "add": [{"name": "x-add", "value": "b"}], "remove": ["x-gone"]}}]}]}),
        );
        let mut headers = HeaderMap::new();
        headers.insert("x-mark", "old".parse().unwrap());
        headers.insert("x-add", "a".parse().unwrap());
        headers.insert("x-gone", "g".parse().unwrap());
        route.rules[0].filters.request.apply(&mut headers);
        assert_eq!(headers["x-mark"], "m1");
        assert_eq!(headers.get_all("x-add").iter().count(), 2);
        assert!(!headers.contains_key("x-gone"));
    }
}
