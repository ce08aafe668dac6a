//! The table of hygiene, a test a row, and what holds for any request.

mod headers;
mod properties;
mod target;

use http::Request;

use super::*;
use crate::front::Origin;

fn peer() -> Peer {
    Peer { origin: Origin::Tcp(([192, 0, 2, 7], 4711).into()), tls: None }
}

/// A head as hyper gives it to us; `Host: a` unless a `host` is among the headers.
fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "a");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn passed(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut parts = head(method, target, headers);
    request(&mut parts, &peer(), &Trusted::default()).unwrap();
    parts
}

fn refused(mut parts: Parts) -> Fault {
    request(&mut parts, &peer(), &Trusted::default()).unwrap_err()
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}
