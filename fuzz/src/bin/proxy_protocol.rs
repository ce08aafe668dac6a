//! A PROXY header never panics, and nothing behind it is taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reprise_fuzz::front::proxy_protocol;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let behind = b"GET / HTTP/1.1\r\n";
    let mut alone = bytes;
    if runtime.block_on(proxy_protocol::read(&mut alone)).is_ok() {
        let taken = bytes.len() - alone.len();
        let followed = [&bytes[..taken], behind].concat();
        let mut rest = followed.as_slice();
        assert!(runtime.block_on(proxy_protocol::read(&mut rest)).is_ok());
        assert_eq!(rest, behind);
    }
});
