//! Reprise, a semantic caching reverse proxy for model servers: the map of the house.
//!
//! Data flows down this list. Rooms below [`exchange`] do not import one another except through the
//! neutral words of [`wire`] and [`fault`]; [`cache`] does not know hyper, [`wire`] does not know
//! Qdrant; [`app`] alone knows everybody.

pub mod config;
pub mod embed;
pub mod fault;
pub mod front;
pub mod store;
