//! The whole proxy in one process, between scripted clients and scripted model servers; one module
//! a behaviour.
//!
//! Nothing here sleeps to be right: origins wait at gates that a test opens, and what happens in the
//! background is polled for with a deadline.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod client;
mod origin;
mod proxy;
mod talk;
mod words;

mod admission;
mod attack;
mod chaos;
mod coalescing;
mod control;
mod covered;
mod explain;
mod failing;
mod failover;
mod guards;
mod headers;
mod judging;
mod labels;
mod large;
mod leaving;
mod lookup;
mod overload;
mod passing;
mod quotas;
mod records;
mod restart;
mod scenarios;
mod scope;
mod shared;
mod slowness;
mod smuggling;
mod speculating;
mod stale;
mod trust;
mod upgrade;
mod vectors;
mod verdict;
mod warming;
