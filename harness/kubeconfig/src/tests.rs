//! Kubeconfigs that can and can't be used.

use kube::config::Kubeconfig;
use rstest::rstest;

use super::{Proxies, client, config, read};

fn kubeconfig(cluster: &str, user: &str) -> Kubeconfig {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: west\n\
         clusters:\n- name: west\n  cluster: {cluster}\n\
         users:\n- name: ann\n  user: {user}\n\
         contexts:\n- name: west\n  context: {{cluster: west, user: ann, namespace: shop}}\n"
    );
    Kubeconfig::from_yaml(&text).unwrap()
}

#[rstest]
#[case(
    r#"{server: "https://a.example:6443"}"#,
    r#"{token: "abc\n"}"#,
    "user's token has a line break"
)]
#[case(r#"{server: "https://a.example:6443"}"#, r#"{token: "a\u0000b"}"#, "user's token")]
#[case(
    r#"{server: "https://a.example:6443"}"#,
    r#"{auth-provider: {name: oidc, config: {id-token: "a\nb"}}}"#,
    "user's id-token"
)]
#[case(r#"{server: "a b"}"#, "{}", "is no URL")]
#[case(r#"{server: "ftp://a.example"}"#, "{}", "no URL of https or http")]
#[case(r#"{server: "a.example:6443"}"#, "{}", "no URL of https or http")]
#[case("{}", "{}", "no server")]
#[case(
    r#"{server: "https://a.example", certificate-authority-data: "!"}"#,
    "{}",
    "certificate authority"
)]
#[case(
    r#"{server: "https://a.example", certificate-authority-data: "bm9uZQ=="}"#,
    "{}",
    "no certificate in it"
)]
#[case(
    r#"{server: "https://a.example", certificate-authority: /nonexistent/ca.pem}"#,
    "{}",
    "certificate authority"
)]
#[case(
    r#"{server: "https://a.example", proxy-url: "ftp://ann:secret@proxy"}"#,
    "{}",
    "proxy-url"
)]
fn what_can_not_be_used_is_told_and_never_a_panic(#[case] cluster: &str, #[case] user: &str, #[case] told: &str) {
    let refused = config(&kubeconfig(cluster, user), None, &Proxies::none())
        .unwrap_err()
        .to_string();
    assert!(refused.contains(told) && !refused.contains("secret"), "{refused}");
}

#[test]
fn a_context_decides_cluster_user_and_proxy() {
    let plain = kubeconfig(
        r#"{server: "https://a.example:6443", tls-server-name: b}"#,
        "{token: abc}",
    );
    let found = config(&plain, Some("west"), &Proxies::none()).unwrap();
    assert_eq!(found.cluster_url.to_string(), "https://a.example:6443/");
    assert_eq!(
        (found.default_namespace.as_str(), found.tls_server_name.as_deref()),
        ("shop", Some("b"))
    );
    assert!(found.auth_info.token.is_some() && found.proxy_url.is_none());
    assert!(
        config(&plain, Some("east"), &Proxies::none())
            .unwrap_err()
            .to_string()
            .contains("`east`")
    );
    // What the kubeconfig says of its own cluster counts wherever that is.
    let behind = kubeconfig(
        r#"{server: "https://127.0.0.1:6443", proxy-url: "socks5://bastion:1080"}"#,
        "{}",
    );
    let found = config(&behind, None, &Proxies::none()).unwrap();
    assert_eq!(found.proxy_url.unwrap().host(), Some("bastion"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_plugin_that_prints_what_is_no_token_is_an_error() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let credential =
        r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"a\nb"}}"#;
    let user = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: echo, interactiveMode: Never, args: ['{credential}']}}}}"
    );
    let config = config(
        &kubeconfig(r#"{server: "https://a.example:6443"}"#, &user),
        None,
        &Proxies::none(),
    )
    .unwrap();
    let error = client(config).await.err().unwrap();
    assert!(error.to_string().contains("credential plugin"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_behind_a_proxy_is_asked_through_it() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let proxy = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://ann:pass@{}", proxy.local_addr().unwrap());
    let cluster = format!(r#"{{server: "https://a.example:6443", proxy-url: "{url}"}}"#);
    let client = client(config(&kubeconfig(&cluster, "{}"), None, &Proxies::none()).unwrap())
        .await
        .unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut said = vec![0; 1024];
        let length = stream.read(&mut said).await.unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&said[..length]).into_owned()
    });
    assert!(client.apiserver_version().await.is_err());
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("CONNECT a.example:6443 HTTP/1.1"), "{asked}");
    assert!(asked.to_lowercase().contains("proxy-authorization: basic"), "{asked}");
}

#[test]
fn devices_and_files_without_end_are_not_read() {
    for path in ["/dev/zero", "/"] {
        assert!(read(Some(std::path::Path::new(path))).is_err(), "{path}");
    }
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("config");
    std::fs::File::create(&large)
        .unwrap()
        .set_len(super::LARGEST + 1)
        .unwrap();
    assert!(read(Some(&large)).unwrap_err().to_string().contains("larger than"));
    assert!(read(Some(&folder.path().join("absent"))).is_err());
}
