//! Which proxy leads to a URL, by the rules of Go's `golang.org/x/net/http/httpproxy`, which Kubernetes' own clients follow.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

use crate::Unusable;

/// The host's proxies, and what is reached without them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    https: Option<String>,
    http: Option<String>,
    /// Whether `NO_PROXY` is `*`.
    never: bool,
    except: Vec<Exception>,
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    what: Matcher,
    port: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Matcher {
    Net(IpNet),
    Address(IpAddr),
    Domain {
        /// With a dot before it.
        suffix: String,
        /// Whether the domain itself is meant, too, and not only what is below it.
        itself: bool,
    },
}

impl Proxies {
    /// None, whatever the host says: for clusters on this machine.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of the process's environment: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, or the same in lower case.
    #[must_use]
    pub fn of_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| {
            let names = [name.to_owned(), name.to_lowercase()];
            names
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        let entries = given("NO_PROXY").unwrap_or_default().to_lowercase();
        let entries: Vec<&str> = entries
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .collect();
        Self {
            https: given("HTTPS_PROXY"),
            http: given("HTTP_PROXY"),
            never: entries.contains(&"*"),
            except: entries.into_iter().filter_map(Exception::of).collect(),
        }
    }

    /// The proxy for URLs of https that nothing excepts, without its credentials; what is wrong with it, if it can't be used.
    #[must_use]
    pub fn told(&self) -> Option<Result<String, Unusable>> {
        let proxy = self.https.as_deref()?;
        Some(of_variable(proxy).map(|proxy| without_credentials(&proxy)))
    }

    /// The proxy that leads to a URL; `None` when it is reached directly.
    ///
    /// # Errors
    /// When the variable that names it can't be read.
    pub fn of(&self, url: &Uri) -> Result<Option<Uri>, Unusable> {
        let (proxy, usual_port) = match url.scheme_str() {
            Some("https") => (&self.https, "443"),
            _ => (&self.http, "80"),
        };
        let Some(proxy) = proxy else { return Ok(None) };
        let port = url
            .port()
            .map_or_else(|| usual_port.to_owned(), |port| port.to_string());
        if self.excepts(url.host().unwrap_or_default(), &port) {
            return Ok(None);
        }
        of_variable(proxy).map(Some)
    }

    fn excepts(&self, host: &str, port: &str) -> bool {
        let host = host.to_lowercase();
        let address: Option<IpAddr> = without_brackets(&host).parse().ok();
        if self.never || host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.except
            .iter()
            .any(|exception| exception.matches(&host, address, port))
    }
}

impl Exception {
    fn of(entry: &str) -> Option<Self> {
        if let Ok(net) = entry.parse() {
            return Some(Self {
                what: Matcher::Net(net),
                port: None,
            });
        }
        let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if is_port(port) && (!host.contains(':') || host.ends_with(']')) => (host, Some(port)),
            _ => (entry, None),
        };
        let what = match without_brackets(host).parse() {
            Ok(address) => Matcher::Address(address),
            Err(_) => {
                let domain = host
                    .strip_prefix('*')
                    .filter(|rest| rest.starts_with('.'))
                    .unwrap_or(host);
                let itself = !domain.starts_with('.');
                let suffix = if itself {
                    format!(".{domain}")
                } else {
                    domain.to_owned()
                };
                if suffix.len() < 2 {
                    return None;
                }
                Matcher::Domain { suffix, itself }
            }
        };
        Some(Self {
            what,
            port: port.map(ToOwned::to_owned),
        })
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let there = match (&self.what, address) {
            (Matcher::Net(net), Some(address)) => net.contains(&address),
            (Matcher::Address(own), Some(address)) => *own == address,
            (Matcher::Domain { suffix, itself }, None) => {
                host.ends_with(suffix) || (*itself && Some(host) == suffix.strip_prefix('.'))
            }
            _ => false,
        };
        there && self.port.as_deref().is_none_or(|own| own == port)
    }
}

/// The proxy that a kubeconfig names for its cluster.
///
/// # Errors
/// When it is no URL of a kind that is understood.
pub(crate) fn explicit(proxy: &str) -> Result<Uri, Unusable> {
    understood(proxy).ok_or_else(|| {
        Unusable::new("its cluster's proxy-url can't be used; write e.g. `http://proxy.example:3128`, `https://…` or `socks5://…`")
    })
}

