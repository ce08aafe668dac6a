//! The files under test, by the names that they have in the house.

/// What reads answers and requests.
pub mod wire {
    #[path = "../../../src/wire/json.rs"]
    pub mod json;
    #[path = "../../../src/wire/refusal.rs"]
    pub mod refusal;
    #[path = "../../../src/wire/sse.rs"]
    pub mod sse;
}

/// What reads connections.
pub mod front {
    #[path = "../../../src/front/proxy_protocol.rs"]
    pub mod proxy_protocol;
}
