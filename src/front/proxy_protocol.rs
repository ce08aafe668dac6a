//! The PROXY protocol: a proxy that passes bytes on says, in front of them, whose they are.
//!
//! Source: haproxy.org, "The PROXY protocol", versions 1 (a line of text) and 2 (binary). It is read
//! byte for byte to its end, because what follows it belongs to TLS or HTTP.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Both versions are at least so long, and differ in it.
const FIRST: usize = 12;

/// The longest line of version 1, by its definition.
const LINE_MAX: usize = 107;

/// Where version 2's length stands, and how long its fixed part is.
const FIXED: usize = 16;

/// The longest rest of version 2 that we take: addresses of unix sockets and a page of TLVs.
const REST_MAX: usize = 4096;

/// Reads the header. `None`: the connection is the proxy's own (a health check), or it does not
/// know whose it is.
///
/// # Errors
/// Anything else than a header, and the socket's own errors.
pub async fn read<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; FIRST];
    io.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(FIXED, 0);
        io.read_exact(header.get_mut(FIRST..).unwrap_or_default()).await?;
        let rest = header.get(FIXED - 2..).and_then(|two| two.try_into().ok());
        let rest = usize::from(u16::from_be_bytes(rest.unwrap_or_default()));
        if rest > REST_MAX {
            return Err(wrong());
        }
        header.resize(FIXED + rest, 0);
        io.read_exact(header.get_mut(FIXED..).unwrap_or_default()).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() >= LINE_MAX {
                return Err(wrong());
            }
            header.push(io.read_u8().await?);
        }
    }
    client(&header).ok_or_else(wrong)
}

/// Whom a whole header names; the outer `None`: it is not one.
fn client(header: &[u8]) -> Option<Option<SocketAddr>> {
    let address = |ip: IpAddr, port: u16| SocketAddr::new(ip.to_canonical(), port);
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(told)) if told.header.len() == header.len() => {
            Some(match told.addresses {
                v1::Addresses::Unknown => None,
                v1::Addresses::Tcp4(ip) => Some(address(ip.source_address.into(), ip.source_port)),
                v1::Addresses::Tcp6(ip) => Some(address(ip.source_address.into(), ip.source_port)),
            })
        }
        HeaderResult::V2(Ok(told)) if told.command == v2::Command::Local => Some(None),
        HeaderResult::V2(Ok(told)) => Some(match told.addresses {
            v2::Addresses::IPv4(ip) => Some(address(ip.source_address.into(), ip.source_port)),
            v2::Addresses::IPv6(ip) => Some(address(ip.source_address.into(), ip.source_port)),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }),
        HeaderResult::V1(_) | HeaderResult::V2(Err(_)) => None,
    }
}

fn wrong() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the connection does not begin with a PROXY header")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and what is left for the next protocol.
    async fn told(mut bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, &[u8]) {
        let told = read(&mut bytes).await;
        (told, bytes)
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_nothing_behind_them_is_touched() {
        let mut second = v2::PROTOCOL_PREFIX.to_vec();
        second.extend([0x21, 0x11, 0, 15, 203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 0, 80, 4, 0, 0]);
        let mut sixth = v2::PROTOCOL_PREFIX.to_vec();
        sixth.extend([0x21, 0x21, 0, 36]);
        sixth.extend("2001:db8::9".parse::<std::net::Ipv6Addr>().unwrap().octets());
        sixth.extend([0; 16]);
        sixth.extend([0x30, 0x39, 0, 80]);
        let mut local = v2::PROTOCOL_PREFIX.to_vec();
        local.extend([0x20, 0, 0, 0]);
        for (header, expected) in [
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 12345 80\r\n".to_vec(), Some("203.0.113.9:12345")),
            (b"PROXY TCP6 2001:db8::9 ::1 12345 80\r\n".to_vec(), Some("[2001:db8::9]:12345")),
            (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 12345 80\r\n".to_vec(), Some("203.0.113.9:12345")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (second, Some("203.0.113.9:12345")),
            (sixth, Some("[2001:db8::9]:12345")),
            (local, None),
        ] {
            let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let (who, rest) = told(&bytes).await;
            assert_eq!(who.unwrap(), expected.map(|text| text.parse().unwrap()));
            assert_eq!(rest, b"GET / HTTP/1.1\r\n");
        }
    }

    #[tokio::test]
    async fn anything_else_is_an_error() {
        let mut huge = v2::PROTOCOL_PREFIX.to_vec();
        huge.extend([0x21, 0x11, 0xff, 0xff]);
        huge.extend([0; 70_000]);
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"PROXY",
            b"PROXY TCP4 203.0.113.9\r\n",
            b"PROXY TCP4 203.0.113.999 10.0.0.1 12345 80\r\n",
            b"PROXY TCP4 203.0.113.9 10.0.0.1 123456 80\r\n",
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat(),
            &huge,
        ] {
            assert!(told(bytes).await.0.is_err(), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, second: bool) {
            let bytes = if second { [v2::PROTOCOL_PREFIX, &bytes].concat() } else { bytes };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read(&mut bytes.as_slice()));
        }
    }
}