fn of_variable(proxy: &str) -> Result<Uri, Unusable> {
    // `proxy.example:3128` is as good.
    let found = if proxy.contains("://") {
        understood(proxy)
    } else {
        understood(&format!("http://{proxy}"))
    };
    found.ok_or_else(|| {
        Unusable::new("the proxy that HTTPS_PROXY or HTTP_PROXY names can't be used; write e.g. `http://proxy.example:3128`, and what needs no proxy into NO_PROXY")
    })
}

fn understood(proxy: &str) -> Option<Uri> {
    let uri: Uri = proxy.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https" | "socks5"));
    (known && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

/// A proxy's URL for people: credentials may stand in it.
#[must_use]
pub fn without_credentials(proxy: &Uri) -> String {
    let host = proxy.host().unwrap_or_default();
    let port = proxy.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", proxy.scheme_str().unwrap_or("http"))
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::Proxies;

    fn proxies(no_proxy: &str) -> Proxies {
        Proxies::from_variables(|name| match name {
            "HTTPS_PROXY" => Some("http://ann:secret@proxy.example:3128".to_owned()),
            "no_proxy" => Some(no_proxy.to_owned()),
            _ => None,
        })
    }

    #[rstest]
    #[case("", "https://api.example:6443", true)]
    #[case("", "https://localhost:6443", false)]
    #[case("", "https://127.0.0.1:6443", false)]
    #[case("", "https://127.8.9.1:6443", false)]
    #[case("", "https://[::1]:6443", false)]
    #[case("", "http://api.example:8080", false)]
    #[case("*", "https://api.example:6443", false)]
    #[case("a.test,*", "https://api.example:6443", false)]
    #[case("example", "https://api.example:6443", false)]
    #[case("api.example", "https://api.example:6443", false)]
    #[case("API.Example , other", "https://api.EXAMPLE:6443", false)]
    #[case(".example", "https://api.example", false)]
    #[case("*.example", "https://api.example", false)]
    #[case(".api.example", "https://api.example", true)]
    #[case("*.api.example", "https://api.example", true)]
    #[case("pi.example", "https://api.example", true)]
    #[case("api.example:6443", "https://api.example:6443", false)]
    #[case("api.example:443", "https://api.example:6443", true)]
    #[case("api.example:443", "https://api.example", false)]
    #[case("10.0.0.0/8", "https://10.1.2.3:6443", false)]
    #[case("10.0.0.0/8", "https://11.1.2.3:6443", true)]
    #[case("10.1.2.3", "https://10.1.2.3:6443", false)]
    #[case("10.1.2.3:443", "https://10.1.2.3:6443", true)]
    #[case("2001:db8::/32", "https://[2001:db8::1]:6443", false)]
    #[case("[2001:db8::1]:6443", "https://[2001:db8::1]:6443", false)]
    #[case("2001:db8::1", "https://[2001:db8::1]:6443", false)]
    #[case(",, ,169.254/16,:,.,:80", "https://api.example", true)]
    fn a_proxy_leads_where_nothing_excepts(#[case] no_proxy: &str, #[case] url: &str, #[case] proxied: bool) {
        let found = proxies(no_proxy).of(&url.parse().unwrap()).unwrap();
        assert_eq!(found.is_some(), proxied, "{found:?}");
    }

    #[test]
    fn credentials_of_a_proxy_are_not_told_and_a_scheme_may_be_missing() {
        let told = proxies("").told().unwrap().unwrap();
        assert_eq!(told, "http://proxy.example:3128");
        let of =
            |text: &'static str| Proxies::from_variables(move |name| (name == "https_proxy").then(|| text.to_owned()));
        assert_eq!(of("proxy.example:3128").told().unwrap().unwrap(), told);
        assert_eq!(
            of("socks5://proxy:1080").told().unwrap().unwrap(),
            "socks5://proxy:1080"
        );
        for wrong in ["http://ann:secret @proxy", "", "http://", "ftp://ann:secret@proxy:21"] {
            let told = of(wrong).told();
            match told {
                None => assert!(wrong.is_empty()),
                Some(told) => assert!(!told.unwrap_err().to_string().contains("secret"), "{wrong}"),
            }
        }
        assert_eq!(Proxies::none().told(), None);
    }
}
