//! Reprise, a semantic caching reverse proxy for model servers: the map of the house.
//!
//! A request walks down this list and its answer walks back up:
//!
//! 1. [`front`] accepts: TCP, unix socket, TLS, HTTP/1.1 and HTTP/2; hygiene; who asks
//!    ([`front::tenant::Scope`]); how many at once ([`front::admission::Admitted`]).
//! 2. [`exchange`] tells the whole story of a request, a line a room.
//! 3. [`wire`] reads an API's requests and answers into neutral words; one file a dialect.
//! 4. [`cache`] decides: policy, key, memory, store, verdict, under one deadline. Identical requests
//!    share one [`cache::flight`].
//! 5. [`embed`] turns a question into a vector.
//! 6. [`store`] keeps answers and finds near questions.
//! 7. [`upstream`] owns the connections to model servers.
//! 8. [`relay`] is the body that a client reads.
//! 9. [`observe`] counts, times and logs.
//! 10. [`admin`] is the second listener.
//!
//! Around them: [`config`] (raw TOML becomes a checked value), [`fault`] (whose failure, what status),
//! [`pem`] (keys and certificates from files), [`frames`] (hashes of lists), [`line`] (short texts),
//! [`app`] (the only room that knows all others) and [`cli`].
//!
//! Rooms below [`exchange`] do not import one another except through the neutral words of [`wire`],
//! [`fault`], [`frames`], [`line`], and the proof of scope that a cache key demands; [`cache`] does not
//! know hyper, [`wire`] does not know Qdrant.

pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod embed;
pub mod eval;
pub mod exchange;
pub mod fault;
pub mod frames;
pub mod front;
pub mod line;
pub mod observe;
pub mod pem;
pub mod relay;
pub mod store;
pub mod upstream;
pub mod wire;
