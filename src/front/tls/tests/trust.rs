//! Clients with certificates: who may connect, who no longer, and what is resumed.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{
    super::{ServerTls, Tls},
    Files,
    peer::{self, Identity},
};

/// An authority that signs clients and revokes them.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn client(&self, serial: u64) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client".into()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (vec![leaf.der().clone()], secret)
    }

    fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

struct Guarded {
    files: Files,
    ca: Authority,
    server: ServerTls,
}

impl Guarded {
    fn new() -> Self {
        let (files, ca) = (Files::new(), Authority::new());
        files.write("ca.pem", &ca.pem);
        files.write("crl.pem", &ca.revoke(&[]));
        let tls = Tls {
            client_ca: Some(files.path("ca.pem")),
            client_crl: Some(files.path("crl.pem")),
            ..files.settings("cert.pem", "key.pem")
        };
        let server = ServerTls::new(&tls, 100).unwrap();
        Self { files, ca, server }
    }

    async fn client(&self, identity: Option<&Identity>) -> Arc<rustls::ClientConfig> {
        let root = peer::shown(&self.server, "a.example").await;
        peer::trusting(&root, identity)
    }

    /// Whether the client gets through, and whether by a resumed session.
    async fn enters(&self, client: &Arc<rustls::ClientConfig>) -> Option<bool> {
        let seen = peer::talk(&self.server, client, "a.example").await.ok()?;
        Some(seen.resumed)
    }
}

#[tokio::test]
async fn only_clients_of_the_authority_may_connect() {
    let guarded = Guarded::new();
    let known = guarded.client(Some(&guarded.ca.client(1))).await;
    let stranger = guarded.client(Some(&Authority::new().client(1))).await;
    let nobody = guarded.client(None).await;
    assert_eq!(guarded.enters(&known).await, Some(false));
    assert_eq!(guarded.enters(&stranger).await, None);
    assert_eq!(guarded.enters(&nobody).await, None);
}

/// A resumed session is not checked again: it must not outlive a change of whom we trust, and need
/// not suffer from one of the server's own certificate.
#[tokio::test]
async fn no_session_is_resumed_past_a_revocation_but_past_a_new_certificate() {
    let guarded = Guarded::new();
    let revoked = guarded.client(Some(&guarded.ca.client(7))).await;
    let other = guarded.client(Some(&guarded.ca.client(8))).await;
    for client in [&revoked, &other] {
        assert_eq!(guarded.enters(client).await, Some(false));
        assert_eq!(guarded.enters(client).await, Some(true), "sessions are resumed at all");
    }
    guarded.files.write("crl.pem", &guarded.ca.revoke(&[7]));
    guarded.server.look(&mut None);
    assert_eq!(guarded.server.reloads().done(), 1);
    assert_eq!(guarded.enters(&revoked).await, None);
    assert_eq!(guarded.enters(&other).await, Some(false));
    assert_eq!(guarded.enters(&other).await, Some(true));
    // The same certificate, written anew: nothing about clients changed.
    let cert = std::fs::read_to_string(guarded.files.path("cert.pem")).unwrap();
    guarded.files.write("cert.pem", &format!("{cert}\n"));
    guarded.server.look(&mut None);
    assert_eq!(guarded.server.reloads().done(), 2);
    assert_eq!(guarded.enters(&other).await, Some(true));
}

#[tokio::test]
async fn another_authority_ends_what_the_old_one_allowed() {
    let guarded = Guarded::new();
    let old = guarded.client(Some(&guarded.ca.client(1))).await;
    assert_eq!(guarded.enters(&old).await, Some(false));
    let next = Authority::new();
    guarded.files.write("ca.pem", &next.pem);
    guarded.files.write("crl.pem", &next.revoke(&[]));
    guarded.server.look(&mut None);
    assert_eq!(guarded.enters(&old).await, None);
    let new = guarded.client(Some(&next.client(1))).await;
    assert_eq!(guarded.enters(&new).await, Some(false));
}
