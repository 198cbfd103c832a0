//! From method, path and query to what is asked: pure, no state.

use crate::Gvr;
use http::Method;

/// The parameters of a query string, decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    /// The value of a parameter; empty ones count as missing.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
            .filter(|v| !v.is_empty())
    }

    /// Whether a parameter says yes. A missing one does not.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_if_given(name).unwrap_or(false)
    }

    /// What a parameter says, if it is there. As `runtime.Convert_Slice_string_To_bool` of apimachinery reads it: everything
    /// but `false`, in any case, and `0` means yes, also an empty value; the first of several counts.
    pub(crate) fn flag_if_given(&self, name: &str) -> Option<bool> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        Some(!(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Percent-decoding. Malformed escapes stay as they are.
fn decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
        match bytes[i] {
            b'%' => {
                if let (Some(high), Some(low)) = (hex(i + 1), hex(i + 2)) {
                    out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                    i += 2;
                } else {
                    out.push(b'%');
                }
            }
            b'+' if plus_is_space => out.push(b' '),
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A path that is no resource: discovery, health, version.
    Path(Vec<String>),
    /// A resource, an object or a part of one.
    Resource(ResourceTarget),
}

/// A resource in a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResourceTarget {
    pub(crate) gvr: Gvr,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// Segments behind the subresource.
    pub(crate) rest: Vec<String>,
}

/// Reads a path.
pub(crate) fn target(path: &str) -> Target {
    let segments: Vec<String> = path
        .split('/')
        .filter(|s| !s.is_empty())
        .map(|s| decode(s, false))
        .collect();
    let (group, version, rest) = match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["api", version, _, ..] => ("".to_owned(), (*version).to_owned(), segments[2..].to_vec()),
        ["apis", group, version, _, ..] => ((*group).to_owned(), (*version).to_owned(), segments[3..].to_vec()),
        _ => return Target::Path(segments),
    };
    let mut rest = rest.into_iter();
    let mut namespace = None;
    let mut resource = rest.next().unwrap_or_default();
    let mut name = rest.next();
    let mut third = rest.next();
    let namespace_parts = matches!(third.as_deref(), Some("status" | "finalize"));
    if resource == "namespaces" && group.is_empty() && third.is_some() && !namespace_parts
        || resource == "namespaces" && !group.is_empty()
    {
        namespace = name;
        resource = third.unwrap_or_default();
        name = rest.next();
        third = rest.next();
    }
    Target::Resource(ResourceTarget {
        gvr: Gvr::new(group, version, resource),
        namespace,
        name,
        subresource: third,
        rest: rest.collect(),
    })
}

impl ResourceTarget {
    /// The Kubernetes verb.
    pub(crate) fn verb(&self, method: &Method, query: &Query) -> &'static str {
        let named = self.name.is_some();
        match *method {
            Method::GET | Method::HEAD if query.flag("watch") && self.subresource.is_none() => "watch",
            Method::GET | Method::HEAD if named => "get",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if named => "delete",
            Method::DELETE => "deletecollection",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn resource(path: &str) -> (String, Option<String>, Option<String>, Option<String>) {
        match target(path) {
            Target::Resource(t) => (t.gvr.to_string(), t.namespace, t.name, t.subresource),
            Target::Path(p) => panic!("{p:?}"),
        }
    }

    #[rstest]
    #[case("/api/v1/pods", "pods.v1", None, None, None)]
    #[case("/api/v1/namespaces", "namespaces.v1", None, None, None)]
    #[case("/api/v1/namespaces/a", "namespaces.v1", None, Some("a"), None)]
    #[case("/api/v1/namespaces/a/finalize", "namespaces.v1", None, Some("a"), Some("finalize"))]
    #[case("/api/v1/namespaces/a/pods", "pods.v1", Some("a"), None, None)]
    #[case("/api/v1/namespaces/a/pods/b/log", "pods.v1", Some("a"), Some("b"), Some("log"))]
    #[case(
        "/apis/apps/v1/namespaces/a/deployments/b",
        "deployments.apps/v1",
        Some("a"),
        Some("b"),
        None
    )]
    #[case("/apis/g.io/v1/things/x/status", "things.g.io/v1", None, Some("x"), Some("status"))]
    #[case(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Aadmin",
        "clusterroles.rbac.authorization.k8s.io/v1",
        None,
        Some("system:admin"),
        None
    )]
    fn resources(
        #[case] path: &str,
        #[case] gvr: &str,
        #[case] namespace: Option<&str>,
        #[case] name: Option<&str>,
        #[case] subresource: Option<&str>,
    ) {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        assert_eq!(
            resource(path),
            (gvr.to_owned(), owned(namespace), owned(name), owned(subresource))
        );
    }

    #[rstest]
    #[case("/")]
    #[case("/api/v1")]
    #[case("/apis/apps/v1")]
    #[case("/version")]
    fn paths(#[case] path: &str) {
        assert!(matches!(target(path), Target::Path(_)));
    }

    #[test]
    fn queries() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+in+%28d%29&watch=1&limit=&x=%zz");
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert!(query.flag("watch"));
        assert_eq!(query.get("limit"), None);
        assert_eq!(query.get("x"), Some("%zz"));
    }

    #[rstest]
    #[case("watch=True", true)]
    #[case("watch=true", true)]
    #[case("watch=1", true)]
    #[case("watch=", true)]
    #[case("watch", true)]
    #[case("watch=yes", true)]
    #[case("watch=False", false)]
    #[case("watch=FALSE", false)]
    #[case("watch=0", false)]
    #[case("watch=false&watch=true", false)]
    #[case("limit=1", false)]
    fn booleans_are_read_as_apimachinery_reads_them(#[case] query: &str, #[case] expected: bool) {
        assert_eq!(Query::parse(query).flag("watch"), expected);
    }

    proptest! {
        #[test]
        fn never_panics(path in ".{0,80}", query in ".{0,80}") {
            let _ = target(&path);
            let _ = Query::parse(&query);
        }
    }
}
