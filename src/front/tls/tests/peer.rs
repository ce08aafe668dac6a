//! Clients of a TLS server under test, over a pipe.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::super::{ServerTls, TlsInfo};

/// Who a client is.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What a handshake came to.
pub(super) struct Seen {
    pub(super) info: TlsInfo,
    pub(super) resumed: bool,
}

pub(super) fn config(
    root: &CertificateDer<'static>,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    }
}

/// A client that trusts exactly `root`. It remembers sessions.
pub(super) fn trusting(
    root: &CertificateDer<'static>,
    identity: Option<&Identity>,
) -> Arc<ClientConfig> {
    Arc::new(config(root, identity, rustls::ALL_VERSIONS))
}

/// A handshake and a byte each way: TLS 1.3 refuses a client only after its side is done, and sends
/// tickets with the first data.
pub(super) async fn talk(
    server: &ServerTls,
    client: &Arc<ClientConfig>,
    name: &str,
) -> io::Result<Seen> {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let serving = async {
        let (mut stream, info) = server.accept(ours).await?;
        stream.read_u8().await?;
        stream.write_u8(2).await?;
        stream.flush().await?;
        io::Result::Ok(info)
    };
    let asking = async {
        let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, theirs).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        let session = stream.get_ref().1;
        io::Result::Ok(session.handshake_kind() == Some(HandshakeKind::Resumed))
    };
    let (info, resumed) = tokio::join!(serving, asking);
    Ok(Seen { resumed: resumed?, info: info? })
}

/// The certificate that the server shows to whoever asks for `name`.
pub(super) async fn shown(server: &ServerTls, name: &str) -> CertificateDer<'static> {
    let seen = Arc::new(parking_lot::Mutex::new(None));
    let mut client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Witness(Arc::clone(&seen))))
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    let _ = talk(server, &Arc::new(client), name).await;
    seen.lock().take().unwrap()
}

/// Believes everything and remembers what it saw.
#[derive(Debug)]
struct Witness(Arc<parking_lot::Mutex<Option<CertificateDer<'static>>>>);

impl rustls::client::danger::ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock() = Some(shown.clone().into_owned());
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
