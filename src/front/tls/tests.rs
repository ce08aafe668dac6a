use super::*;

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
        let tls = Tls {
            cert: Some(self.path(cert)),
            key: Some(self.path(key)),
            self_signed: false,
            min_version: TlsVersion::V12,
        };
        ServerTls::new(&tls, 100)
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
    let unset = Tls { cert: None, key: None, self_signed: false, min_version: TlsVersion::V12 };
    assert!(matches!(ServerTls::new(&unset, 100), Err(TlsError::Unset)));
    ServerTls::new(&Tls { self_signed: true, ..unset }, 100).unwrap();
}

/// A client that trusts exactly the self-signed certificate gets through under each local name.
#[tokio::test]
async fn the_self_signed_certificate_is_good_for_every_local_name() {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certified = self_signed(&provider).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert[0].clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = tokio_rustls::TlsConnector::from(Arc::new(client));
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates::new(certified)));
    let server = ServerTls { config: Arc::new(server) };
    for name in LOCAL_NAMES {
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        let (served, connected) = tokio::join!(server.accept(ours), client.connect(name, theirs));
        served.unwrap();
        connected.unwrap();
    }
}
