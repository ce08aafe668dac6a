mod peer;
mod trust;

use super::*;

fn unset() -> Tls {
    Tls {
        cert: None,
        key: None,
        certificates: Vec::new(),
        client_ca: None,
        client_crl: None,
        self_signed: false,
        min_version: TlsVersion::V12,
        alpn: vec![Alpn::H2, Alpn::Http11],
    }
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    /// `cert.pem` and `key.pem` that belong together, and a stranger's `other.pem` key.
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        let made = rcgen::generate_simple_self_signed(["a.example".into()]).unwrap();
        files.write("cert.pem", &made.cert.pem());
        files.write("key.pem", &made.signing_key.serialize_pem());
        files.write("other.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn load(&self, cert: &str, key: &str) -> Result<ServerTls, TlsError> {
        ServerTls::new(&self.settings(cert, key), 100)
    }

    fn settings(&self, cert: &str, key: &str) -> Tls {
        Tls { cert: Some(self.path(cert)), key: Some(self.path(key)), ..unset() }
    }

    /// What is wrong, with the folder's name cut out.
    fn wrong(&self, cert: &str, key: &str) -> String {
        let said = self.load(cert, key).unwrap_err().to_string();
        said.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn a_pair_that_belongs_together_loads() {
    Files::new().load("cert.pem", "key.pem").unwrap();
}

#[test]
fn a_missing_file_is_named_with_its_setting() {
    let files = Files::new();
    let said = files.wrong("none.pem", "key.pem");
    assert_eq!(said, "tls.cert: cannot read none.pem: No such file or directory (os error 2)");
    let said = files.wrong("cert.pem", "none.pem");
    assert_eq!(said, "tls.key: cannot read none.pem: No such file or directory (os error 2)");
}

#[test]
fn files_without_what_they_should_hold_say_so() {
    let files = Files::new();
    files.write("empty.pem", "");
    for cert in ["empty.pem", "key.pem"] {
        let said = files.wrong(cert, "key.pem");
        assert!(said.starts_with(&format!("tls.cert: {cert}: no certificate inside")), "{said}");
    }
    for key in ["empty.pem", "cert.pem"] {
        let said = files.wrong("cert.pem", key);
        assert!(said.starts_with(&format!("tls.key: {key}: no private key inside")), "{said}");
    }
}

#[test]
fn damaged_files_are_errors_that_never_print_a_key() {
    let files = Files::new();
    files.write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(files.wrong("junk.pem", "key.pem").starts_with("tls.cert: junk.pem: "));
    files.write("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    assert!(files.wrong("cut.pem", "key.pem").starts_with("tls.cert: cut.pem: not a PEM file"));
    files
        .write("junkkey.pem", "-----BEGIN PRIVATE KEY-----\nU0VDUkVU\n-----END PRIVATE KEY-----\n");
    let said = files.wrong("cert.pem", "junkkey.pem");
    assert!(said.starts_with("tls.key: junkkey.pem: the private key cannot be used"), "{said}");
    assert!(!said.contains("U0VDUkVU") && !said.contains("SECRET"), "{said}");
}

#[test]
fn a_strangers_key_is_told_from_a_bad_one() {
    let said = Files::new().wrong("cert.pem", "other.pem");
    assert_eq!(said, "tls: the key in other.pem does not belong to the certificate in cert.pem");
}

#[test]
fn nothing_set_is_an_error_and_self_signed_is_not() {
    assert!(matches!(ServerTls::new(&unset(), 100), Err(TlsError::Unset)));
    ServerTls::new(&Tls { self_signed: true, ..unset() }, 100).unwrap();
}

/// A client that trusts exactly the self-signed certificate gets through under each local name.
#[tokio::test]
async fn the_self_signed_certificate_is_good_for_every_local_name() {
    let tls = Tls { self_signed: true, ..unset() };
    let server = ServerTls::new(&tls, 100).unwrap();
    let shown = peer::shown(&server, "localhost").await;
    let client = peer::trusting(&shown, None);
    for name in LOCAL_NAMES {
        peer::talk(&server, &client, name).await.unwrap();
    }
    // A reload is no reason to become somebody else.
    server.publish(server.load(&tls).unwrap());
    assert_eq!(peer::shown(&server, "localhost").await, shown);
}

#[tokio::test]
async fn a_client_sees_the_certificate_of_the_name_it_asks_for() {
    let files = Files::new();
    let made = rcgen::generate_simple_self_signed(["b.example".into(), "*.c.example".into()]);
    let made = made.unwrap();
    files.write("b.pem", &made.cert.pem());
    files.write("bkey.pem", &made.signing_key.serialize_pem());
    let pair = crate::config::Pair { cert: files.path("b.pem"), key: files.path("bkey.pem") };
    let tls = Tls { certificates: vec![pair], ..files.settings("cert.pem", "key.pem") };
    let server = ServerTls::new(&tls, 100).unwrap();
    let b = made.cert.der().clone();
    for (name, is_b) in [
        ("b.example", true),
        ("x.c.example", true),
        ("a.example", false),
        ("c.example", false),
        ("elsewhere.example", false),
    ] {
        assert_eq!(peer::shown(&server, name).await == b, is_b, "{name}");
    }
}

#[tokio::test]
async fn new_files_are_taken_over_and_bad_ones_are_not() {
    let files = Files::new();
    let server = files.load("cert.pem", "key.pem").unwrap();
    let first = peer::shown(&server, "a.example").await;
    let mut refused = None;
    server.look(&mut refused);
    assert_eq!((server.reloads().done(), server.reloads().failed()), (0, 0));

    let made = rcgen::generate_simple_self_signed(["a.example".into()]).unwrap();
    files.write("cert.pem", &made.cert.pem());
    server.look(&mut refused);
    server.look(&mut refused);
    assert_eq!((server.reloads().done(), server.reloads().failed()), (0, 1), "only half is there");
    assert_eq!(peer::shown(&server, "a.example").await, first);

    files.write("key.pem", &made.signing_key.serialize_pem());
    server.look(&mut refused);
    assert_eq!((server.reloads().done(), server.reloads().failed()), (1, 1));
    let second = peer::shown(&server, "a.example").await;
    assert_eq!(second, *made.cert.der());

    files.write("key.pem", "garbage");
    server.look(&mut refused);
    assert_eq!((server.reloads().done(), server.reloads().failed()), (1, 2));
    assert_eq!(peer::shown(&server, "a.example").await, second);
}

#[tokio::test]
async fn versions_and_protocols_are_as_configured() {
    let files = Files::new();
    let tls = Tls {
        min_version: TlsVersion::V13,
        alpn: vec![Alpn::Http11],
        ..files.settings("cert.pem", "key.pem")
    };
    let server = ServerTls::new(&tls, 100).unwrap();
    let shown = peer::shown(&server, "a.example").await;
    let mut client = peer::config(&shown, None, &[&rustls::version::TLS12]);
    assert!(peer::talk(&server, &Arc::new(client), "a.example").await.is_err());
    client = peer::config(&shown, None, rustls::ALL_VERSIONS);
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let seen = peer::talk(&server, &Arc::new(client), "a.example").await.unwrap();
    assert_eq!(seen.info, TlsInfo { version: TlsVersion::V13, alpn: Some(Alpn::Http11) });
}
